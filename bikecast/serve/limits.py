"""How often each client may ask: counted in memory that the workers share, without a lock.

Each worker has a column of counts that it alone writes, and decides by the sum over all of them. So
a worker that is killed leaves nothing locked and nothing half written (a count is one word), and
what it counted goes on to count. Two workers that decide at the very same moment may each let one
request pass: the limit is exceeded by one request per worker at most, and never for long, because
both are counted.

A client has one place in each row, by a keyed hash (a count-min sketch). Whoever shares a place is
counted there too; the row that says least is believed. So memory is fixed and nothing is ever
forgotten too early. Somebody is refused for others' requests where busy clients took both of his
places: with 100 clients at their limit, one in 400,000.
"""

import mmap
import secrets
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

WINDOW: Final = 60.0
"""Seconds. What was asked in the window before counts for the part of it that is not yet past."""
ROWS: Final = 2
PLACES: Final = 1 << 16
_REMEMBERED: Final = 4096
_BITS: Final = 20
"""Of a count; above it stands that of the window before, above that the number of the window."""
_MOST: Final = (1 << _BITS) - 1
_WINDOWS: Final = (1 << 24) - 1
_ROUNDED: Final = 0.001
"""Seconds told beyond those counted: a second that was rounded down may end a moment too early."""


class Limiter:
    """Counts of all clients of a service; made before its workers are forked.

    :param columns: for that many workers at once.
    :param now: seconds that never go back, the same in all processes; clocks that are set do.
    """

    def __init__(
        self, columns: int = 1, now: Callable[[], float] = time.monotonic, places: int = PLACES
    ) -> None:
        self.columns, self._now, self._places = columns, now, places
        self._placed = lru_cache(_REMEMBERED)(self._places_of)
        # Not a file: none can be left behind, and no full disk ends who writes into it.
        memory = mmap.mmap(-1, columns * ROWS * places * 8)
        self._counts = memoryview(memory).cast("Q")
        self._secret = secrets.token_bytes(16)  # else clients could choose whom they meet
        self._lock = threading.Lock()  # between the threads of a worker
        self._column = 0

    def take(self, column: int) -> None:
        """Write into one column from now on; where there are too few, the last is shared."""
        self._column = min(column, self.columns - 1)

    def admit(self, client: str, limit: int) -> float | None:
        """Count a request where it may pass; what is refused is not counted.

        :param limit: requests in a window, 1 or more.
        :returns: seconds after which one may pass, or None where this one does.
        """
        places = self._placed(client)
        with self._lock:
            # In the lock, so that this worker's windows never go back.
            window, passed = divmod(self._now() / WINDOW, 1.0)
            number = int(window) & _WINDOWS
            told = [self._told(at, number) for at in places]
            before, count = min(told, key=lambda t: t[0] * (1 - passed) + t[1])
            wait = waiting(before, count, passed, limit)
            if wait is None:
                for at in places:
                    self._add(at + self._column, number)
                return None
        return wait + _ROUNDED

    def _places_of(self, client: str) -> list[int]:
        """Where a client's counts are, one stretch of columns in each row."""
        digest = blake2b(client.encode(), digest_size=4 * ROWS, key=self._secret).digest()
        return [
            (row * self._places + int.from_bytes(digest[4 * row : 4 * row + 4]) % self._places)
            * self.columns
            for row in range(ROWS)
        ]

    def _told(self, at: int, number: int) -> tuple[int, int]:
        """What all workers counted at a place: in the window before, and in this one."""
        before = count = 0
        for word in self._counts[at : at + self.columns].tolist():
            if word:
                one = _unpacked(word, number)
                before, count = before + one[0], count + one[1]
        return before, count

    def _add(self, at: int, number: int) -> None:
        before, count = _unpacked(self._counts[at], number)
        self._counts[at] = number << 2 * _BITS | before << _BITS | min(count + 1, _MOST)


def _unpacked(word: int, number: int) -> tuple[int, int]:
    """What a word says of the window before this one, and of this one."""
    ago = (number - (word >> 2 * _BITS)) & _WINDOWS
    if ago == 0:
        return word >> _BITS & _MOST, word & _MOST
    if ago == 1:
        return word & _MOST, 0
    # Or else another worker has just seen the next window begin.
    return (0, (word >> _BITS & _MOST) + (word & _MOST)) if ago == _WINDOWS else (0, 0)


def waiting(before: int, count: int, passed: float, limit: int) -> float | None:
    """Seconds until a client may ask again; None where it may now.

    :param before: its requests in the window before.
    :param count: those in this one.
    :param passed: share of this window that is past.
    """
    if before * (1 - passed) + count < limit:
        return None
    if count < limit:
        return (1 - (limit - count) / before - passed) * WINDOW
    # In the next window this one is the window before.
    return (2 - limit / count - passed) * WINDOW
