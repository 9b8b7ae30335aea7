"""What the service writes on stderr, in both formats, whatever comes in."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from select import PIPE_BUF
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from bikecast.serve import logs
from bikecast.serve.current import CurrentTable
from bikecast.serve.logs import JsonLines, Lines, TextLines

MakeClient = Callable[..., FlaskClient]
TEXT = st.text(st.characters(), max_size=300)
HARD = st.sampled_from(["\n", "\r", "\x1b[2J", "\u2028", "\x85", '"', "\\", "\ud800", "é", "{}"])
NASTY = st.lists(st.one_of(TEXT, HARD), max_size=8).map("".join)


@pytest.fixture
def loud(current: CurrentTable, make_client: MakeClient) -> FlaskClient:
    """A client of a service that logs JSON."""
    return make_client(current, log_format="json")


def told(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The objects that were written."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_each_request_is_an_object(loud: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """With all that it takes to find it again."""
    loud.post("/predict?explain=false", json={"station_id": "B"}, headers={"X-Request-Id": "mine"})
    (line,) = told(capfd)
    assert (
        abs(datetime.fromisoformat(line.pop("time")).timestamp() - datetime.now().timestamp()) < 60
    )
    assert 0 < line.pop("milliseconds") < 60_000
    assert line == {
        "level": "info",
        "logger": "bikecast.access",
        "pid": os.getpid(),
        "message": "answered",
        "request_id": "mine",
        "method": "POST",
        "route": "/predict",
        "path": "/predict",
        "client": "127.0.0.1",
        "status": 200,
    }


def test_nothing_secret_is_logged(loud: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """No query, header or body, of good and of bad requests."""
    secret = {"Authorization": "geheim", "Cookie": "geheim=1", "X-Request-Id": "geheim!"}
    loud.get("/stations/B/forecast?key=geheim", headers=secret)
    loud.post("/predict", data=b'{"station_id": "geheim"}', headers=secret)
    loud.get("/nowhere?key=geheim", headers=secret)
    text = capfd.readouterr().err
    assert text.count("\n") == 3 and "geheim" not in text


def test_a_request_without_a_route_is_logged_by_its_path(
    loud: FlaskClient, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of which a bounded part is kept."""
    loud.get("/" + "x" * 5000)
    (line,) = told(capfd)
    assert line["route"] is None and line["status"] == 404
    assert line["path"] == "/" + "x" * (logs.LONGEST_PATH - 1)


def test_probes_are_not_logged(loud: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """They would hide why a release is not healthy."""
    for path in ("/health", "/ready", "/metrics"):
        assert loud.get(path).status_code == 200
    assert told(capfd) == []


def test_text_has_no_requests(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """People see what needs them."""
    client.get("/stations")
    assert capfd.readouterr().err == ""


@contextmanager
def written(formatter: logging.Formatter, logger: logging.Logger) -> Iterator[list[str]]:
    """What a logger writes into a file, line by line, once the block is left."""
    lines: list[str] = []
    reading, writing = os.pipe()
    handler = Lines(writing)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        os.set_blocking(reading, False)
        with os.fdopen(reading, "rb") as file:
            lines += (file.read() or b"").decode().split("\n")
        os.close(writing)


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        (
            "Invalid request from ip=::1: Invalid HTTP Header: 'X-API-Key bikecast_geheim'",
            "Invalid request from ip=::1: Invalid HTTP Header",
        ),
        ("Error handling request GET /x?key=geheim", "Error handling request GET /x"),
        ("Worker timed out: 7", "Worker timed out: 7"),
    ],
)
def test_what_gunicorn_says_repeats_no_key(said: str, stays: str) -> None:
    """It quotes what it could not read."""
    logger = logging.getLogger("gunicorn.made-up")
    logger.addFilter(logs.discreet)
    with written(JsonLines(), logger) as lines:
        logger.warning(said)
    assert json.loads(lines[0])["message"] == stays


