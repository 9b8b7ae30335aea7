"""The service's description, held against the service."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeSource
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, ValidationError
from werkzeug.test import TestResponse

from bikecast.serve import problems
from bikecast.serve.current import CurrentTable
from bikecast.serve.known import KnownKeys
from bikecast.serve.openapi import OPERATIONS, Operation, description, refusals
from bikecast.serve.problems import Kind

MakeClient = Callable[..., FlaskClient]
QUESTION = {"station_id": "B"}
LATER = {"timestamp": "2018-07-25T05:00:00Z"}

ASKED: list[tuple[str, str, Any]] = [
    ("get", "/health", None),
    ("get", "/ready", None),
    ("get", "/version", None),
    ("get", "/metrics", None),
    ("get", "/openapi.json", None),
    ("get", "/docs", None),
    ("get", "/docs/docs.js", None),
    ("get", "/docs/swagger-ui.css", None),
    ("get", "/docs/x", None),
    ("get", "/problems/no-table", None),
    ("get", "/problems/x", None),
    ("get", "/model", None),
    ("post", "/model/reload", None),
    ("post", "/model/reload?x=1", None),
    ("get", "/stations", None),
    ("get", "/station_forecast.json", None),
    ("get", "/station_forecast.json?x=1", None),
    ("get", "/stations/B/forecast", None),
    ("get", "/stations/B/forecast?hours=168&explain=true", None),
    ("get", "/stations/B/forecast?hours=169", None),
    ("get", "/stations/nobody/forecast", None),
    ("get", "/stations/A.10/stock", None),
    ("get", "/stations/A.10/stock?at=06:00&hours=3&bikes=4", None),
    ("get", "/stations/A.10/stock?bikes=999", None),
    ("get", "/stations/A.10/stock?at=2000-01-01T00:00", None),
    ("get", "/stations/B/stock", None),
    ("post", "/predict", QUESTION),
    ("post", "/predict?explain=true", QUESTION),
    ("post", "/predict", {"station_id": "A.10", "bikes": 3}),
    ("post", "/predict", {"station_id": "A.10", "bikes": 300}),
    ("post", "/predict", {"station_id": 1}),
    ("post", "/predict", {"station_id": "nobody"}),
    ("post", "/predict", QUESTION | {"weather": {}}),
    ("post", "/predict", QUESTION | {"weather": {"temperature": 2, "humidity": 50}}),
    ("post", "/predict", QUESTION | {"weather": {"temperature": 2}, "timestamp": "2030-01-01T00Z"}),
    ("post", "/predict", QUESTION | {"timestamp": "tomorrow"}),
    ("post", "/predict", QUESTION | {"timestamp": "2018-11-04T01:00:00"}),
    ("post", "/predict", QUESTION | {"timestamp": "2030-01-01T00:00:00Z"}),
    ("post", "/predict", QUESTION | LATER),
    ("post", "/predict?explain=true", QUESTION | LATER),
    ("post", "/predict", QUESTION | LATER | {"weather": {"temperature": 2}}),
    ("post", "/predict/batch", {"predictions": [QUESTION | LATER]}),
    ("post", "/predict/batch", {"predictions": [QUESTION, {"station_id": "nobody"}, 7]}),
    ("post", "/predict/batch", {"predictions": [QUESTION | {"weather": {"temperature": 2}}]}),
    ("post", "/predict/batch", {"predictions": 7}),
    ("post", "/predict/batch", {"predictions": [QUESTION] * 1001}),
]


def described(method: str, path: str) -> Any:
    """The operation that a request is one of."""
    bare = path.split("?")[0]
    for operation in OPERATIONS:
        pattern = re.sub("{.*?}", "[^/]+", operation.path)
        if operation.method == method and re.fullmatch(pattern, bare):
            return description()["paths"][operation.path][method]
    raise AssertionError(f"{method} {path} is not described")


def closed(schema: Any) -> Any:
    """A schema that allows nothing beside what it names, so that a new field is seen."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return {key: closed(part) for key, part in schema.items()} | more


def check(method: str, path: str, found: TestResponse, more: Any = None) -> None:
    """An answer is one of those that the description names, and of its form.

    :param more: fields that it has beside its own.
    """
    responses = described(method, path)["responses"]
    assert str(found.status_code) in responses, (path, found.text)
    content = responses[str(found.status_code)]["content"]
    assert found.mimetype in content
    if not found.mimetype.startswith("text/"):
        # References point into the whole document.
        components = closed(description()["components"])
        schema = {"components": components} | content[found.mimetype]["schema"]
        Draft202012Validator(schema).validate(found.json | (more or {}))
        if found.status_code == 200 and len(schema.get("anyOf", ())) == 2:
            which = schema["anyOf"]["explain=true" in path]
            Draft202012Validator({"components": components} | which).validate(found.json)


@pytest.mark.parametrize(("method", "path", "document"), ASKED)
def test_answers_are_as_described(
    client: FlaskClient, method: str, path: str, document: Any
) -> None:
    """Status, kind of content, and schema; good answers and problems."""
    found = client.open(path, method=method, json=document)
    check(method, path, found)
    if found.status_code >= 400:
        slug = found.json["type"]
        assert slug in described(method, path)["responses"][str(found.status_code)]["description"]


