"""Names of requests, what every answer carries, and bodies that nobody asked for."""

import logging
from io import BytesIO
from typing import NoReturn

import pytest
from flask.testing import FlaskClient


@pytest.mark.parametrize("given", ["a", "0f-1.e:2_3", "x" * 64])
def test_a_request_keeps_the_name_that_it_came_with(client: FlaskClient, given: str) -> None:
    """A proxy's log and ours can be laid side by side."""
    assert client.get("/health", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a,b", "ü", '{"level": "error"}'])
def test_one_without_a_name_gets_one(client: FlaskClient, given: str | None) -> None:
    """Each another; so does one whose name does not belong in a log."""
    headers = {} if given is None else {"X-Request-Id": given}
    names = {client.get("/health", headers=headers).headers["X-Request-Id"] for _ in range(2)}
    assert len(names) == 2 and all(len(name) == 32 for name in names)


def test_a_failure_is_logged_under_the_requests_name(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """And the answer has the name, so that who reports it can say which it was."""

    def broken() -> NoReturn:
        raise RuntimeError

    client.application.add_url_rule("/broken", view_func=broken)
    with caplog.at_level(logging.ERROR):
        answer = client.get("/broken", headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] == "mine" and "request mine" in caplog.text


@pytest.mark.parametrize(
    "path", ["/stations", "/health", "/ready", "/nowhere", "/stations/none/stock"]
)
def test_every_answer_is_safe_in_a_browser(client: FlaskClient, path: str) -> None:
    """Problems too."""
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == ("public, max-age=60" if path == "/stations" else "no-store")


@pytest.mark.parametrize(
    "path", ["/stations//B/forecast", "/problems//x", "/docs//x", "/stations/"]
)
def test_nobody_is_sent_to_another_address(client: FlaskClient, path: str) -> None:
    """Which would be made of the `Host` that he says himself."""
    answer = client.get(path, base_url="http://evil.example")
    assert answer.status_code == 404 and "Location" not in answer.headers


def test_a_request_that_cannot_be_noted_is_answered(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is good, and the log says what went wrong."""

    def full(*_: object) -> NoReturn:
        raise OSError("no space left")

    around = client.application.wsgi_app
    monkeypatch.setattr(around, "_watches", [full, *around._watches])  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR, "bikecast"):
        answer = client.get("/stations")
    assert answer.status_code == 200 and answer.headers["X-Request-Id"]
    assert "could not be noted: no space left" in caplog.text


class HangsUp(BytesIO):
    """A body whose sender resets the connection."""

    def read(self, size: int | None = -1) -> NoReturn:
        """As a socket."""
        raise ConnectionResetError


@pytest.mark.parametrize("body", [HangsUp(), BytesIO(b'{"stat')])
def test_who_hangs_up_in_the_middle_is_no_failure_of_ours(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, body: BytesIO
) -> None:
    """400, for the counts: nobody reads it."""
    with caplog.at_level(logging.WARNING, "bikecast"):
        answer = client.post("/predict", input_stream=body, content_length=1000)
    assert answer.status_code == 400 and not caplog.text


@pytest.mark.parametrize("path", ["/nowhere", "/health", "/model/reload"])
def test_a_body_that_no_route_has_is_read(client: FlaskClient, path: str) -> None:
    """All of it, so that the next request on the connection begins where it ends."""
    body = BytesIO(b"x" * 3_000)
    answer = client.post(path, input_stream=body, content_length=3_000)
    assert answer.status_code in (401, 403, 404, 405) and body.tell() == 3_000
