"""Pages of other origins."""

import pytest
from fakes import FakeSource
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from bikecast.config import Settings
from bikecast.serve.app import create_app
from bikecast.serve.current import CurrentTable
from bikecast.serve.known import KnownKeys

APP, ELSEWHERE = "https://app.example.com", "https://elsewhere.example.com"


def client_for(source: FakeSource, *origins: str, **settings: object) -> FlaskClient:
    """A client of a service that pages of some origins may call."""
    current = CurrentTable(source)
    current.refresh()
    chosen = Settings(cors_origins=origins, **settings)  # type: ignore[arg-type]
    keys = KnownKeys(source)
    keys.refresh()
    return create_app(current, chosen, keys=keys).test_client()


def preflight(client: FlaskClient, origin: str, path: str = "/predict") -> TestResponse:
    """What a browser asks before it sends a key or JSON."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return client.options(path, headers=headers)


def test_by_default_no_page_of_another_origin_may_ask(source: FakeSource) -> None:
    """Not a word of it in the answers."""
    client = client_for(source)
    for found in (client.get("/stations", headers={"Origin": APP}), preflight(client, APP)):
        assert not [name for name in found.headers.keys() if name.startswith("Access-Control")]


def test_a_page_of_an_origin_that_is_named_may_ask(source: FakeSource) -> None:
    """And read what it needs; no other may, and caches tell the two apart."""
    client = client_for(source, "https://b.example.com", APP)
    found = client.get("/stations", headers={"Origin": APP})
    assert found.headers["Access-Control-Allow-Origin"] == APP
    assert "X-Request-Id" in found.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in found.headers
    for other in ({"Origin": ELSEWHERE}, {"Origin": APP + ".evil.com"}, {"Origin": "null"}, {}):
        found = client.get("/stations", headers=other)
        assert found.status_code == 200 and "Origin" in found.headers["Vary"]
        assert "Access-Control-Allow-Origin" not in found.headers


def test_browsers_ask_beforehand_and_need_no_key_for_it(source: FakeSource) -> None:
    """They send none with that question."""
    client = client_for(source, APP, require_key=True)
    found = preflight(client, APP)
    assert found.status_code == 200
    assert found.headers["Access-Control-Allow-Origin"] == APP
    assert "POST" in found.headers["Access-Control-Allow-Methods"]
    for header in ("Authorization", "X-API-Key", "Content-Type"):
        assert header in found.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Origin" not in preflight(client, ELSEWHERE).headers


def test_a_page_can_read_why_it_was_refused(source: FakeSource) -> None:
    """Also that it asked too often."""
    client = client_for(source, APP, require_key=True, address_limit=1)
    for status in (401, 429):
        found = client.get("/stations", headers={"Origin": APP})
        assert found.status_code == status
        assert found.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize("origin", [APP, ELSEWHERE, "null"])
def test_all_origins_may_be_let_in(source: FakeSource, origin: str) -> None:
    """With the same answer for each."""
    found = client_for(source, "*").get("/stations", headers={"Origin": origin})
    assert found.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" not in found.headers.get("Vary", "")
