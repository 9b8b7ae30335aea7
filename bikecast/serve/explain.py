"""Explanations on demand: a station's stored inputs, asked of the model that made its forecast.

Look-ups need no database; this needs it, for the inputs and the model, and where one cannot be had
there is a reason in the place of the explanation.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bikecast.errors import InputError
from bikecast.explanation import HourExplanation, explain_hours
from bikecast.records import Issue
from bikecast.serve.current import CurrentTable
from bikecast.serve.table import ForecastTable

if TYPE_CHECKING:
    from bikecast.models.base import Explainable

AT_ONCE = 2  # of a worker's four threads, one at work and one waiting; the others are for look-ups

BUSY = "other explanations are being worked out: ask again"
NO_DATABASE = "the database does not answer"
NO_INPUTS = "no inputs are stored of this forecast: wait for the next issue"
NO_MODEL = "no model is stored of this forecast: wait for the next training"
OTHER_RELEASE = "another release made the model, with other features: wait for the next training"
FAILED = "the model could not be asked: see the log of the service"

T = TypeVar("T")

log = logging.getLogger(__name__)


class Unexplained(Exception):
    """There is a reason instead of an explanation."""


class Explainer:
    """Explains forecasts of whatever table is current, a few requests at a time."""

    def __init__(self, current: CurrentTable) -> None:
        self._current = current
        self._places = threading.BoundedSemaphore(AT_ONCE)
        # XGBoost may not be asked while another thread loads it or sets its parameters.
        self._asking = threading.Lock()
        self._loaded: "tuple[Issue, Explainable] | None" = None

    def explain(
        self, table: ForecastTable, station: int, steps: list[int]
    ) -> tuple[list[HourExplanation] | None, str | None]:
        """Explanations of some hours, or None and the reason.

        :param station: its place in the table; :param steps: those of its hours.
        """
        if not self._places.acquire(blocking=False):
            return None, BUSY
        try:
            return self._explain(table, station, steps), None
        except Unexplained as reason:
            return None, str(reason)
        except InputError as error:
            log.warning("no explanation: %s", error)
            return None, OTHER_RELEASE
        except Exception as error:  # whatever it is, riders get their forecast
            log.warning("no explanation: %s", error, exc_info=error)
            return None, FAILED
        finally:
            self._places.release()

    def _explain(
        self, table: ForecastTable, station: int, steps: list[int]
    ) -> list[HourExplanation]:
        source, station_id = self._current.source, table.stations[station].station_id
        inputs = self._stored(lambda: source.inputs(table.issue, station_id), NO_INPUTS)
        hours = np.array([table.horizon(step) - 1 for step in steps])
        with self._asking:
            model = self._model(table.issue)
            return explain_hours(model, inputs, hours, table.values[station, steps, :, 0])

    def _model(self, issue: Issue) -> "Explainable":
        """The model that made an issue; the first one takes a second or two."""
        if self._loaded is None or self._loaded[0] != issue:
            source = self._current.source
            packed = self._stored(lambda: source.packed_model(issue), NO_MODEL)
            from bikecast.models.portable import unpack

            self._loaded = issue, unpack(packed)
        return self._loaded[1]

    def _stored(self, ask: Callable[[], T | None], lacking: str) -> T:
        if not self._current.reachable:
            raise Unexplained(NO_DATABASE)
        try:
            found = ask()
        except Exception as error:  # as above
            log.warning("no explanation: %s", error)
            raise Unexplained(NO_DATABASE) from error
        if found is None:
            raise Unexplained(lacking)
        return found
