"""The table in use, and the thread that swaps in a newer one."""

import logging
import threading

from bikecast.records import Issue
from bikecast.serve.kept import KeptTable
from bikecast.serve.source import TableSource
from bikecast.serve.table import ForecastTable, build_table

POLL_SECONDS = 2.0
"""So that a new forecast is in use within 5 s, loading included."""

log = logging.getLogger(__name__)


class CurrentTable:
    """Holds the newest table that could be had; answers go on from it when the source is gone.

    Readers take ``table`` once per request: it is replaced by one assignment, never changed.

    :param source: asked for the newest issue, in the thread of the caller of :meth:`refresh`.
    :param kept: where one worker leaves what it loaded for the others, and for the next start;
        without it each has its own, in memory alone.
    """

    def __init__(self, source: TableSource, kept: KeptTable | None = None) -> None:
        self.table: ForecastTable | None = None
        self.reachable = True
        self.source = source
        self._kept = kept
        self._keeps = True

    def refresh(self) -> None:
        """Take the newest table; where it cannot be had, keep the old one and say so once."""
        try:
            self._take_newest()
        except Exception as error:  # whatever it is, riders get the old table
            if self.reachable:
                detail = log.isEnabledFor(logging.DEBUG)
                log.warning("no newer forecast can be had: %s", error, exc_info=detail)
            self.reachable = False
        else:
            if not self.reachable:
                log.warning("forecasts can be had again")
            self.reachable = True

    def _take_newest(self) -> None:
        newest = self.source.newest()
        # Not by its number alone: another database counts from 1 as well.
        if newest is None or (self.table and newest == self.table.issue):
            return
        taken = self._found(newest) or self._loaded(newest)
        if taken is not None:
            self.table = taken
            log.info("forecast %d as of %s is in use", newest.issue_id, newest.as_of.isoformat())

    def _found(self, issue: Issue | None = None) -> ForecastTable | None:
        """What is kept of the system: this issue, or whichever it is."""
        if self._kept is None:
            return None
        try:
            table = self._kept.load()
        except (OSError, ValueError) as error:
            self._cannot_keep(error)
            return None
        if table is None or table.system.system_id != self.source.system_id:
            return None
        return table if issue in (None, table.issue) else None

    def _loaded(self, issue: Issue) -> ForecastTable | None:
        """From the source, and left on disk; None while another worker is at it."""
        if self._kept is None:
            return build_table(self.source.load(issue))
        # Who has nothing to answer from waits for the other one.
        with self._kept.alone(wait=self.table is None) as alone:
            if not alone:
                return None
            if found := self._found(issue):
                return found
            table = build_table(self.source.load(issue))
            try:
                self._kept.keep(table)
            except OSError as error:
                self._cannot_keep(error)
                return table
            self._keeps = True
            # Mapped, so that the workers share it.
            return self._found(issue)

    def _cannot_keep(self, error: Exception) -> None:
        if self._keeps:
            log.warning("the forecast is in memory alone, a restart would lose it: %s", error)
        self._keeps = False

    def follow(self, every: float = POLL_SECONDS, first_within: float = 10.0) -> threading.Event:
        """Take what is kept, refresh now and then every few seconds, in a thread of this process.

        Call it after a fork: threads do not survive one.

        :param first_within: seconds to wait for the first refresh where nothing is kept, so that a
            worker whose database does not answer still starts.
        :returns: set it to end the thread.
        """
        stop, first = threading.Event(), threading.Event()

        def run() -> None:
            self.table = self._found()
            if self.table:
                first.set()
            self.refresh()
            first.set()
            while not stop.wait(every):
                self.refresh()

        threading.Thread(target=run, name="follow-forecasts", daemon=True).start()
        first.wait(first_within)
        return stop
