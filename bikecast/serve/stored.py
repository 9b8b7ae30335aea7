"""What is stored beside the forecast in use: the model that made it, and what it saw of a station.

Look-ups need no database; whoever needs this does, and is told why where it cannot be had.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from bikecast.features.inputs import Inputs
from bikecast.records import Issue
from bikecast.serve.current import CurrentTable

if TYPE_CHECKING:
    from bikecast.models.base import Explainable

AT_ONCE: Final = 2
"""Of a worker's four threads; one more may wait for them, and the last one is for look-ups."""

BUSY: Final = "others are being answered that take long: ask again"
NO_DATABASE: Final = "the database does not answer"
NO_INPUTS: Final = "no inputs are stored of this forecast: wait for the next issue"
NO_MODEL: Final = "no model is stored of this forecast: wait for the next training"
NO_SKY: Final = "this forecast was issued without the weather it saw: wait for the next issue"
ONE_WEEK: Final = "this forecast was issued with what it saw of one week: wait for the next issue"
OTHER_RELEASE: Final = (
    "another release made the model, with other features: wait for the next training"
)
FAILED: Final = "the model could not be asked: see the log of the service"

T = TypeVar("T")

log = logging.getLogger(__name__)


class NotNow(Exception):
    """There is a reason instead of what was asked for."""


class Stored:
    """Fetches what is stored of the issue that is current, a few requests at a time."""

    def __init__(self, current: CurrentTable) -> None:
        self._current = current
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._waiting = threading.BoundedSemaphore(1)
        self._loading = threading.Lock()
        self._loaded: "tuple[Issue, Explainable] | None" = None

    @contextmanager
    def place(self, patience: float = 0.0) -> Iterator[None]:
        """One of the few places for what may take long.

        :param patience: seconds to wait for one.
        :raises NotNow: where there is none.
        """
        if not (self._places.acquire(blocking=False) or self._waited(patience)):
            raise NotNow(BUSY)
        try:
            yield
        finally:
            self._places.release()

    def _waited(self, patience: float) -> bool:
        if not patience or not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._places.acquire(timeout=patience)
        finally:
            self._waiting.release()

    def model(self, issue: Issue) -> "Explainable":
        """The model that made an issue; the first one takes a second or two.

        :raises NotNow: where it cannot be had.
        :raises InputError: for one of another release.
        """
        if loaded := self.at_hand(issue):
            return loaded
        with self._loading:
            if loaded := self.at_hand(issue):
                return loaded
            source = self._current.source
            packed = self._fetched(lambda: source.packed_model(issue), NO_MODEL)
            # The service asks models seldom, and they take two seconds to be imported.
            from bikecast.models.portable import unpack

            self._loaded = issue, unpack(packed)
            return self._loaded[1]

    def at_hand(self, issue: Issue) -> "Explainable | None":
        """The model that made an issue, where it was fetched before."""
        loaded = self._loaded
        return loaded[1] if loaded and loaded[0] == issue else None

    def inputs(self, issue: Issue, station_id: str) -> Inputs:
        """What that model saw of a station.

        :raises NotNow: where it cannot be had.
        """
        source = self._current.source
        return self._fetched(lambda: source.inputs(issue, station_id), NO_INPUTS)

    def _fetched(self, ask: Callable[[], T | None], lacking: str) -> T:
        if not self._current.reachable:
            raise NotNow(NO_DATABASE)
        try:
            found = ask()
        except Exception as error:  # whatever it is, it is the database's
            log.warning("what is stored of a forecast cannot be had: %s", error)
            raise NotNow(NO_DATABASE) from error
        if found is None:
            raise NotNow(lacking)
        return found
