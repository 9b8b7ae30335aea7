"""Bodies that nobody should send: each is answered, as a problem where it is none of ours."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bikecast.config import Settings

PATHS = pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WORDS = st.sampled_from(
    ["station_id", "timestamp", "bikes", "weather", "predictions", "B", "A.10", "2018-07-16T05:00"]
)
NUMBERS = st.one_of(
    st.integers(), st.sampled_from([10**400, -(2**63), 2**64]), st.floats(allow_nan=True)
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(st.characters(), max_size=20))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(WORDS, st.text(max_size=5)), inner, max_size=5),
    ),
    max_leaves=15,
)
QUESTIONS = st.fixed_dictionaries(
    {"station_id": st.one_of(st.just("B"), SCALARS)},
    optional={"timestamp": SCALARS, "bikes": SCALARS, "weather": DOCUMENTS, "more": SCALARS},
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037"])


def check(client: FlaskClient, path: str, body: bytes, **how: Any) -> int:
    """An answer is a good one or a 4xx problem, and so is the next; its status."""
    found = client.post(path, data=body, **how)
    assert found.status_code == 200 or 400 <= found.status_code < 500, found.text
    if found.status_code == 200:
        assert found.mimetype == "application/json" and found.json is not None
    else:
        assert found.mimetype == "application/problem+json"
        assert found.json["status"] == found.status_code and found.json["detail"]
    assert client.post("/predict", json={"station_id": "B"}).status_code == 200
    return found.status_code


@PATHS
@given(body=st.binary(max_size=500))
@FUZZ
def test_bytes(client: FlaskClient, path: str, body: bytes) -> None:
    """Mostly no JSON."""
    check(client, path, body)


@PATHS
@given(document=st.one_of(DOCUMENTS, QUESTIONS), encoding=ENCODINGS, ascii_only=st.booleans())
@example(document={"station_id": "\ud800"}, encoding="utf-8", ascii_only=True)
@FUZZ
def test_documents(
    client: FlaskClient, path: str, document: Any, encoding: str, ascii_only: bool
) -> None:
    """NaN and infinities, huge numbers, emoji, lone surrogates, also in the wrong encoding."""
    text = json.dumps(document, ensure_ascii=ascii_only)
    check(client, path, text.encode(encoding, "surrogatepass" if "utf" in encoding else "replace"))


@given(items=st.lists(st.one_of(QUESTIONS, DOCUMENTS), max_size=6))
@FUZZ
def test_a_batch_answers_each_of_its_items(client: FlaskClient, items: list[Any]) -> None:
    """Whatever they are; what is no number of JSON spoils the document that it stands in."""
    found = client.post("/predict/batch", data=json.dumps({"predictions": items}))
    if found.status_code == 200:
        answers = found.json["predictions"]
        assert len(answers) == len(items)
        assert all("pickups" in a or 400 <= a["status"] < 500 for a in answers)
    else:
        assert found.status_code == 400 and "json" in found.json["type"]


HARD = {
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "a deep field": b'{"station_id": "B", "weather": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a deep item": b'{"predictions": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "1e400": b'{"station_id": "B", "bikes": 1e400}',
    "NaN": b'{"station_id": "B", "bikes": NaN}',
    "-Infinity": b'{"predictions": [-Infinity]}',
    "many digits": b'{"station_id": "B", "bikes": ' + b"9" * 100_000 + b"}",
    "many keys": b"{" + b",".join(b'"k%d": 0' % n for n in range(50_000)) + b"}",
    "many items": b'{"predictions": [' + b",".join([b"0"] * 300_000) + b"]}",
    "a long key": b'{"' + b"k" * 900_000 + b'": 0}',
    "a long id": b'{"station_id": "' + b"s" * 900_000 + b'"}',
    "a long moment": b'{"station_id": "B", "timestamp": "' + b"2" * 900_000 + b'"}',
    "a mark of order": b"\xef\xbb\xbf" + b'{"station_id": "B"}',
    "a NUL": b'{"station_id": "B"}\0',
    "half a surrogate": b'{"station_id": "\\ud83d"}',
    "half a character": b'{"station_id": "\xf0\x9f"}',
    "two documents": b'{"station_id": "B"} {"station_id": "B"}',
    "null": b"null",
    "nothing": b"",
}


@PATHS
@pytest.mark.parametrize("name", HARD)
def test_hard_ones(client: FlaskClient, path: str, name: str) -> None:
    """One by one; the parser takes infinities for numbers, and its item is refused alone."""
    assert len(HARD[name]) < Settings().max_body
    refused = check(client, path, HARD[name]) >= 400
    assert refused or (name, path) == ("-Infinity", "/predict/batch")


@PATHS
def test_too_much(client: FlaskClient, path: str) -> None:
    """10 MB."""
    assert check(client, path, b" " * 10_000_000) == 413


def test_of_two_fields_of_one_name_the_last_counts(client: FlaskClient) -> None:
    """As in Python and in browsers; JSON itself leaves it open (RFC 8259)."""
    found = client.post("/predict", data=b'{"station_id": 7, "station_id": "B"}')
    assert (found.status_code, found.json["station_id"]) == (200, "B")


@pytest.mark.parametrize("kind", ["text/xml", "application/json; charset=utf-16", "x" * 1000, ""])
def test_what_a_body_is_called_does_not_matter(client: FlaskClient, kind: str) -> None:
    """It is read as JSON in UTF-8."""
    assert check(client, "/predict", b'{"station_id": "B"}', content_type=kind) == 200
