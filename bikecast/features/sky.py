"""The weather of an hour, and how it differs from that of the hours that the level is made of.

The level has the weather of the last weeks in it: 25 °C are cool after a hot July, and warm in
October. People also plan by the day. Measured with observed weather day-ahead on the 84 days before
2018-07-16, New York: trees alone MAE 3.526 with the weather of the hour, 3.485 with the first eight
of ``RELATIVE`` as well, 3.450 with all of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bikecast.features.past import WEEK, last_week
from bikecast.history import Floats, History, Ints
from bikecast.records import WEATHER

RELATIVE: Final = (
    "temperature_change",
    "cloud_change",
    "wet_usual",
    "wet_change",
    "rain_around",
    "rain_before",
    "rain_after",
    "rain_day",
    "rain_next",
    "temperature_day",
    "wind_day",
    "cloud_day",
    "rain_day_before",
    "warmer_than_day_before",
    "rain_yesterday",
    "rain_last_week",
    "warmer_than_last_week",
)
"""Beside ``WEATHER``: °C and percent more than in the hours of the level; the share of those that
were wet, and whether this one is, less that share; mm in the hour and those beside it, in the six
before, in the three after, and from 6 to 22 o'clock of its day; mm in the hour after it; the means
of those hours of its day; mm in those of the day before, and °C that they are warmer than those; mm
a day and a week before the hour, and °C that it is warmer than a week before."""

RAIN: Final = ("precipitation", *(name for name in RELATIVE if name.startswith("rain_")))
"""Those that are mm."""

WET: Final = 0.1
"""mm in the hour; less is no rain that anybody minds."""

COLUMNS: Final = (*WEATHER, *RELATIVE)
"""What is told of an hour's weather."""

_BEFORE, _AFTER = 6, 3
_OF_DAY = np.arange(6, 22)
_DAYS_BEFORE = 8
_NEAR = _BEFORE + 1 + _AFTER
_TODAY, _DAY_BEFORE = (
    slice(_NEAR + i * len(_OF_DAY), _NEAR + (i + 1) * len(_OF_DAY)) for i in (0, 1)
)
_sum = np.add.reduce  # without what `np.sum` looks at first: a microsecond each
_AROUND = np.array(
    [
        [*range(-_BEFORE, _AFTER + 1), *(_OF_DAY - clock), *(_OF_DAY - clock - 24), -24, -WEEK]
        for clock in range(24)
    ]
)
"""Of whose weather the columns are made, in hours from the one that they are of, for each hour of
the day: those near it, of its day from 6 to 22 o'clock, of the day before, a day and a week ago. Of
an hour more than a week ahead the last is two weeks ago: the week that its flow is known of."""
_ITSELF = [np.flatnonzero(away == 0) for away in _AROUND]
_TEMPERATURE, _RAIN, _WIND, _CLOUD = (
    WEATHER.index(name) for name in ("temperature", "precipitation", "wind_speed", "cloud_cover")
)


def weather_columns(
    history: History, origins: Ints, hours: Ints, level_hours: Ints
) -> dict[str, NDArray[np.generic]]:
    """Columns [pairs] of ``COLUMNS``, as known at each origin, NaN where unknown.

    :param level_hours: past hours of the level of each pair [pairs, hours], -1 where there is none.
    """
    if history.weather is None:
        return dict.fromkeys(COLUMNS, np.full(len(hours), np.nan, np.float32))
    around = hours[:, None] + _AROUND[hours % 24]
    around[:, -1] = last_week(origins, hours)
    known = _known(history, origins, np.concatenate([around, level_hours], axis=1))
    split = around.shape[1]
    found = _columns(known[:, :split], _usual(known[:, split:]))
    return dict(zip(COLUMNS, found.T, strict=True))


@dataclass(frozen=True, eq=False)
class Sky:
    """The weather as it was known at one origin: all that the columns of coming hours are made of.

    :param hourly: [hours, variables], from a midnight more than a week before the origin on, NaN
        where unknown.
    :param first: place of the origin in it.
    :param usual: what was usual in the hours of the level, of each coming hour: °C, percent of
        clouds, share of wet hours, [coming hours, 3].
    """

    hourly: Floats
    first: int
    usual: Floats

    def columns(self, step: int, weather: Floats) -> Floats:
        """``COLUMNS`` of a coming hour that has this weather: [columns].

        :param weather: [variables]; that of all other hours stays what was known of it.
        """
        at = self.first + step
        clock = at % 24
        around = at + _AROUND[clock]
        if step >= WEEK:
            around[-1] -= WEEK
        known = self.hourly[around]
        known[_ITSELF[clock]] = weather
        found: Floats = _columns(known[None], self.usual[step : step + 1])[0]
        return found

    def weather(self, step: int) -> Floats:
        """What was known of a coming hour: [variables]."""
        found: Floats = self.hourly[self.first + step]
        return found


