"""gunicorn's worker of threads, with deadlines for whoever asks and its share of connections.

Deadlines, as a few that never finish would hold all threads of a worker:

gunicorn waits for the rest of a request, and for somebody to take the answer, as long as it takes.
A proxy in front keeps slow clients to itself; this is for a service without one.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
    """gunicorn's worker of threads, with deadlines, and a share of the connections.

    Whichever worker looks first takes the connections of a client that opens several, often all of
    them, and one core answers while the others have nothing to do: of 24 times that eight were
    opened to two workers, one had all eight in seven.
    """

    def init_process(self) -> None:
        """Run; called in the worker, after the fork."""
        self.deadlines = Deadlines()
        self.deadlines.follow()
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection, where no worker that is less busy took it first."""
        busy = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        if busy and self.cfg.workers > 1:
            time.sleep(min(busy, MOST_BUSY) * HANDICAP)
        super().accept(listener)

    def handle(self, conn: Any) -> Any:
        """Answer one request of a connection, in one of the threads."""
        connection = conn.sock
        self.deadlines.begin(connection)
        try:
            return super().handle(conn)
        finally:
            self.deadlines.end(connection)
