"""The table in use, and the thread that swaps in a newer one."""

import logging
import threading

from bikecast.serve.source import TableSource
from bikecast.serve.table import ForecastTable, build_table

POLL_SECONDS = 5.0

log = logging.getLogger(__name__)


class CurrentTable:
    """Holds the newest table that could be had; answers go on from it when the source is gone.

    Readers take ``table`` once per request: it is replaced by one assignment, never changed.

    :param source: asked for the newest issue, in the thread of the caller of :meth:`refresh`.
    """

    def __init__(self, source: TableSource) -> None:
        self.table: ForecastTable | None = None
        self.reachable = True
        self.source = source

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
        if newest is None or (self.table and newest.issue_id == self.table.issue.issue_id):
            return
        self.table = build_table(self.source.load(newest))
        log.info("forecast %d as of %s is in use", newest.issue_id, newest.as_of.isoformat())

    def follow(self, every: float = POLL_SECONDS, first_within: float = 10.0) -> threading.Event:
        """Refresh now and then every few seconds, in a thread of this process.

        Call it after a fork: threads do not survive one.

        :param first_within: seconds to wait for the first refresh, so that a worker whose
            database does not answer still starts.
        :returns: set it to end the thread.
        """
        stop, first = threading.Event(), threading.Event()

        def run() -> None:
            self.refresh()
            first.set()
            while not stop.wait(every):
                self.refresh()

        threading.Thread(target=run, name="follow-forecasts", daemon=True).start()
        first.wait(first_within)
        return stop
