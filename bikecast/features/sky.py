"""The weather of an hour, and how it differs from that of the hours that the level is made of.

The level has the weather of the last weeks in it: 25 °C are cool after a hot July, and warm in
October. People also plan by the day. Measured with observed weather day-ahead on the 84 days before
2018-07-16, New York: trees alone MAE 3.526 with the weather of the hour, 3.485 with the first eight
of ``RELATIVE`` as well, 3.450 with all of them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

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

_BEFORE, _AFTER = 6, 3
_OF_DAY = np.arange(6, 22)
_TEMPERATURE, _RAIN, _WIND, _CLOUD = (
    WEATHER.index(name) for name in ("temperature", "precipitation", "wind_speed", "cloud_cover")
)


def weather_columns(
    history: History, origins: Ints, hours: Ints, level_hours: Ints
) -> dict[str, NDArray[np.generic]]:
    """Columns [pairs] of ``WEATHER`` and ``RELATIVE``, as known at each origin, NaN where unknown.

    :param level_hours: past hours of the level of each pair [pairs, hours], -1 where there is none.
    """
    names = (*WEATHER, *RELATIVE)
    if history.weather is None:
        return dict.fromkeys(names, np.full(len(hours), np.nan, np.float32))
    around = hours[:, None] + np.arange(-_BEFORE, _AFTER + 1)
    day = hours[:, None] // 24 * 24 + _OF_DAY
    ago = hours[:, None] - np.array([24, 168])
    asked = (around, day, day - 24, ago, level_hours)
    known = _known(history, origins, np.concatenate(asked, axis=1))
    stops = np.cumsum([part.shape[1] for part in asked])
    near, today, before, past, level = np.split(known, stops[:-1], axis=1)
    now = near[:, _BEFORE]
    there = np.where(np.isnan(now[:, _RAIN]), np.float32(np.nan), np.float32(0))
    usual = _mean(_wet(level))
    warm = _mean(today[..., _TEMPERATURE])
    found = (
        now[:, _TEMPERATURE] - _mean(level[..., _TEMPERATURE]),
        now[:, _CLOUD] - _mean(level[..., _CLOUD]),
        usual,
        _wet(now) - usual,
        there + np.nansum(near[:, _BEFORE - 1 : _BEFORE + 2, _RAIN], axis=1),
        there + np.nansum(near[:, :_BEFORE, _RAIN], axis=1),
        there + np.nansum(near[:, _BEFORE + 1 :, _RAIN], axis=1),
        there + np.nansum(today[..., _RAIN], axis=1),
        near[:, _BEFORE + 1, _RAIN],
        warm,
        _mean(today[..., _WIND]),
        _mean(today[..., _CLOUD]),
        there + np.nansum(before[..., _RAIN], axis=1),
        warm - _mean(before[..., _TEMPERATURE]),
        past[:, 0, _RAIN],
        past[:, 1, _RAIN],
        now[:, _TEMPERATURE] - past[:, 1, _TEMPERATURE],
    )
    return dict(zip(names, (*now.T, *found), strict=True))


def _known(history: History, origins: Ints, hours: Ints) -> Floats:
    """Weather of hours [pairs, hours] as known at each pair's origin: [pairs, hours, variables]."""
    assert history.weather is not None
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
    return np.where(np.isnan(rain), np.float32(np.nan), (rain > WET).astype(np.float32))


def _mean(values: Floats) -> Floats:
    """Of the known along the last axis, NaN without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
