"""The only feature code: training, backtest and serving all call :func:`features`.

A feature of the pair (origin o, hour t = o + step) uses flows at indices below ``o``, the calendar,
and the weather that was known at ``o``; nothing else. The grid has 24 rows on every civil day, so
index arithmetic is civil arithmetic on either side of a clock change (see ``history``).

**The level** is the forecast to beat and the base margin of the learning models: half the mean of
the same hour in the last 4 weeks, half the mean of that hour on the last 10 days of its kind
(working day or not). Where a station has neither, it is the system's profile of the hour, scaled
by what is known of the station.
"""

from dataclasses import dataclass, replace
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bikecast.features.past import (
    LEAST_LEVEL,
    WEEK,
    Past,
    blend,
    kind_hours,
    last_day,
    last_week,
    past_of,
    raw_past,
    weekly_hours,
)
from bikecast.features.recent import (
    NET_WINDOWS,
    STATION_WINDOWS,
    SYSTEM_NOW,
    SYSTEM_WINDOWS,
    recent_columns,
)
from bikecast.features.sky import RELATIVE, Sky, sky_at, weather_columns
from bikecast.features.usual import LONGER, usual_columns
from bikecast.history import Calendar, Floats, History, Ints
from bikecast.records import MAX_HORIZON, TARGETS, WEATHER

__all__ = [
    "Features",
    "LEAST_LEVEL",
    "LONGER",
    "NAMES",
    "STATION_WINDOWS",
    "SYSTEM_WINDOWS",
    "features",
    "level",
    "pairs",
    "sky_ahead",
    "weekly_hours",
    "weekly_mean",
]

NAMES: Final = (
    "step",
    "returns",
    "hour",
    "weekday",
    "workday",
    "holiday",
    "workday_before",
    "workday_after",
    "holiday_before",
    "holiday_after",
    "yearday",
    "log_level",
    "log_week",
    "log_kind",
    "log_kind_recent",
    "log_size",
    "log_other_level",
    *LONGER,
    "share",
    "scatter",
    "last_week",
    "yesterday",
    "missed",
    *(f"station_{w}h" for w in STATION_WINDOWS),
    *(f"other_{w}h" for w in STATION_WINDOWS),
    *(f"system_{w}h" for w in SYSTEM_WINDOWS),
    *SYSTEM_NOW,
    *(f"net_{w}h" for w in NET_WINDOWS),
    "capacity",
    "station",
    *WEATHER,
    *RELATIVE,
)
"""Features in column order. ``log_…`` are logarithms of bikes per hour; ``station_…``, ``other_…``
(the opposite flow) and ``system_…`` are logarithms of what was seen in the last hours to what the
level had said for them; ``last_week`` and ``yesterday`` the same for one hour, ``system_before``
for the two hours before the last; ``system_out`` is the logarithm of the system's pickups of two
hours to its returns, ``net_…`` the bikes that a station has gained; ``missed`` the logarithm of
bikes that should have come since the station's last one. ``LONGER`` are logarithms of a mean of
past hours to the level: ``usual_…`` of usual flows, ``_smooth`` with the hours before and after;
``share`` that of the station's share of the system on 40 days of the kind times the system's level,
to the level; ``scatter`` the logarithm of the variance of the last 20 days of the kind to their
mean; ``station`` a number that stands for the station's id, of which nothing else can be told."""


@dataclass(frozen=True, eq=False)
class Features:
    """What a model sees of a set of pairs.

    :param values: [pairs, stations, targets, len(NAMES)], NaN where unknown.
    :param level: bikes per hour, [pairs, stations, targets], positive everywhere.
    """

    values: Floats
    level: Floats


def features(
    history: History,
    origins: Ints,
    steps: Ints,
    *,
    time_of_year: bool = True,
    past: Past | None = None,
) -> Features:
    """Features of pairs of an origin and a step, for every station and target.

    Memory grows with pairs x stations and with the span of the origins: ask in pieces.

    :param origins: grid index of each pair's origin; every hour below it is known.
    :param steps: 0 … 335, the hour ``origin + step`` is forecast. Models learn 168 hours; in the
        second week they are told that it is as far ahead as they know.
    :param time_of_year: give the day of the year; on less than a year of data a model would
        extrapolate it.
    :param past: that of these and of other origins, which is better found once than for each piece.
    """
    hours = origins + steps
    calendar = history.calendar(0, int(hours.max()) + 25)
    past = past or past_of(history, calendar, origins)
    weekly = weekly_hours(origins, hours)
    days = kind_hours(calendar, hours, last_day(origins, hours))
    week, kind = past.mean(weekly), past.mean(days)
    base = _level(history, past, origins, days, week, kind)
    recent = recent_columns(past, origins, hours)
    usual = usual_columns(past, calendar, origins, hours, base)
    shape = (len(hours), len(history.stations), len(TARGETS))
    above = weather_columns(history, origins, hours, np.concatenate([weekly, days], axis=1))
    columns: dict[str, NDArray[np.generic]] = {
        **_calendar_columns(calendar, hours, time_of_year),
        "step": _per_pair(np.minimum(steps, MAX_HORIZON - 1)),
        "returns": np.arange(len(TARGETS)),
        "log_level": np.log(base),
        "log_week": np.log(week + LEAST_LEVEL),
        "log_kind": np.log(kind + LEAST_LEVEL),
        "log_kind_recent": np.log(past.mean(days[:, -3:]) + LEAST_LEVEL),
        "log_other_level": np.log(base[..., ::-1]),
        "last_week": np.log((past.at(last_week(origins, hours)) + 1) / (base + 1)),
        "missed": np.log1p(past.missed[past.rows(origins - 1)])[..., None],
        **recent,
        **usual,
        "capacity": np.array([[s.capacity or np.nan] for s in history.stations], np.float32),
        "station": np.array([[_number(s.station_id)] for s in history.stations], np.float32),
        **{name: _per_pair(values) for name, values in above.items()},
    }
    values = np.empty((*shape, len(NAMES)), np.float32)
    for i, name in enumerate(NAMES):
        values[..., i] = columns[name]
    return Features(values, base)


