"""What-ifs: an hour's forecast with other weather, from the model that made the table.

What a model saw of a station is kept after the first question: the next one needs no database.
"""

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from bikecast.errors import InputError, NotLearned
from bikecast.features.inputs import Inputs
from bikecast.records import Issue
from bikecast.serve.problems import WHAT_IF_NOT_NOW, WHAT_IF_UNAVAILABLE, Problem
from bikecast.serve.stored import FAILED, NO_SKY, OTHER_RELEASE, NotNow, Stored
from bikecast.serve.table import DECIMALS, ForecastTable
from bikecast.serve.types import UsedWeather

if TYPE_CHECKING:
    from bikecast.models.base import Askable
    from bikecast.whatif import Seen

MOST_BYTES: Final = 48_000_000
"""Of what is kept of stations in each worker, 0.5 MB of each."""
PATIENCE: Final = 0.2
"""Seconds that a first question of a station waits for those of others."""

log = logging.getLogger(__name__)


class WhatIf:
    """Asks the model behind whatever table is current."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._kept = _Kept()

    def ask(
        self, table: ForecastTable, station: int, step: int, weather: dict[str, float]
    ) -> tuple[NDArray[np.float64], UsedWeather]:
        """``VALUES`` of both targets [targets, values], and the weather of which they are.

        :param station: its place in the table; :param step: that of the hour.
        :param weather: the variables that are given.
        :raises Problem: where the model cannot tell, or cannot be had at the moment.
        """
        try:
            return self._ask(table, station, step, weather)
        except NotNow as reason:
            raise Problem(WHAT_IF_NOT_NOW, str(reason)) from None
        except NotLearned as error:
            raise Problem(WHAT_IF_UNAVAILABLE, str(error)) from None
        except InputError as error:
            log.warning("no what-if: %s", error)
            raise Problem(WHAT_IF_NOT_NOW, OTHER_RELEASE) from None
        except Exception as error:  # whatever it is, look-ups go on
            log.warning("no what-if: %s", error, exc_info=error)
            raise Problem(WHAT_IF_NOT_NOW, FAILED) from error

    def _ask(
        self, table: ForecastTable, station: int, step: int, weather: dict[str, float]
    ) -> tuple[NDArray[np.float64], UsedWeather]:
        kept = self._kept.get(table.issue, _id(table, station))
        return imagine(table, step, kept or self._fetched(table, station), weather)

    def _fetched(self, table: ForecastTable, station: int) -> "Seen":
        with self._stored.place(PATIENCE):
            from bikecast.whatif import asks_weather

            model = asks_weather(self._stored.model(table.issue))
            inputs = self._stored.inputs(table.issue, _id(table, station))
            if inputs.sky is None:
                raise NotNow(NO_SKY)
            found = ready(table, station, model, inputs)
        self._kept.put(table.issue, _id(table, station), found)
        return found


def ready(table: ForecastTable, station: int, model: "Askable", inputs: Inputs) -> "Seen":
    """What a model saw of a station, ready to be asked.

    :param station: its place in the table.
    :raises InputError: for inputs of a release with other features, or one that kept no sky.
    """
    from bikecast.whatif import seen

    return seen(model, inputs, _means(table, station, len(inputs.level)))


def imagine(
    table: ForecastTable, step: int, seen: "Seen", weather: dict[str, float]
) -> tuple[NDArray[np.float64], UsedWeather]:
    """``VALUES`` of both targets, as :meth:`WhatIf.ask` has them.

    :raises NotLearned: where too little is known of the weather to ask the model.
    """
    from bikecast.whatif import what_if

    found, used = what_if(seen, table.horizon(step) - 1, weather)
    values = np.concatenate([found.mean[:, None], found.quantiles], axis=1, dtype=float)
    return values.round(DECIMALS), cast("UsedWeather", used)


def _id(table: ForecastTable, station: int) -> str:
    """What a station is known by; its place can be another in another table of the same issue."""
    return table.stations[station].station_id


def _means(table: ForecastTable, station: int, hours: int) -> NDArray[np.float64]:
    """The forecasts of a station's hours from the origin on, NaN where there is none."""
    shown = table.values[station, :, :, 0]
    found = np.full((hours, shown.shape[1]), np.nan)
    first = table.horizon(0) - 1
    found[first : first + len(shown)] = shown
    return found


class _Kept:
    """What was seen of the stations that were asked for last, of one issue."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issue: Issue | None = None
        self._seen: "OrderedDict[str, Seen]" = OrderedDict()
        self._bytes = 0

    def get(self, issue: Issue, station: str) -> "Seen | None":
        with self._lock:
            self._begin(issue)
            if station in self._seen:
                self._seen.move_to_end(station)
            return self._seen.get(station)

    def put(self, issue: Issue, station: str, seen: "Seen") -> None:
        with self._lock:
            self._begin(issue)
            if before := self._seen.pop(station, None):
                self._bytes -= before.nbytes
            self._seen[station] = seen
            self._bytes += seen.nbytes
            while self._bytes > MOST_BYTES:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes

    def _begin(self, issue: Issue) -> None:
        """Forget what another issue's model saw, and so that model."""
        if self._issue != issue:
            self._issue, self._bytes = issue, 0
            self._seen.clear()
