"""How requests fare while the workers of a service take a new table.

Asked from the commit of an issue until no worker answers from the one before it, and then for as
long without a new issue. That wrk asks, and somebody looks who answers from what, is alike in both.
"""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
from servers import frame, issued, memory
from wrk import Asked, Questions

from bikecast.store import Store

SWAPS = 5
LOOK = 0.03  # seconds between two looks
SURE = 15  # answers in a row, each on a connection of its own: no worker has the old table
GIVEN_UP = 60.0  # seconds


@dataclass(frozen=True)
class Swap:
    """What one new issue cost.

    :param seconds: from its commit to the last answer that was seen from the one before it.
    :param memory: the most MB that a worker had meanwhile.
    """

    seconds: float
    memory: float
    during: Asked
    without: Asked


def swaps(store: Store, asked: Questions, process: "subprocess.Popen[bytes]") -> list[Swap]:
    """Store new issues of the large table, one after another, at half of the most requests."""
    rate, rows = asked.ask().rate / 2, frame()
    found = []
    for _ in range(SWAPS):
        issue = issued()
        store.save_issue(issue, rows)
        with asked.asking(rate) as swapping, watched(process) as most:
            seconds, length = _replaced(asked, issue.issued_at)
        with asked.asking(rate) as going_on, watched(process):
            _replaced(asked, issue.issued_at, length)
        found.append(Swap(seconds, max(most), swapping.found, going_on.found))
    return found


def _replaced(asked: Questions, issued_at: datetime, least: float = 0.0) -> tuple[float, float]:
    """Look until all workers answer from an issue.

    :param least: seconds to go on looking.
    :returns: seconds to the last other answer, and to the end.
    """
    began = time.monotonic()
    last, passed, in_a_row = 0.0, 0.0, 0
    with asked.client(apart=True) as client:
        while in_a_row < SURE or passed < least:
            assert passed < GIVEN_UP, "workers go on answering from the old table"
            time.sleep(LOOK)
            new = _issued_at(client) == issued_at
            passed = time.monotonic() - began
            in_a_row, last = (in_a_row + 1, last) if new else (0, passed)
    return last, passed


def _issued_at(client: httpx.Client) -> datetime:
    said = client.get("/model").raise_for_status().json()["issued_at"]
    return datetime.fromisoformat(said)


@contextmanager
def watched(process: "subprocess.Popen[bytes]") -> Iterator[list[float]]:
    """MB of the largest worker, again and again during a ``with`` block."""
    found, enough = [memory(process)], threading.Event()

    def look() -> None:
        while not enough.wait(LOOK):
            found.append(memory(process))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        enough.set()
        looking.join()