def test_a_failure_is_logged_with_its_request_and_its_trace(client: FlaskClient) -> None:
    """In one object."""

    def broken() -> NoReturn:
        raise RuntimeError("line one\nline two")

    client.application.add_url_rule("/broken", view_func=broken)
    with written(JsonLines(), logging.getLogger("bikecast")) as lines:
        client.get("/broken?key=geheim", headers={"X-Request-Id": "mine"})
    line, end = lines
    document = json.loads(line)
    assert end == "" and "geheim" not in line
    assert document["level"] == "error" and document["request_id"] == "mine"
    assert (document["method"], document["route"], document["path"]) == ("GET",) + ("/broken",) * 2
    assert document["trace"].endswith("RuntimeError: line one\nline two")


@given(path=NASTY, method=NASTY, message=NASTY)
@settings(max_examples=200, deadline=None)
def test_nobody_writes_a_line_of_his_own_in_json(path: str, method: str, message: str) -> None:
    """Whatever stands in a path, a method or a message: one line of ASCII, which says it."""
    app = Flask(__name__)
    with app.test_request_context("/x"):
        from flask import request

        request.path, request.method = path, method
        record = logging.LogRecord("n", logging.ERROR, "", 0, "%s", (message,), None)
        for line in (
            logs._answered(request, "::1", None, "id", 200, 0.1),
            JsonLines().format(record),
        ):
            assert line.isascii() and line.isprintable() and len(line) < PIPE_BUF
            document = json.loads(line)
            assert document["path"] == path[: logs.LONGEST_PATH] and document["method"] == method
    if len(message) < 200:
        assert document["message"] == message


@given(message=NASTY, error=NASTY)
@settings(max_examples=200, deadline=None)
def test_nobody_writes_a_line_of_his_own_in_text(message: str, error: str) -> None:
    """Only a trace has lines of its own, behind spaces."""
    try:
        raise ValueError(error)
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, message, None, sys.exc_info())
    first, *trace = TextLines().format(record).split("\n")
    assert first.startswith("[20") and "] [ERROR] " in first
    assert all(line.startswith("    ") for line in trace)
    assert all(line.isprintable() for line in (first, *trace))


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_what_is_too_long_for_a_pipe_is_cut(formatter: logging.Formatter) -> None:
    """The end of a trace stays: it says what went wrong."""
    try:
        raise ValueError("x" * 100_000 + " at last")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "said " * 9999, None, sys.exc_info())
    line = formatter.format(record)
    assert 500 < len(line) < PIPE_BUF and " at last" in line


def test_nobody_waits_for_a_log_that_nobody_reads() -> None:
    """More than a pipe holds is lost, and what is read is whole lines."""
    reading, writing = os.pipe()
    lines = Lines(writing)
    for _ in range(5_000):
        lines.write("x" * 100)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        os.set_blocking(reading, False)
        assert set(file.read().splitlines()) == {b"x" * 100}


def test_others_who_write_into_the_same_pipe_still_wait() -> None:
    """It is the shell's as well."""
    reading, writing = os.pipe()
    Lines(writing).write("ours")
    assert os.get_blocking(writing)
    os.close(reading)
    Lines(writing).write("to nobody")
    os.close(writing)


def test_a_full_disk_fails_no_request(tmp_path: Path) -> None:
    """As a reader that is gone."""
    with io.open("/dev/full", "wb") as full:
        Lines(full.fileno()).write("lost")


STARTED = """
import logging, warnings
from bikecast.serve import logs
print(logs.start({form!r}), flush=True)
for name in ("gunicorn.error", "bikecast.serve", "another"):
    logging.getLogger(name).info("an info of %s", name)
    logging.getLogger(name).warning("a warning of %s", name)
warnings.warn("old")
"""


@pytest.mark.parametrize(("form", "level", "infos"), [("text", "warning", 0), ("json", "info", 2)])
def test_all_that_a_process_logs_has_one_format(form: str, level: str, infos: int) -> None:
    """gunicorn's, ours, other libraries', Python's warnings; gunicorn sets its own level."""
    done = subprocess.run(
        [sys.executable, "-c", STARTED.format(form=form)], capture_output=True, text=True
    )
    assert done.stdout == f"{level}\n"
    lines = done.stderr.splitlines()
    assert sum("an info of" in line for line in lines) == infos
    assert sum("a warning of" in line for line in lines) == 3 and "UserWarning" in done.stderr
    if form == "json":
        assert all(json.loads(line)["logger"] for line in lines)
