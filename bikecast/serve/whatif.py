"""What is asked of the model behind the table: an hour with other weather, or of the second week.

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
from bikecast.records import KEPT_HORIZON, MAX_HORIZON, TARGETS, Issue
from bikecast.serve.problems import WHAT_IF_NOT_NOW, WHAT_IF_UNAVAILABLE, Problem
from bikecast.serve.stored import FAILED, NO_SKY, ONE_WEEK, OTHER_RELEASE, NotNow, Stored
from bikecast.serve.table import DECIMALS, ForecastTable
from bikecast.serve.types import UsedWeather

if TYPE_CHECKING:
    from bikecast.models.base import Askable, Prediction
    from bikecast.whatif import SecondWeek, Seen

MOST_BYTES: Final = 48_000_000
"""Of what is kept of stations in each worker: 0.5 MB of each for what-ifs of a week, 0.1 MB for its
second week as it is forecast."""
PATIENCE: Final = 0.2
"""Seconds that a first question of a station waits for those of others."""

log = logging.getLogger(__name__)


class WhatIf:
    """Asks the model behind whatever table is current."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._kept = _Kept()

    def ask(
        self, table: ForecastTable, station: int, step: int, weather: dict[str, float] | None
    ) -> tuple[NDArray[np.float64], UsedWeather | None]:
        """``VALUES`` of both targets [targets, values], and the weather of which they are.

        :param station: its place in the table; :param step: that of the hour, which may be one of
            the second week.
        :param weather: the variables that are given; None for an hour of the second week as it is
            forecast.
        :raises Problem: where the model cannot tell, or cannot be had at the moment.
        """
        try:
            if weather is None:
                return told(self._second_week(table, station).at(table.horizon(step) - 1)), None
            return imagine(table, step, self._seen(table, station, step), weather)
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

    def _seen(self, table: ForecastTable, station: int, step: int) -> "Seen":
        """What the model saw of the station in the week of an hour."""
        second = table.in_second_week(step)
        key = _id(table, station), "weather of the second week" if second else "weather"
        if kept := self._kept.get(table.issue, key):
            return cast("Seen", kept)
        with self._stored.place(PATIENCE):
            from bikecast.whatif import asks_weather

            model = asks_weather(self._stored.model(table.issue))
            inputs = self._inputs(table, station, second)
            if inputs.sky is None:
                raise NotNow(NO_SKY)
            found = ready(table, station, step, model, inputs)
        self._kept.put(table.issue, key, found)
        return found

    def _second_week(self, table: ForecastTable, station: int) -> "SecondWeek":
        key = _id(table, station), "second week"
        if kept := self._kept.get(table.issue, key):
            return cast("SecondWeek", kept)
        with self._stored.place(PATIENCE):
            from bikecast.whatif import second_week

            model = self._stored.model(table.issue)
            found = second_week(model, self._inputs(table, station, second=True))
        self._kept.put(table.issue, key, found)
        return found

    def _inputs(self, table: ForecastTable, station: int, second: bool) -> Inputs:
        inputs = self._stored.inputs(table.issue, _id(table, station))
        if second and len(inputs.level) < KEPT_HORIZON:
            raise NotNow(ONE_WEEK)
        return inputs


def ready(
    table: ForecastTable, station: int, step: int, model: "Askable", inputs: Inputs
) -> "Seen":
    """What a model saw of a station in the week of an hour, ready to be asked.

    :param station: its place in the table; :param step: that of the hour.
    :raises InputError: for inputs of a release with other features, or that kept no sky or less.
    """
    from bikecast.whatif import seen

    if table.in_second_week(step):
        return seen(model, inputs, np.full((MAX_HORIZON, len(TARGETS)), np.nan), MAX_HORIZON)
    return seen(model, inputs, _means(table, station, min(len(inputs.level), MAX_HORIZON)))


def told(found: "Prediction") -> NDArray[np.float64]:
    """``VALUES`` of an hour's targets, as those of a table: [targets, values]."""
    values = np.concatenate([found.mean[:, None], found.quantiles], axis=1, dtype=float)
    return values.round(DECIMALS)


def imagine(
    table: ForecastTable, step: int, seen: "Seen", weather: dict[str, float]
) -> tuple[NDArray[np.float64], UsedWeather]:
    """``VALUES`` of both targets, as :meth:`WhatIf.ask` has them.

    :raises NotLearned: where too little is known of the weather to ask the model.
    """
    from bikecast.whatif import what_if

    found, used = what_if(seen, table.horizon(step) - 1, weather)
    return told(found), cast("UsedWeather", used)


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


_Key = tuple[str, str]
"""A station, and what is asked of it."""


class _Kept:
    """What was seen of the stations that were asked for last, of one issue."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issue: Issue | None = None
        self._seen: "OrderedDict[_Key, Seen | SecondWeek]" = OrderedDict()
        self._bytes = 0

    def get(self, issue: Issue, key: _Key) -> "Seen | SecondWeek | None":
        with self._lock:
            self._begin(issue)
            if key in self._seen:
                self._seen.move_to_end(key)
            return self._seen.get(key)

    def put(self, issue: Issue, key: _Key, seen: "Seen | SecondWeek") -> None:
        with self._lock:
            self._begin(issue)
            if before := self._seen.pop(key, None):
                self._bytes -= before.nbytes
            self._seen[key] = seen
            self._bytes += seen.nbytes
            while self._bytes > MOST_BYTES:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes

    def _begin(self, issue: Issue) -> None:
        """Forget what another issue's model saw, and so that model."""
        if self._issue != issue:
            self._issue, self._bytes = issue, 0
            self._seen.clear()
