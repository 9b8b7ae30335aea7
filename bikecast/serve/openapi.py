"""The description of the service (OpenAPI 3.1), made from the types that validate it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from bikecast import __version__
from bikecast.records import MAX_HORIZON
from bikecast.serve import problems, types
from bikecast.serve.problems import Kind
from bikecast.serve.stock import DEFAULT_AT

JSON, PROBLEM, TEXT = "application/json", "application/problem+json", "text/plain"
NOT_MODIFIED: Final = "The forecast is the one that `If-None-Match` names."

_HOURS: Final = {"type": "integer", "minimum": 1, "maximum": MAX_HORIZON, "default": 24}
_EXPLAIN: Final = {"type": "boolean", "default": False}
_AT: Final = {"type": "string", "default": DEFAULT_AT}
_BIKES: Final = {"type": "integer", "minimum": 0, "maximum": 999_999}


@dataclass(frozen=True)
class Operation:
    """One route.

    :param answers: types of which the answer has one; without any it is text.
    :param query: parameter → its schema.
    :param refusals: kinds of problems, beside those that every route has.
    :param kept: it has an `ETag`.
    """

    method: str
    path: str
    summary: str
    answers: tuple[Any, ...] = ()
    body: Any = None
    query: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: tuple[Kind, ...] = ()
    kept: bool = False


_QUESTION: Final = (
    problems.INVALID_JSON,
    problems.INVALID_REQUEST,
    problems.TOO_LARGE,
    problems.NO_TABLE,
)
_MOMENT: Final = (
    problems.INVALID_TIMESTAMP,
    problems.AMBIGUOUS_TIMESTAMP,
    problems.OUTSIDE_TABLE,
    problems.NO_FORECAST,
)
_STATION: Final = (problems.INVALID_REQUEST, problems.UNKNOWN_STATION, problems.NO_TABLE)

OPERATIONS: Final = (
    Operation("get", "/health", "The process is alive", (types.Health,)),
    Operation(
        *("get", "/ready", "Whether forecasts can be answered", (types.Ready,)),
        refusals=(problems.INVALID_REQUEST, problems.NO_TABLE),
    ),
    Operation("get", "/version", "What runs here", (types.Version,)),
    Operation("get", "/metrics", "What the workers counted, for Prometheus"),
    Operation("get", "/openapi.json", "This description", (dict[str, Any],)),
    Operation(
        *("get", "/model", "The model behind the forecast", (types.ModelInfo,)),
        refusals=(problems.INVALID_REQUEST, problems.NO_TABLE),
        kept=True,
    ),
    Operation(
        *("get", "/stations", "The stations that can be asked for", (types.StationList,)),
        refusals=(problems.INVALID_REQUEST, problems.NO_TABLE),
        kept=True,
    ),
    Operation(
        *("get", "/station_forecast.json", "The coming day of all stations", (types.Feed,)),
        refusals=(problems.INVALID_REQUEST, problems.NO_TABLE),
        kept=True,
    ),
    Operation(
        "get",
        "/stations/{station_id}/forecast",
        "The coming hours of a station",
        (types.StationForecast, types.ExplainedForecast),
        query={"hours": _HOURS, "explain": _EXPLAIN},
        refusals=_STATION,
        kept=True,
    ),
    Operation(
        "get",
        "/stations/{station_id}/stock",
        "What a station should hold at an hour",
        (types.StationStock,),
        query={"at": _AT, "hours": _HOURS, "bikes": _BIKES},
        refusals=(
            *_STATION,
            *_MOMENT,
            problems.NO_CAPACITY,
            problems.BIKES_OVER_CAPACITY,
        ),
    ),
    Operation(
        "post",
        "/predict",
        "One hour of one station",
        (types.Prediction, types.WhatIfPrediction, types.ExplainedPrediction),
        body=types.PredictRequest,
        query={"explain": _EXPLAIN},
        refusals=(
            *_QUESTION,
            *_MOMENT,
            problems.UNKNOWN_STATION,
            problems.BIKES_OVER_CAPACITY,
            problems.WHAT_IF_UNAVAILABLE,
            problems.WHAT_IF_NOT_NOW,
        ),
    ),
    Operation(
        "post",
        "/predict/batch",
        "Several hours of several stations",
        (types.BatchAnswer,),
        body=types.BatchRequest,
        refusals=_QUESTION,
    ),
)


@cache
def description() -> dict[str, Any]:
    """The document."""
    kinds = [(t, "validation") for o in OPERATIONS for t in o.answers]
    kinds += [(o.body, "validation") for o in OPERATIONS if o.body]
    kinds.append((types.ProblemDocument, "validation"))
    names = {t: str(i) for i, (t, _) in enumerate(kinds)}
    schemas, defined = TypeAdapter.json_schemas(
        ((names[t], "validation", TypeAdapter(t)) for t, _ in kinds),
        ref_template="#/components/schemas/{model}",
    )
    found = {t: schemas[names[t], "validation"] for t, _ in kinds}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bikecast",
            "summary": "Forecasts of pickups and returns at bike-share stations",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {k: _plain(s) for k, s in defined.get("$defs", {}).items()}},
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose description is a sentence, and no docstring of Python."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n:param")[0]
    return schema


def _described(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _name(operation),
        "responses": _responses(operation, schemas),
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
    ]
    if "{station_id}" in operation.path:
        where = {"name": "station_id", "in": "path", "required": True}
        parameters.insert(0, where | {"schema": {"type": "string", "minLength": 1}})
    if operation.kept:
        schema = {"type": "string"}
        parameters.append({"name": "If-None-Match", "in": "header", "schema": schema})
    if parameters:
        found["parameters"] = parameters
    if operation.body:
        content = {JSON: {"schema": schemas[operation.body]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _name(operation: Operation) -> str:
    words = operation.path.replace("{station_id}", "").replace(".json", "").strip("/")
    return "_".join((operation.method, *words.replace("//", "/").split("/")))


def _responses(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    told = [schemas[t] for t in operation.answers]
    schema = told[0] if len(told) == 1 else {"anyOf": told}
    content = {JSON: {"schema": schema}} if told else {TEXT: {"schema": {"type": "string"}}}
    headers = {"X-Request-Id": {"schema": {"type": "string"}}}
    found: dict[str, Any] = {}
    if operation.kept:
        headers["ETag"] = headers["Cache-Control"] = {"schema": {"type": "string"}}
        found["304"] = {"description": NOT_MODIFIED, "headers": headers}
    found["200"] = {"description": operation.summary, "content": content, "headers": headers}
    refusals = (*operation.refusals, problems.INTERNAL)
    for status, kinds in _by_status(refusals).items():
        content = {PROBLEM: {"schema": schemas[types.ProblemDocument]}}
        titles = "; ".join(f"{kind.title} (`/problems/{kind.slug}`)" for kind in kinds)
        found[str(status)] = {"description": titles, "content": content}
    content = {PROBLEM: {"schema": schemas[types.ProblemDocument]}}
    found["default"] = {"description": "Any other problem, such as of a proxy", "content": content}
    return found


def _by_status(kinds: Iterable[Kind]) -> dict[int, list[Kind]]:
    found: dict[int, list[Kind]] = {}
    for kind in kinds:
        found.setdefault(kind.status, []).append(kind)
    return dict(sorted(found.items()))
