"""A clock that sleep alone moves on."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Enough(Exception):
    """So that what repeats for ever ends."""


class Clock:
    """Stands for the module ``time``.

    :param end: the moment, in seconds from 0, at which a sleeper is woken by ``enough``.
    """

    def __init__(self, end: float, enough: type[BaseException] = Enough) -> None:
        self._end = end
        self._enough = enough
        self._now = 0.0
        self.marks: list[float] = []

    def monotonic(self) -> float:
        """Seconds from 0."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Nobody waits."""
        self._now += seconds
        if self._now >= self._end:
            raise self._enough

    def marking(self, do: Callable[..., T]) -> Callable[..., T]:
        """The same function, and a mark of each moment at which it was called."""

        def marked(*values: Any) -> T:
            self.marks.append(self._now)
            return do(*values)

        return marked
