"""The load client counts to the request what a server does that riders notice."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet.client import Answer, Load

# It waits for real answers, and is the same on every Python.
pytestmark = pytest.mark.integration

Speak = Callable[[int], tuple[bytes, bool]]
"""From the number of a request, counted from 1, to what is sent and whether the server closes."""


def good(body: bytes = b'{"model": {"version": "7"}}', *headers: str) -> bytes:
    """A whole answer."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


UNREADABLE = good(b"<html>")


class Server:
    """Answers every request as it is told, from a thread per connection."""

    def __init__(self, speak: Speak, context: ssl.SSLContext | None = None) -> None:
        self.speak, self.context = speak, context
        self.asked = self.connections = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "https" if self.context else "http"
        return f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        """Accept nobody any more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self.context:
            try:
                connection = self.context.wrap_socket(connection, server_side=True)
            except ssl.SSLError:  # a client that does not trust us
                return
        with connection:
            while b"\r\n\r\n" in (came := connection.recv(65536)):
                assert came.endswith(b'{"station_id": "a"}')
                with self._lock:
                    self.asked += 1
                    number = self.asked
                said, closes = self.speak(number)
                connection.sendall(said)
                if closes:
                    return


@contextmanager
def serving(speak: Speak, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(speak, context)
    try:
        yield server
    finally:
        server.close()


def asked(server: Server, requests: int, **how: object) -> Load:
    """A load that has ended after so many requests at least."""
    with Load([server.url], **{"rate": 400, "connections": 4, "timeout": 2} | how) as load:
        reached(lambda: server.asked, requests)
    return load


def reached(count: Callable[[], int], most: int) -> None:
    """Wait until a count has come so far, however long the client takes to start."""
    deadline = time.monotonic() + 20
    while count() < most and time.monotonic() < deadline:
        time.sleep(0.02)
    assert count() >= most


def ended(load: Load, requests: int) -> None:
    """Wait until so many of a load's requests have ended."""
    reached(lambda: len(load.answers()), requests)


def test_a_server_that_keeps_its_connections_has_no_failure() -> None:
    """Every request is counted once, and each connection is made once."""
    with serving(lambda n: (good(), False)) as server:
        load = asked(server, 200)
    assert load.failures == []
    assert load.counts() == Counter(ok=server.asked)
    assert load.releases() == {"7": server.asked}
    assert server.connections == 4
    assert 0 < load.latency(0.5) <= load.latency(0.95) <= load.latency(0.99) < 2


def test_an_announced_close_is_no_failure() -> None:
    """The client connects anew, as riders' clients do."""
    with serving(lambda n: (good(b"{}", *["Connection: close"] * (n % 10 == 0)), n % 10 == 0)) as s:
        load = asked(s, 100)
    assert load.failures == []
    assert s.connections >= 4 + s.asked // 10 - 4


def test_every_unannounced_close_between_requests_is_counted() -> None:
    """An answer that ends well and a connection that then ends without a word."""
    with serving(lambda n: (good(), n % 10 == 0)) as server:
        load = asked(server, 200)
    assert load.counts() == Counter(ok=server.asked, closed=server.asked // 10)
    assert "between requests" in str(load.failures[0])


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (b"", "closed", "end of file after 0 unread bytes"),
        (good()[:-5], "closed", "end of file after"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "malformed", "without a length"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "malformed", "without CR"),
        (b"HTTP/2 200\r\n\r\n", "malformed", "unexpected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "malformed", "Content-Length: x"),
        (good(b"{}", "Content-Length: 3"), "malformed", "two lengths"),
        (good(b"{}", "no header"), "malformed", "unexpected"),
        (good(b"{}", "Transfer-Encoding: chunked"), "malformed", "Transfer-Encoding"),
        (UNREADABLE, "malformed", "<html>"),
        (good() + b"more", "malformed", "behind the answer"),
    ],
)
def test_what_is_no_answer_is_a_failure_with_its_reason(said: bytes, kind: str, text: str) -> None:
    """Cut short, without an end, or not HTTP."""
    cut = said != UNREADABLE  # which is whole, and its connection goes on
    with serving(lambda n: (said, cut) if n == 20 else (good(), False)) as server:
        load = asked(server, 60)
    (failure,) = load.failures
    assert failure.kind == kind
    assert text in str(failure)
    assert load.counts()["ok"] == server.asked - 1


def test_other_statuses_are_counted_by_number() -> None:
    """With the beginning of what the server said."""
    sad = b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nno worker"
    with serving(lambda n: (sad if n % 20 == 0 else good(), False)) as server:
        load = asked(server, 100)
    assert load.counts()["status 503"] == server.asked // 20
    assert str(load.failures[0]).endswith("status 503 no worker")


def test_chunks_are_put_together() -> None:
    """With trailers, and a byte at a time."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'1\r\n{\r\n17;x=y\r\n"model":{"version":"8"}\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n'
    with serving(lambda n: (head + body, False)) as server:
        load = asked(server, 20)
    assert load.failures == []
    assert set(load.releases()) == {"8"}


def test_an_answer_that_does_not_come_in_time_is_a_failure() -> None:
    """Its connection is given up, and the others go on."""

    def speak(number: int) -> tuple[bytes, bool]:
        if number == 5:
            time.sleep(1)
        return good(), number == 5

    with serving(speak) as server:
        load = asked(server, 300, timeout=0.3)
    assert load.counts()["timeout"] == 1
    assert [f.kind for f in load.failures] == ["timeout"]


def test_nobody_who_listens_is_a_failure() -> None:
    """Each request says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Load([url], rate=100, connections=2, timeout=1) as load:
        ended(load, 10)
    assert set(load.counts()) == {"connect"}
    assert "refused" in str(load.failures[0])


def test_it_tells_when_another_release_answers_first() -> None:
    """By the header where there is one, on the clock that all processes share."""
    with serving(lambda n: (good(b"{}", f"X-Bikecast-Release: r{n // 50}"), False)) as server:
        begun = time.monotonic()
        load = asked(server, 120)
    first = load.first_answer_of("r1", after=begun)
    assert isinstance(first, Answer)
    assert begun < first.at < first.ended < time.monotonic()
    assert load.first_answer_of("r1", after=first.ended + 100) is None
    assert load.releases(after=begun)["r1"] == 50


def test_the_rate_is_kept() -> None:
    """Two servers get as much each."""
    with serving(lambda n: (good(), False)) as a, serving(lambda n: (good(), False)) as b:
        with Load([a.url, b.url], rate=150, connections=8) as load:
            ended(load, 600)
        for server in (a, b):
            sent = sorted(a.at for a in load.answers(server.url))
            assert 100 < (len(sent) - 1) / (sent[-1] - sent[0]) < 160


def test_it_speaks_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    """And trusts nobody else."""
    from fleet.registry import Authority

    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("server", "127.0.0.1"))
    with serving(lambda n: (good(), n == 30), context) as server:
        load = asked(server, 60, ca_file=authority.file)
        assert load.counts()["closed"] == 1
        with Load([server.url], rate=50, connections=1, timeout=1) as stranger:
            ended(stranger, 5)
        assert set(stranger.counts()) == {"connect"}
