"""What the service promises to whoever asks it over a socket: nothing breaks it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from asking import APART
from live import children
from proxied import free_port, proxied
from serving import service

from bikecast.serve.server import THREADS

pytestmark = pytest.mark.integration

FUZZING = (
    *("--checks", "all", "--mode", "all", "--max-examples", "10", "--seed", "1"),
    *("--phases", "examples,coverage,fuzzing,stateful", "--max-failures", "20", "--no-color"),
    *("--request-timeout", "30", "--suppress-health-check", "all"),
)
DEADLINE = 60.0  # seconds for what takes milliseconds


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service with two workers."""
    with service() as (found, _):
        yield found


def test_the_description_holds_whatever_is_asked(url: str) -> None:
    """schemathesis with all its checks, on good and on bad requests of every operation."""
    config = Path(__file__).with_name("schemathesis.toml")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            *(f"{url}/openapi.json", *FUZZING),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Coverage" in done.stdout and "Fuzzing" in done.stdout


def connected(url: str) -> socket.socket:
    """A connection that a test writes bytes on."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE)


def answered(connection: socket.socket) -> tuple[int, Any]:
    """The status and the document of the next answer."""
    head, _, body = b"", b"", b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1) or pytest.fail(f"no answer but {head!r}")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("asked", ["POST /nowhere", "GET /predict/batch", "POST /predict?x=1"])
def test_a_body_that_no_route_reads_hides_no_next_request(url: str, asked: str) -> None:
    """Also where it comes a moment after the head, as from many clients."""
    with connected(url) as connection:
        for _ in range(50):
            connection.sendall(
                f"{asked} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n".encode()
            )
            connection.sendall(b" " * 9000)
            assert answered(connection)[0] in (400, 404, 405)


BODIES = {
    "not JSON": b"<xml/>",
    "wrong encoding": '{"station_id": "Größe"}'.encode("utf-16"),
    "deep nesting": b'{"station_id": ' + b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "10 MB": b" " * 10_000_000,
    "NaN": b'{"station_id": "B", "bikes": NaN}',
    "1e400": b'{"station_id": "B", "bikes": 1e400}',
    "huge": b'{"station_id": "B", "bikes": ' + b"9" * 5_000 + b"}",
    "lone surrogate": b'{"station_id": "\\ud800"}',
    "NUL": b'{"station_id": "\\u0000"}',
    "emoji": '{"station_id": "🚲"}'.encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("chunked", [False, True])
def test_no_body_breaks_the_service(url: str, path: str, name: str, chunked: bool) -> None:
    """Each is a problem, and the next request is fine."""
    body = BODIES[name]
    content = iter([body[i : i + 50_000] for i in range(0, len(body), 50_000)]) if chunked else body
    try:
        found = APART.post(url + path, content=content, timeout=DEADLINE)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        # Hung up on while still sending: only on who sends too much.
        assert len(body) > 1_000_000
    else:
        assert 400 <= found.status_code < 500, found.text
        assert found.headers["Content-Type"] == "application/problem+json"
        assert found.json()["status"] == found.status_code
    assert APART.post(f"{url}/predict", json={"station_id": "B"}, timeout=DEADLINE).is_success


def test_every_line_of_a_service_is_an_object(tmp_path: Path) -> None:
    """gunicorn's, those of the workers, and one per request."""
    log = tmp_path / "log"
    with log.open("wb") as file, service(file.fileno()) as (url, _):
        APART.get(f"{url}/stations", headers={"X-Request-Id": "mine"})
        APART.get(f"{url}/a%0A%1B%E2%80%A8?key=geheim", headers={"X-Request-Id": "other"})
        with connected(url) as connection:
            connection.sendall(b"no request\n\r\n\r\n")
            connection.recv(1000)
    text = log.read_text()
    assert "geheim" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"gunicorn.error", "bikecast.serve.current"} <= {line["logger"] for line in lines}
    asked = {line["request_id"]: line for line in lines if "request_id" in line}
    assert asked["mine"]["status"] == 200 and asked["mine"]["client"] == "127.0.0.1"
    assert asked["other"]["path"] == "/a\n\x1b\u2028"


def test_a_log_that_nobody_reads_holds_no_answer_up() -> None:
    """As where the engine of a container stands still."""
    reading, writing = os.pipe()
    with service(writing) as (url, _), httpx.Client(base_url=url, timeout=DEADLINE) as client:
        for _ in range(1_000):
            assert client.get("/model").status_code == 200
        os.set_blocking(reading, False)
        with os.fdopen(reading, "rb") as file:
            lines = file.read().splitlines()
    os.close(writing)
    assert 100 < len(lines) < 1_000 and all(json.loads(line) for line in lines)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx here")
def test_proxy_and_service_name_a_request_alike(tmp_path: Path) -> None:
    """The rider's own name where it belongs in a log, else one of the proxy's."""
    port = free_port()
    (tmp_path / "sockets/blue").mkdir(parents=True)
    log = (tmp_path / "service.log").open("wb")
    bind = f"unix:{tmp_path}/sockets/blue/api.sock"
    names = []
    with log, service(log.fileno(), bind), proxied(tmp_path, port):
        for given in ("mine-1", "a b", 'x"y', "x" * 65, None):
            headers = {} if given is None else {"X-Request-Id": given}
            found = APART.get(f"http://127.0.0.1:{port}/stations", headers=headers)
            names.append(found.headers["X-Request-Id"])
    assert names[0] == "mine-1" and all(len(name) == 32 for name in names[1:])
    told = (tmp_path / "log/access.log").read_text().splitlines()
    assert [line.split()[-1] for line in told] == names
    lines = map(json.loads, (tmp_path / "service.log").read_text().splitlines())
    assert [line["request_id"] for line in lines if "request_id" in line] == names


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


TRAINED_BEFORE = """
from made_up import small_history
from bikecast.models import MODELS, boosted
from bikecast.models.base import Grid
from bikecast.models.portable import pack

boosted.ROUNDS, boosted.FEW_ROWS = 5, 0
model = MODELS["xgboost"]()
model.fit(small_history(days=21), Grid(24))
packed = pack(model)
FakeSource.packed_model = lambda self, issue: packed
"""


def test_every_worker_explains_where_xgboost_ran_before_the_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a demo. Loaded before the fork, with several threads, a model would hang each request.

    Each worker loads all by itself, and XGBoost brings it no thread.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    log = tmp_path / "log"

    def said_by(logger: str, **fields: object) -> set[int]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {
            line["pid"]
            for line in lines
            if line["logger"] == logger and fields.items() <= line.items()
        }

    with log.open("wb") as file, service(file.fileno(), before=TRAINED_BEFORE) as (url, process):
        until(lambda: len(said_by("bikecast.serve.current")) == 2)
        workers = children(process.pid)
        assert said_by("bikecast.serve.current") == set(workers)
        before = sum(map(threads_of, workers))

        def explained() -> bool:
            # A connection of its own goes to whichever worker is free.
            answer = APART.post(f"{url}/predict?explain=true", json={"station_id": "B"}, timeout=20)
            assert answer.json()["explanation"] is not None, answer.text
            return said_by("bikecast.access", status=200) == set(workers)

        until(explained)
        assert sum(map(threads_of, workers)) <= before + 2 * THREADS


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
