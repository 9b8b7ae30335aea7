"""Whoever does not finish what he asks, or does not take the answer, holds no thread for ever.

And whoever has more connections lets others take the next one.
"""

import socket
from collections import deque
from collections.abc import Iterator

import pytest

from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from bikecast.serve import hurry
from bikecast.serve.hurry import SENT_WITHIN, TAKEN_WITHIN, Deadlines, PunctualWorker

Pair = tuple[socket.socket, socket.socket]


class Clock:
    """Tells what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The service's end of a connection, and its client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.settimeout(30)
        yield ours, theirs


def begun(connection: socket.socket) -> tuple[Clock, Deadlines]:
    """A request begins on a connection, and a clock at 0."""
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.begin(connection)
    return clock, deadlines


def test_who_is_late_is_read_no_more_and_still_answered(pair: Pair) -> None:
    """So that he is told."""
    ours, theirs = pair
    clock, deadlines = begun(ours)
    clock.now = SENT_WITHIN
    deadlines.enforce()
    theirs.sendall(b"half a ")
    assert ours.recv(100) == b"half a "
    clock.now += 1
    deadlines.enforce()
    assert ours.recv(100) == b""
    ours.sendall(b"408")
    assert theirs.recv(100) == b"408"


def test_who_does_not_take_the_answer_is_hung_up_on(pair: Pair) -> None:
    """Whoever waits for him to take it goes on."""
    ours, theirs = pair
    clock, deadlines = begun(ours)
    clock.now = TAKEN_WITHIN + 1
    deadlines.enforce()
    with pytest.raises(OSError):
        ours.sendall(b"x")
    assert theirs.recv(100) == b""


def test_a_request_that_is_over_has_no_deadline(pair: Pair) -> None:
    """Its connection may be idle for longer; one that is closed hurts nobody."""
    ours, theirs = pair
    clock, deadlines = begun(ours)
    deadlines.end(ours)
    clock.now = TAKEN_WITHIN + 1
    deadlines.enforce()
    theirs.sendall(b"again")
    assert ours.recv(100) == b"again"
    deadlines.begin(ours)
    clock.now *= 3
    ours.close()
    deadlines.enforce()


@pytest.mark.parametrize(
    ("busy", "idle", "workers", "waits"),
    [
        (0, 0, 2, []),
        (0, 60, 2, []),
        (3, 60, 2, [3 * hurry.HANDICAP]),
        (99, 0, 2, [hurry.MOST_BUSY * hurry.HANDICAP]),
        (3, 0, 1, []),
    ],
)
def test_a_busy_worker_lets_others_be_first(
    monkeypatch: pytest.MonkeyPatch, busy: int, idle: int, workers: int, waits: list[float]
) -> None:
    """The longer, the busier it is, but never long; where there are no others it does not wait."""
    slept: list[float] = []
    accepted: list[object] = []
    monkeypatch.setattr(hurry.time, "sleep", slept.append)
    monkeypatch.setattr(ThreadWorker, "accept", lambda worker, listener: accepted.append(listener))
    worker = PunctualWorker.__new__(PunctualWorker)
    worker.nr_conns, worker.parting = busy + idle, deque()
    worker.keepalived_conns = deque(range(idle))
    worker.cfg = Config()
    worker.cfg.set("workers", workers)
    worker.accept("listener")
    assert slept == pytest.approx(waits) and accepted == ["listener"]