@pytest.mark.parametrize(("method", "path", "document"), ASKED)
def test_answers_without_a_table_are_as_described(
    make_client: MakeClient, method: str, path: str, document: Any
) -> None:
    """Before the first forecast."""
    current = CurrentTable(FakeSource())
    current.refresh()
    found = make_client(current).open(path, method=method, json=document)
    check(method, path, found)


@pytest.mark.parametrize(("method", "path", "document"), ASKED)
def test_refusals_of_the_gate_are_as_described(
    current: CurrentTable, make_client: MakeClient, method: str, path: str, document: Any
) -> None:
    """No key, a wrong one, too many requests; with the header that each has."""
    token = "a token of an admin"  # nosec B105  # pragma: allowlist secret: made up
    keys = KnownKeys(current.source)
    settings = {"require_key": True, "address_limit": 3, "admin_token": token}
    client = make_client(current, keys=keys, **settings)
    found = [client.open(path, method=method, json=document)]
    keys.refresh()
    for headers in ({}, {"X-API-Key": "wrong"}, {}):
        found.append(client.open(path, method=method, json=document, headers=headers))
    for answer in found:
        check(method, path, answer)
        told = described(method, path)["responses"][str(answer.status_code)]
        assert set(told.get("headers", ())) <= set(answer.headers.keys())
    statuses = [answer.status_code for answer in found]
    if path.startswith("/model/reload"):
        assert statuses == [401, 401, 401, 429]
    elif described(method, path)["security"]:
        assert statuses == [503, 401, 401, 429]


def test_what_opens_a_route_is_told() -> None:
    """A key where it is required, or may be sent; the token; or nothing."""
    free, keyed = description(), description(True)
    schemes = set(free["components"]["securitySchemes"])
    for document in (free, keyed):
        for path in document["paths"].values():
            for operation in path.values():
                assert {name for way in operation["security"] for name in way} <= schemes
    assert {} in free["paths"]["/predict"]["post"]["security"]
    assert keyed["paths"]["/predict"]["post"]["security"] == [{"key": []}, {"keyHeader": []}]
    assert keyed["paths"]["/model/reload"]["post"]["security"] == [{"adminToken": []}]
    assert keyed["paths"]["/health"]["get"]["security"] == []


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.kept], ids=lambda o: o.path)
def test_what_may_be_kept_says_how(client: FlaskClient, operation: Operation) -> None:
    """Its header, its 304, and that of the request."""
    path = operation.path.replace("{station_id}", "B")
    found = client.get(path)
    again = client.get(path, headers={"If-None-Match": found.headers["ETag"]})
    told = described("get", path)
    assert again.status_code == 304 and "content" not in told["responses"]["304"]
    for answer in (found, again):
        assert set(told["responses"][str(answer.status_code)]["headers"]) <= set(
            answer.headers.keys()
        )
    assert "If-None-Match" in [parameter["name"] for parameter in told["parameters"]]


def test_an_undocumented_field_would_be_seen(client: FlaskClient) -> None:
    """What is checked above can fail."""
    for path in ("/health", "/model", "/stations/B/forecast"):
        found = client.get(path)
        check("get", path, found)
        with pytest.raises(ValidationError):
            check("get", path, found, {"undocumented": 1})


def test_every_route_is_described_and_no_other(client: FlaskClient) -> None:
    """By path and method."""
    routes = {
        (method.lower(), re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule))
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}


def test_every_kind_of_problem_is_named_somewhere() -> None:
    """Whoever handles them by type can look them up."""
    kinds = {kind for kind in vars(problems).values() if isinstance(kind, Kind)}
    named = {kind for operation in OPERATIONS for kind in refusals(operation)}
    assert kinds - named == {problems.METHOD_NOT_ALLOWED}
    for path in description()["paths"].values():
        for operation in path.values():
            assert {"405", "500", "default"} <= set(operation["responses"])


def test_a_method_that_is_not_offered_is_answered_as_described(client: FlaskClient) -> None:
    """Of every path."""
    told = description()["components"]["responses"]["MethodNotAllowed"]
    found = client.delete("/predict")
    assert found.status_code == 405 and set(told["headers"]) <= set(found.headers.keys())
    assert found.mimetype in told["content"] and found.json["type"] in told["description"]


def test_what_is_sent_is_described_by_the_types_that_check_it() -> None:
    """An unknown field is refused, and so says the description."""
    body = described("post", "/predict")["requestBody"]["content"]["application/json"]["schema"]
    name = body["$ref"].removeprefix("#/components/schemas/")
    schema = description()["components"]["schemas"][name]
    assert schema["additionalProperties"] is False and schema["required"] == ["station_id"]
    assert set(schema["properties"]) == {"station_id", "timestamp", "bikes", "weather"}


def test_the_document_refers_to_nothing_that_it_lacks() -> None:
    """Every reference leads somewhere, and each operation has a name of its own."""
    text = str(description())
    schemas = description()["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(schemas)
    names = [o["operationId"] for path in description()["paths"].values() for o in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
