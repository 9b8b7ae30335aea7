"""The description of the service (OpenAPI 3.1), made from the types that validate it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from bikecast import __version__
from bikecast.records import MAX_HORIZON
from bikecast.serve import problems, types
from bikecast.serve.gate import ADMIN, WATCHED, is_open
from bikecast.serve.problems import Kind
from bikecast.serve.stock import DEFAULT_AT

JSON, PROBLEM, TEXT = "application/json", "application/problem+json", "text/plain"
HTML: Final = "text/html"
ASSETS: Final = {
    "docs.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
"""What `/docs` is made of, and its kind."""
KINDS: Final = {kind.slug: kind for kind in vars(problems).values() if isinstance(kind, Kind)}
OTHERS: Final = (
    f"Any other problem: a path that is none (`{problems.NOT_FOUND.type}`), or one of a proxy"
)
NOT_MODIFIED: Final = "The forecast is the one that `If-None-Match` names."

_HOURS: Final = {"type": "integer", "minimum": 1, "maximum": MAX_HORIZON, "default": 24}
_EXPLAIN: Final = {"type": "boolean", "default": False}
_AT: Final = {"type": "string", "default": DEFAULT_AT}
_BIKES: Final = {"type": "integer", "minimum": 0, "maximum": 999_999}


@dataclass(frozen=True)
class Operation:
    """One route.

    :param answers: types of which the answer has one; without any it is text.
    :param text: the kinds of text that it then is.
    :param example: a body.
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
    text: tuple[str, ...] = (TEXT,)
    example: Any = None


_PLACES: Final = {
    "station_id": {"type": "string", "minLength": 1},
    "file": {"type": "string", "enum": sorted(ASSETS)},
    "slug": {"type": "string", "enum": sorted(KINDS)},
}
"""Schemas of what stands in paths."""
_EXAMPLE: Final = {"station_id": "HB102"}
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
    Operation("get", "/docs", "This description for people, to try it out", text=(HTML,)),
    Operation(
        *("get", "/docs/{file}", "What that page is made of"),
        text=tuple(sorted(set(ASSETS.values()))),
        refusals=(problems.NOT_FOUND,),
    ),
    Operation(
        *("get", "/problems/{slug}", "What a kind of problem is", (types.ProblemKind,)),
        refusals=(problems.NOT_FOUND,),
    ),
    Operation(
        *("get", "/model", "The model behind the forecast", (types.ModelInfo,)),
        refusals=(problems.INVALID_REQUEST, problems.NO_TABLE),
        kept=True,
    ),
    Operation(
        *("post", "/model/reload", "Look for a newer forecast and the keys", (types.Reloaded,)),
        refusals=(problems.INVALID_REQUEST, problems.TOKEN_REFUSED, problems.ADMIN_OFF),
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
        example=_EXAMPLE,
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
        example={"predictions": [_EXAMPLE]},
        refusals=_QUESTION,
    ),
)


SCHEMES: Final = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "keyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "adminToken": {"type": "http", "scheme": "bearer", "description": "The admin token, no key."},
}
HEADERS: Final = {401: "WWW-Authenticate", 429: "Retry-After"}
"""That refusals have."""
NEEDS_KEY: Final = (problems.KEY_REQUIRED, problems.KEY_REFUSED, problems.KEYS_UNKNOWN)


@cache
def description(require_key: bool = False) -> dict[str, Any]:
    """The document.

    :param require_key: forecasts are answered to who has a key alone.
    """
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
        paths.setdefault(operation.path, {})[operation.method] = _described(
            operation, found, _security(operation, require_key)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bikecast",
            "summary": "Forecasts of pickups and returns at bike-share stations",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {k: _plain(s) for k, s in defined.get("$defs", {}).items()},
            "securitySchemes": SCHEMES,
            "responses": {"MethodNotAllowed": _not_with_this_method(found)},
        },
    }


def _security(operation: Operation, require_key: bool) -> list[dict[str, list[str]]]:
    """By which of the schemes a request may pass; the empty one is none."""
    if operation.path in ADMIN:
        return [{"adminToken": []}]
    if is_open(operation.path):
        return []
    return [{"key": []}, {"keyHeader": []}, *([] if require_key else [{}])]


def refusals(operation: Operation) -> tuple[Kind, ...]:
    """Its own, and those that the gate has for it."""
    limited = () if operation.path in WATCHED else (problems.TOO_MANY,)
    keyed = () if is_open(operation.path) or operation.path in ADMIN else NEEDS_KEY
    return (*operation.refusals, *keyed, *limited, problems.INTERNAL)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose description is a sentence, and no docstring of Python."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n:param")[0]
    return schema


def _described(
    operation: Operation, schemas: dict[Any, Any], security: list[dict[str, list[str]]]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "security": security,
        "operationId": _name(operation),
        "responses": _responses(operation, schemas),
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
    ]
    for name in re.findall(r"{(\w+)}", operation.path):
        where = {"name": name, "in": "path", "required": True}
        parameters.insert(0, where | {"schema": _PLACES[name]})
    if operation.kept:
        schema = {"type": "string"}
        parameters.append({"name": "If-None-Match", "in": "header", "schema": schema})
    if parameters:
        found["parameters"] = parameters
    if operation.body:
        content = {JSON: {"schema": schemas[operation.body], "example": operation.example}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _name(operation: Operation) -> str:
    words = operation.path.replace("{station_id}/", "").replace(".json", "").strip("/{}")
    return "_".join((operation.method, *re.split("[/{}]+", words)))


def _responses(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    told = [schemas[t] for t in operation.answers]
    schema = told[0] if len(told) == 1 else {"anyOf": told}
    text = {kind: {"schema": {"type": "string"}} for kind in operation.text}
    content = {JSON: {"schema": schema}} if told else text
    headers = {"X-Request-Id": {"schema": {"type": "string"}}}
    found: dict[str, Any] = {}
    if operation.kept:
        headers["ETag"] = headers["Cache-Control"] = {"schema": {"type": "string"}}
        found["304"] = {"description": NOT_MODIFIED, "headers": headers}
    found["200"] = {"description": operation.summary, "content": content, "headers": headers}
    for status, kinds in _by_status(refusals(operation)).items():
        content = {PROBLEM: {"schema": schemas[types.ProblemDocument]}}
        found[str(status)] = {"description": _told(kinds), "content": content}
        if status in HEADERS:
            header = {HEADERS[status]: {"schema": {"type": "string"}}}
            found[str(status)]["headers"] = header
    found["405"] = {"$ref": "#/components/responses/MethodNotAllowed"}
    content = {PROBLEM: {"schema": schemas[types.ProblemDocument]}}
    found["default"] = {"description": OTHERS, "content": content}
    return found


def _told(kinds: Iterable[Kind]) -> str:
    return "; ".join(f"{kind.title} (`{kind.type}`)" for kind in kinds)


def _not_with_this_method(schemas: dict[Any, Any]) -> dict[str, Any]:
    """Of whatever path, which is why it stands with none of them."""
    return {
        "description": _told([problems.METHOD_NOT_ALLOWED]),
        "headers": {"Allow": {"schema": {"type": "string"}}},
        "content": {PROBLEM: {"schema": schemas[types.ProblemDocument]}},
    }


def _by_status(kinds: Iterable[Kind]) -> dict[int, list[Kind]]:
    found: dict[int, list[Kind]] = {}
    for kind in kinds:
        found.setdefault(kind.status, []).append(kind)
    return dict(sorted(found.items()))
