"""The table in use, and the thread that swaps in a newer one."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, TypeVar

from bikecast.records import Issue
from bikecast.serve.kept import KeptTable
from bikecast.serve.source import Source
from bikecast.serve.table import ForecastTable, build_table
from bikecast.serve.types import SchemaSeen

POLL_SECONDS: Final = 2.0
"""So that a new forecast is in use within 5 s, loading included."""
SOON: Final = 0.2
"""Seconds between two looks while another worker loads one: all have it as soon as it is there."""
PATIENCE: Final = 15.0
"""Seconds that a worker lets another one load for it; a connection can hang much longer."""
FIRST_WITHIN: Final = 10.0
KEPT_WITHIN: Final = 2.0
"""Seconds that a start waits for the newest table: with none, and with an older one at hand."""

ANSWER_WITHIN: Final = 5.0
"""Seconds after which a database that was asked and says nothing is one that does not answer."""

LOADED_WITHIN: Final = 60.0
"""The same for a whole table, of which there is much."""

CANNOT_KEEP: Final = "the forecast is in memory alone, a restart would lose it: %s"
CANNOT_READ: Final = "what was kept of a forecast is of no use: %s"

T = TypeVar("T")

log = logging.getLogger(__name__)


class CurrentTable:
    """Holds the newest table that could be had; answers go on from it when the source is gone.

    Readers take ``table`` once per request: it is replaced by one assignment, never changed.

    :param source: asked for the newest issue, in the thread of the caller of :meth:`refresh`.
    :param kept: where one worker leaves what it loaded for the others, and for the next start;
        without it each has its own, in memory alone.
    """

    def __init__(self, source: Source, kept: KeptTable | None = None) -> None:
        self.table: ForecastTable | None = None
        self.schema: SchemaSeen = {"database": None, "revision": None}
        self.source = source
        self._kept = kept
        self._turn = threading.Lock()
        self._complained = {"source": False, "disk": False, "schema": False}
        self._answered = True
        self._late_at: float | None = None
        self._alone = False
        self._newest: Issue | None = None
        self._taken: Issue | None = None
        # What lies there now was left by an earlier process; what is in use was this.
        self._before = self._stamp = kept.stamp() if kept else None
        self._waiting_since: float | None = None

    @property
    def reachable(self) -> bool:
        """Whether the source answered last time, and is not hanging on what it was asked now."""
        late_at = self._late_at
        hangs = late_at is not None and time.monotonic() > late_at
        return self._answered and not hangs

    @property
    def trouble(self) -> str | None:
        """What is wrong with the table beside its age, in words for whoever asks."""
        if not self.reachable:
            return "the database does not answer"
        if self.table is not None and self._newest is None:
            return "the database has no forecast"
        if self._newest != self._taken:
            return "a newer forecast is being loaded"
        return "the forecast is in memory alone: its disk takes nothing" if self._alone else None

    @property
    def _waits(self) -> bool:
        """Whether another worker loads what this one will find on disk."""
        return self._waiting_since is not None and self.reachable

    def refresh(self) -> None:
        """Take the newest table; where it cannot be had, keep the old one and say so once.

        One at a time: beside the thread that follows, admins ask for it.
        """
        with self._turn:
            self._refresh()

    def _refresh(self) -> None:
        before = self._taken
        try:
            self._take_newest()
        except Exception as error:  # whatever it is, riders get the old table
            self._complain("source", "no newer forecast can be had: %s", error)
            self._answered = False
            self._follow_the_others()
        else:
            if self._complained["source"]:
                log.warning("forecasts can be had again")
            self._complained["source"] = False
            self._answered = True
            if self._taken != before or self.schema["database"] is None:
                self._look_at_schema()

    def _take_newest(self) -> None:
        newest = self._newest = self._asked(self.source.newest, ANSWER_WITHIN)
        if newest is None:
            self._waiting_since = None
            return
        # Not by its number alone: another database counts from 1 as well.
        if newest != self._taken:
            taken = self._newer(newest)
        else:
            self._waiting_since = None  # the one that was waited for is gone again
            taken = self._kept_after_all(newest) if self._alone else self._rewritten(newest)
        if taken is not None:
            # What was loaded while this issue was asked for may be a newer one.
            self.table, self._newest, self._taken = taken, taken.issue, taken.issue
            self._waiting_since = None
            self._stamp = self._kept.stamp() if self._kept else None
            log.info("forecast %d as of %s is in use", taken.issue.issue_id, taken.as_of)

    def _look_at_schema(self) -> None:
        """For who asks what runs here: no reason to do without a forecast."""
        try:
            self.schema = self._asked(self.source.schema, ANSWER_WITHIN)
            self._complained["schema"] = False
        except Exception as error:  # whatever it is, riders get the forecast
            self._complain("schema", "the schema of the database cannot be seen: %s", error)

    def _asked(self, ask: Callable[[], T], within: float) -> T:
        """What the source answers; that it hangs is said after a while."""
        self._late_at = time.monotonic() + within
        try:
            return ask()
        finally:
            self._late_at = None

    def _loaded(self, issue: Issue) -> ForecastTable:
        return build_table(self._asked(lambda: self.source.load(issue), LOADED_WITHIN))

    def _newer(self, issue: Issue) -> ForecastTable | None:
        return self._shared(issue) if self._kept else self._loaded(issue)

    def _rewritten(self, issue: Issue) -> ForecastTable | None:
        """Another table of the same issue, where a worker that began later has left one.

        It knows stations that were imported since; two workers must not say different things.
        """
        if self._kept is None or self._kept.stamp() == self._stamp:
            return None
        self._stamp = self._kept.stamp()
        return self._found(issue)

    def _shared(self, issue: Issue) -> ForecastTable | None:
        """From disk, or from the source and left on disk; None while another worker is at it."""
        assert self._kept is not None
        self._alone = False
        if found := self._found(issue):
            return found
        try:
            lock = self._kept.lock()
        except OSError as error:
            self._cannot_keep(error)
            return self._loaded(issue)
        if lock is None:
            return self._impatiently(issue)
        with lock:
            self._waiting_since = None
            # Another worker may have been at it until now, and there may be a newer one since.
            newest = self._asked(self.source.newest, ANSWER_WITHIN) or issue
            if found := self._found(newest):
                return found
            table = self._loaded(newest)
            try:
                self._kept.keep(table)
            except OSError as error:
                self._cannot_keep(error)
                return table
        return self._mapped(newest) or table

    def _cannot_keep(self, error: OSError) -> None:
        self._complain("disk", CANNOT_KEEP, error)
        self._alone = True

    def _mapped(self, issue: Issue) -> ForecastTable | None:
        """What was just kept, which the workers share."""
        found = self._found(issue)
        self._complained["disk"] = found is None
        return found

    def _kept_after_all(self, issue: Issue) -> ForecastTable | None:
        """The table in use, mapped, once there is room for it; None until then.

        The next issue, which would be kept anyway, can be a day away.
        """
        assert self._kept is not None and self.table is not None
        try:
            with self._kept.lock() or nullcontext() as lock:
                if lock is None:
                    return None
                if self._found(issue) is None:
                    self._kept.keep(self.table)
        except OSError:
            return None
        self._alone = False
        log.warning("the forecast is kept on disk again")
        return self._mapped(issue)

    def _impatiently(self, issue: Issue) -> ForecastTable | None:
        """For oneself, where another worker has been loading for too long."""
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since < PATIENCE:
            return None
        log.warning("another process has been loading a forecast for %.0f s", PATIENCE)
        self._waiting_since = None
        return self._loaded(issue)

    def _found(self, issue: Issue) -> ForecastTable | None:
        """What was kept of an issue since this process began.

        Before, the stations may have been others: an import changes them under the same issue.
        """
        assert self._kept is not None
        if self._kept.stamp() == self._before:
            return None
        try:
            table = self._kept.load()
        except (OSError, ValueError) as error:
            self._complain("disk", CANNOT_READ, error)
            return None
        return table if table is not None and table.issue == issue else None

    def restore(self) -> None:
        """Take what was kept of the system, however old; a newer one is looked for by itself."""
        if self._kept is None:
            return
        try:
            table = self._kept.load()
        except (OSError, ValueError) as error:
            self._complain("disk", CANNOT_READ, error)
            return
        if table is not None and table.system.system_id == self.source.system_id:
            # Until the source was asked, nobody knows.
            self.table, self._answered = table, False

    def _follow_the_others(self) -> None:
        """Take what another worker had time to keep before the source was gone.

        One that was waiting for it would have none, or an older one than its neighbour.
        """
        if self._kept is None or self._kept.stamp() == self._stamp:
            return
        self._stamp, self._taken = self._kept.stamp(), None
        self.restore()

    def _complain(self, of: str, message: str, error: Exception) -> None:
        """Once, until it is over."""
        if not self._complained[of]:
            log.warning(message, error, exc_info=log.isEnabledFor(logging.DEBUG))
        self._complained[of] = True

    def follow(self, every: float = POLL_SECONDS) -> threading.Event:
        """Take what is kept, then refresh every few seconds, in a thread of this process.

        The first refresh is waited for, but not for long: a worker whose database does not answer
        still starts. Call it after a fork: threads do not survive one.

        :returns: set it to end the thread.
        """
        stop, first = threading.Event(), threading.Event()

        def run() -> None:
            self.refresh()
            while self._waits:
                stop.wait(SOON)
                self.refresh()
            first.set()
            while not stop.wait(SOON if self._waits else every):
                self.refresh()

        self.restore()
        threading.Thread(target=run, name="follow-forecasts", daemon=True).start()
        first.wait(KEPT_WITHIN if self.table else FIRST_WITHIN)
        return stop