def sky_ahead(history: History, origin: int, horizon: int) -> Sky:
    """Of what the features of the weather of an origin's coming hours are made."""
    hours = origin + np.arange(horizon)
    calendar = history.calendar(0, int(hours.max()) + 25)
    origins = np.full(horizon, origin)
    days = kind_hours(calendar, hours, last_day(origins, hours))
    return sky_at(history, origin, np.concatenate([weekly_hours(origins, hours), days], axis=1))


def level(history: History, origins: Ints, steps: Ints) -> Floats:
    """The level alone, as in :func:`features`: [pairs, stations, targets], positive."""
    hours = origins + steps
    calendar = history.calendar(0, int(hours.max()) + 25)
    past = past_of(history, calendar, origins)
    days = kind_hours(calendar, hours, last_day(origins, hours))
    week = past.mean(weekly_hours(origins, hours))
    return _level(history, past, origins, days, week, past.mean(days))


def weekly_mean(history: History, origins: Ints, steps: Ints, weeks: int) -> Floats:
    """The mean of the same hour in the last ``weeks`` weeks before the origin, NaN without any.

    :returns: bikes per hour, [pairs, stations, targets].
    """
    return raw_past(history, origins).mean(weekly_hours(origins, origins + steps, weeks))


def pairs(origins: Ints, horizon: int) -> tuple[Ints, Ints]:
    """Every pair of one of ``origins`` and a step below ``horizon``, the steps running fastest."""
    return np.repeat(origins, horizon), np.tile(np.arange(horizon), len(origins))


def _number(station_id: str) -> int:
    """The same in every history, whichever other stations are there; float32 holds it.

    Two of 2,200 stations have the same one in 13 of 100 systems; they are taken for one then.
    """
    return crc32(station_id.encode()) % 2**24


def _per_pair(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values[:, None, None]


def _level(
    history: History, past: Past, origins: Ints, days: Ints, week: Floats, kind: Floats
) -> Floats:
    found = blend(week, kind)
    unknown: NDArray[np.bool_] = np.asarray(np.isnan(found).any(axis=(0, 2)))
    if unknown.any():
        stand_in = _stand_in(history, past, origins, days, unknown)
        found[:, unknown] = np.where(np.isnan(found[:, unknown]), stand_in, found[:, unknown])
    return found + np.float32(LEAST_LEVEL)


def _stand_in(
    history: History, past: Past, origins: Ints, days: Ints, stations: NDArray[np.bool_]
) -> Floats:
    """A level for stations without recent days: the system's profile times the station's size.

    The size is what the station has seen in all its known hours relative to the mean station in
    the same hours, with one day of the mean station added to both, so that a station without
    history counts as the mean one.

    :returns: [pairs, stations asked for, targets].
    """
    known = past.known.sum(axis=1, keepdims=True)
    mean_station = past.values.sum(axis=1, keepdims=True) / np.maximum(known, 1)
    system = replace(past, values=mean_station, known=(known > 0).astype(np.float32))
    profile = np.nan_to_num(system.mean(days))

    at, pair = np.unique(origins, return_inverse=True)
    day = np.nan_to_num(system.mean(at[:, None] - np.arange(1, WEEK + 1))) * 24
    flows = history.flows[:, : int(at[-1])]
    everyone = np.isfinite(flows).sum(axis=0)
    mean = np.nansum(flows, axis=0) / np.maximum(everyone, 1)
    seen = flows[stations]
    ours = _sums_before(np.nan_to_num(seen), at) + day
    theirs = _sums_before(np.where(np.isfinite(seen), mean, 0), at) + day
    scale = np.where(theirs > 0, ours / np.maximum(theirs, LEAST_LEVEL), 1)
    return (profile * scale[pair]).astype(np.float32)


def _sums_before(flows: NDArray[np.floating], origins: Ints) -> NDArray[np.float64]:
    """Sums of [stations, hours, targets] over all hours before each origin, origins first."""
    sums = np.zeros((flows.shape[1] + 1, flows.shape[0], flows.shape[2]))
    np.cumsum(flows.transpose(1, 0, 2), axis=0, out=sums[1:])
    return sums[origins]


def _calendar_columns(
    calendar: Calendar, hours: Ints, time_of_year: bool
) -> dict[str, NDArray[np.generic]]:
    before, after = np.maximum(hours - 24, hours % 24), hours + 24
    yearday = calendar.yearday[hours] if time_of_year else np.full(len(hours), np.nan)
    columns = {
        "hour": calendar.hour[hours],
        "weekday": calendar.weekday[hours],
        "workday": calendar.workday[hours],
        "holiday": calendar.holiday[hours],
        "workday_before": calendar.workday[before],
        "workday_after": calendar.workday[after],
        "holiday_before": calendar.holiday[before],
        "holiday_after": calendar.holiday[after],
        "yearday": yearday,
    }
    return {name: _per_pair(values) for name, values in columns.items()}