def sky_at(history: History, origin: int, level_hours: Ints) -> Sky:
    """The weather as known at an origin.

    :param level_hours: of each coming hour, as in :func:`weather_columns`.
    """
    start, last = (origin // 24 - _DAYS_BEFORE) * 24, origin + len(level_hours) - 1
    hours = np.arange(start, (last // 24 + 1) * 24 + _AFTER)
    usual = _usual(_known(history, np.full(len(level_hours), origin), level_hours))
    hourly = _known(history, np.array([origin]), hours[None])[0]
    return Sky(hourly, origin - start, usual)


def _columns(known: Floats, usual: Floats) -> Floats:
    """``COLUMNS`` from the weather of the hours of ``_AROUND``: [pairs, columns].

    :param usual: as in ``Sky``, [pairs, 3].
    """
    now, rain, degrees = known[:, _BEFORE], known[..., _RAIN], known[..., _TEMPERATURE]
    there = now[:, _RAIN] * np.float32(0)  # NaN where nothing is known of the hour
    fell = np.where(np.isnan(rain), np.float32(0), rain)
    of_day = [known[:, _TODAY, i] for i in (_TEMPERATURE, _WIND, _CLOUD)]
    warm, wind, cloud, warm_before = _mean(np.array([*of_day, degrees[:, _DAY_BEFORE]]))
    usually_warm, usually_cloudy, usually_wet = usual.T
    found = (
        now[:, _TEMPERATURE] - usually_warm,
        now[:, _CLOUD] - usually_cloudy,
        usually_wet,
        _wet(now) - usually_wet,
        there + _sum(fell[:, _BEFORE - 1 : _BEFORE + 2], 1),
        there + _sum(fell[:, :_BEFORE], 1),
        there + _sum(fell[:, _BEFORE + 1 : _NEAR], 1),
        there + _sum(fell[:, _TODAY], 1),
        rain[:, _BEFORE + 1],
        warm,
        wind,
        cloud,
        there + _sum(fell[:, _DAY_BEFORE], 1),
        warm - warm_before,
        rain[:, -2],
        rain[:, -1],
        now[:, _TEMPERATURE] - degrees[:, -1],
    )
    return np.array([*now.T, *found]).T


def _usual(level: Floats) -> Floats:
    """°C, percent of clouds and the share of wet hours, of hours [pairs, hours, variables]."""
    found = (_mean(level[..., _TEMPERATURE]), _mean(level[..., _CLOUD]), _mean(_wet(level)))
    return np.stack(found, axis=1)


def _known(history: History, origins: Ints, hours: Ints) -> Floats:
    """Weather of hours [pairs, hours] as known at each pair's origin: [pairs, hours, variables]."""
    if history.weather is None:
        return np.full((*hours.shape, len(WEATHER)), np.nan, np.float32)
    values = np.empty((*hours.shape, len(WEATHER)), np.float32)
    # Pairs of one origin are asked for together.
    order = np.argsort(origins, kind="stable")
    at, starts = np.unique(origins[order], return_index=True)
    for origin, pairs in zip(at, np.split(order, starts[1:]), strict=True):
        asked = hours[pairs]
        values[pairs] = history.weather.at(int(origin), asked.ravel()).reshape(*asked.shape, -1)
    return values


def _wet(weather: Floats) -> Floats:
    """1 where it rains, 0 where not, NaN where unknown: [..., variables] → [...]."""
    rain = weather[..., _RAIN]
    found: Floats = (rain > WET) + rain * np.float32(0)
    return found


def _mean(values: Floats) -> Floats:
    """Of the known along the last axis, NaN without any."""
    known = np.isfinite(values)
    total = _sum(np.where(known, values, np.float32(0)), -1)
    count = _sum(known, -1, np.intp)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
