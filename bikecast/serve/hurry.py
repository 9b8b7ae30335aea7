"""gunicorn's worker of threads, with deadlines for whoever asks and its share of connections.

Deadlines, as a few that never finish would hold all threads of a worker:

gunicorn waits for the rest of a request, and for somebody to take the answer, as long as it takes;
and for whoever connects without a word, or has his last answer and does not hang up, some seconds
each. A proxy in front keeps slow clients to itself; this is for a service without one.

And an end that waits for answers under way, and for no connection that is only kept: gunicorn
closes those when they expire, or with the end of all its time for an end.
"""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

SENT_WITHIN: Final = 20.0
"""Seconds from a request's first bytes to its last."""
TAKEN_WITHIN: Final = 60.0
"""Seconds from there to the last of its answer."""
LOOK: Final = 1.0
HANDICAP: Final = 0.00005
"""Seconds that a worker waits before it takes a connection, for each that it is busy with."""
MOST_BUSY: Final = 4
"""More make no difference: then all are busy."""
LAST_CHANCE: Final = 1.0
"""Seconds that connections are kept once the worker is to end.

Whoever asks on one at the moment it closes gets no answer, and a proxy repeats no POST that it has
sent. So each is answered once more, and told that it closes; only who asks less often than this is
closed unasked, with as little chance to be asking just then. A deploy has moved all traffic away
many seconds before it stops a colour: nobody asks there any more, and this is all that it waits.
"""
GOODBYE: Final = 2.0
"""Seconds for a client to hang up, once it has its last answer."""
LOOK_AT_THE_END: Final = 0.1
END_OF_HEAD: Final = b"\r\n\r\n"


class Deadlines:
    """Connections on which a request is being answered, and since when.

    :param now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: dict[socket.socket, float] = {}

    def begin(self, connection: socket.socket) -> None:
        """A request begins."""
        self._since[connection] = self._now()

    def end(self, connection: socket.socket) -> None:
        """It is answered, or over."""
        self._since.pop(connection, None)

    def enforce(self) -> None:
        """Read no more from who is late; hang up on who does not take the answer either."""
        for connection, since in list(self._since.items()):
            late = self._now() - since
            if late > SENT_WITHIN:
                how = socket.SHUT_RDWR if late > TAKEN_WITHIN else socket.SHUT_RD
                with suppress(OSError):  # it is gone by itself
                    connection.shutdown(how)

    def follow(self) -> None:
        """Enforce them from now on, in a thread of this process."""

        def run() -> None:
            while True:
                time.sleep(LOOK)
                self.enforce()

        threading.Thread(target=run, name="deadlines", daemon=True).start()


class PunctualWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker of threads, with deadlines, a share of the connections, and a quick end.

    Whichever worker looks first takes the connections of a client that opens several, often all of
    them, and one core answers while the others have nothing to do: of 24 times that eight were
    opened to two workers, one had all eight in seven.
    """

    alive: bool
    wsgi: Any

    def init_process(self) -> None:
        """Run; called in the worker, after the fork."""
        self.deadlines = Deadlines()
        self.deadlines.follow()
        self.parting: deque[Any] = deque()
        self.winding_up = False
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection, where no worker that is less busy took it first."""
        busy = self.nr_conns - len(self.keepalived_conns) - len(self.parting)
        if busy and self.cfg.workers > 1:
            time.sleep(min(busy, MOST_BUSY) * HANDICAP)
        super().accept(listener)

    def handle(self, conn: Any) -> Any:
        """Answer one request of a connection, in one of the threads."""
        if not conn.initialized and not conn.wait_for_data(0):
            return True  # kept until it says something: no thread waits for a first word
        connection = conn.sock
        self.deadlines.begin(connection)
        try:
            return super().handle(conn)
        finally:
            self.deadlines.end(connection)

    def load_wsgi(self) -> None:
        """Load the application; its answers say where they are the last on their connection.

        gunicorn decides that before it asks, and the end may begin before there is an answer.
        """
        super().load_wsgi()
        asked = self.wsgi

        def answer(environ: Any, start_response: Any) -> Any:
            found = asked(environ, start_response)
            if not self.alive:
                start_response.__self__.force_close()  # of gunicorn's answer, not yet on its way
            return found

        self.wsgi = answer

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """Keep a connection whose request is answered, or part with it."""
        kept = not fs.cancelled() and fs.exception() is None and fs.result()
        try:
            conn.sock.setblocking(False)
            self._keep(conn) if kept else self._part(conn)
        except (OSError, ValueError):  # it is gone by itself
            self._hang_up(conn)

    def _keep(self, conn: Any) -> None:
        """Wait for the next request; also one that was told so a moment before the end began."""
        if conn.parser is not None and END_OF_HEAD in conn.parser.unreader.buf.getvalue():
            self.enqueue_req(conn)  # it came with the last one: nothing more will be readable
            return
        conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else LAST_CHANCE)
        self._watch(conn, self.on_client_socket_readable)
        self.keepalived_conns.append(conn)

    def _part(self, conn: Any) -> None:
        """Say that no more comes, and close when the client did, or takes too long for it.

        Closed at once, what he still sends could cost him the answer. gunicorn waits for him as
        well, but in the thread that takes and gives out connections: nobody is served meanwhile.
        """
        conn.timeout = time.monotonic() + GOODBYE
        conn.sock.shutdown(socket.SHUT_WR)
        self._watch(conn, self._drain)
        self.parting.append(conn)

    def _watch(self, conn: Any, act: Callable[[Any, socket.socket], None]) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(act, conn))

    def _drain(self, conn: Any, connection: socket.socket) -> None:
        try:
            over = not connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            over = True
        if over:
            self.parting.remove(conn)
            self._hang_up(conn)

    def _hang_up(self, conn: Any) -> None:
        with suppress(KeyError, ValueError):  # it was never waited for
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for something to do, but never so long that what expires meanwhile stays."""
        super().wait_for_and_dispatch_events(min(timeout, LOOK if self.alive else LOOK_AT_THE_END))

    def is_parent_alive(self) -> bool:
        """Whether the master is there; without it this worker is to end like any other."""
        self.alive = super().is_parent_alive() and self.alive
        return bool(self.alive)

    def murder_keepalived(self) -> None:
        """Close what expired; called after each wait, the one that a signal ended first."""
        if not self.alive:
            self._wind_up()
        super().murder_keepalived()
        while self.parting and self.parting[0].timeout <= time.monotonic():
            self._hang_up(self.parting.popleft())

    def _wind_up(self) -> None:
        """Take whoever has connected by now and nobody else, and keep them for a moment only."""
        if self.winding_up:
            return
        self.winding_up = True
        self.set_accept_enabled(False)
        for listener in self.sockets:
            before = -1
            while before < self.nr_conns:  # closed with it, they would lose what they have sent
                before = self.nr_conns
                super().accept(listener)
            listener.close()  # refused at once, instead of held until all is over
        last = time.monotonic() + LAST_CHANCE
        for conn in self.keepalived_conns:
            conn.timeout = min(conn.timeout, last)
