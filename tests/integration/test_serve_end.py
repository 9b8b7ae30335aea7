"""The end of the service: what is in flight is answered, and nobody who says nothing is waited for.

Also before its end, who says nothing more holds nobody up.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

import pytest
from live import JSON, children, until
from postgres import GONE, state
from serving import service

pytestmark = pytest.mark.integration

DEADLINE = 60.0  # seconds for what takes milliseconds
WELL_BEFORE = 14.0  # seconds for an end of two; what is in flight has 20
AT_ONCE = 4.0  # less than gunicorn itself would give each who says nothing
MANY = 60  # connections of each kind: far more than threads
BODY = b'{"station_id": "B"}'

Running = tuple[str, subprocess.Popen[str]]


@pytest.fixture
def running() -> Iterator[Running]:
    """A service with two workers: its URL and its first process."""
    with service() as found:
        yield found


def connected(url: str, patience: float = DEADLINE) -> HTTPConnection:
    """A connection to the service."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=patience)
    connection.connect()
    return connection


def asked(url: str, patience: float = DEADLINE) -> HTTPConnection:
    """One on which a request was answered."""
    connection = connected(url, patience)
    connection.request("POST", "/predict", BODY, JSON)
    assert connection.getresponse().read()
    return connection


def silent(url: str) -> HTTPConnection:
    """One on which nobody has said a word."""
    return connected(url)


def finished(url: str) -> HTTPConnection:
    """One whose answer was to be the last; its client does not hang up."""
    connection = connected(url)
    kept = connection.sock.dup()
    connection.request("POST", "/predict", BODY, JSON | {"Connection": "close"})
    assert connection.getresponse().read()
    connection.sock = kept
    return connection


def half_asked(url: str) -> HTTPConnection:
    """One with half the body of a request on the way."""
    connection = connected(url)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:7])
    return connection


def refused(url: str) -> bool:
    """Whether nobody takes connections any more."""
    try:
        connected(url).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("kind", [asked, silent, finished])
def test_who_says_nothing_more_holds_up_neither_others_nor_the_end(
    running: Running, kind: Callable[[str], HTTPConnection]
) -> None:
    """However many there are; at the end each is hung up on, without half an answer."""
    url, process = running
    with ExitStack() as stack:
        kept = []
        for i in range(MANY):
            kept.append(kind(url))
            stack.callback(kept[-1].close)
            if i % 10 == 9:
                asked(url, AT_ONCE).close()
        process.terminate()
        assert process.wait(WELL_BEFORE) == 0
        for connection in kept:
            assert connection.sock.recv(100) == b""


def test_requests_that_come_together_are_answered_one_by_one(running: Running) -> None:
    """Behind the last there may be a blank line more, as some clients send one."""
    url, _ = running
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n"
    connection = connected(url)
    connection.sock.sendall(3 * (head.encode() + BODY) + b"\r\n")
    said = b""
    while said.count(b"HTTP/1.1 200") < 3 or not said.endswith(b"}"):
        part = connection.sock.recv(65536)
        assert part, said
        said += part
    connection.close()


def test_what_is_in_flight_is_answered_to_its_end(running: Running) -> None:
    """Half a body is there when the end begins, and the rest when all who are idle are gone."""
    url, process = running
    slow, idle = [half_asked(url) for _ in range(2)], asked(url)
    # Their heads are read before the signal is: they were sent long before this one.
    asked(url).close()
    process.terminate()
    until(lambda: refused(url))
    assert idle.sock.recv(100) == b""
    assert process.poll() is None
    for connection in slow:
        connection.send(BODY[7:])
        answer = connection.getresponse()
        assert answer.status == 200 and b'"B"' in answer.read()
        assert answer.headers["Connection"] == "close"
    idle.close()
    assert process.wait(WELL_BEFORE) == 0


class Busy(threading.Thread):
    """Asks on one connection until an answer says that it is the last one there."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.connection = connected(url)
        self.answers: list[HTTPResponse] = []
        self.cut: Exception | None = None

    def run(self) -> None:
        """Ask, where nobody has hung up yet."""
        try:
            while self.connection.sock and not select.select([self.connection.sock], [], [], 0)[0]:
                self.connection.request("POST", "/predict", BODY, JSON)
                answer = self.connection.getresponse()
                answer.read()
                self.answers.append(answer)
        except (OSError, HTTPException) as error:
            self.cut = error
        finally:
            self.connection.close()


def test_who_keeps_asking_is_told_that_an_answer_is_the_last(running: Running) -> None:
    """So no request is lost to the end of the connection it came on."""
    url, process = running
    clients = [Busy(url) for _ in range(6)]
    for client in clients:
        client.start()
    until(lambda: all(client.answers for client in clients))
    process.terminate()
    told = []
    for client in clients:
        client.join(DEADLINE)
        assert client.cut is None
        assert {answer.status for answer in client.answers} == {200}
        said = [answer.headers["Connection"] for answer in client.answers]
        assert set(said[:-1]) <= {"keep-alive"}
        told.append(said[-1])
    # Who did not come to ask within a second was closed before.
    assert "close" in told
    assert process.wait(WELL_BEFORE) == 0


def test_workers_whose_master_was_killed_leave_its_address_to_the_next(running: Running) -> None:
    """Also those whom clients keep connections to."""
    url, process = running
    workers, kept = children(process.pid), [asked(url) for _ in range(6)]
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: refused(url), WELL_BEFORE)
    until(lambda: all(state(pid) in GONE for pid in workers), WELL_BEFORE)
    for connection in kept:
        assert connection.sock.recv(100) == b""
        connection.close()
