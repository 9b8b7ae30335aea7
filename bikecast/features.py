"""The only feature code: training, backtest and serving all call :func:`features`.

A feature of the pair (origin o, hour t = o + step) uses flows at indices below ``o``, the calendar,
and the weather that was known at ``o``; nothing else. The grid has 24 rows on every civil day, so
index arithmetic is civil arithmetic on either side of a clock change (see ``history``).

**The level** is the forecast to beat and the base margin of the learning models: half the mean of
the same hour in the last 4 weeks, half the mean of that hour on the last 10 days of its kind
(working day or not). Where a station has neither, it is the system's profile of the hour, scaled
by what is known of the station.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bikecast.history import Calendar, Floats, History, Ints
from bikecast.records import TARGETS, WEATHER

WEEK: Final = 168
WEEKS: Final = 4
KIND_DAYS: Final = 10
LEAST_LEVEL: Final = 0.05
"""Added to every level, in bikes per hour, so that its logarithm exists."""

STATION_WINDOWS: Final = (1, 2, 3, 6, 24, WEEK)
SYSTEM_WINDOWS: Final = (1, 3, 24, WEEK)
FRESH_HOURS: Final = 6
"""The system's last hours are a feature this many hours ahead, and unknown behind that: they are
the same for all stations, so trees would know each day by them and learn its weather by heart
(measured with every step: day-ahead MAE 4.02 instead of 3.98, net-flow error 19.8 instead of
12.8)."""

# Ten days of one kind can lie 5 weeks back and more in a run of holidays, behind the week of the
# longest window.
LOOKBACK_DAYS: Final = 70

NAMES: Final = (
    "step",
    "returns",
    "hour",
    "weekday",
    "workday",
    "holiday",
    "workday_before",
    "workday_after",
    "holiday_near",
    "yearday",
    "log_level",
    "log_week",
    "log_kind",
    "log_kind_recent",
    "log_size",
    "log_other_level",
    "last_week",
    "yesterday",
    *(f"station_{w}h" for w in STATION_WINDOWS),
    *(f"other_{w}h" for w in STATION_WINDOWS),
    *(f"system_{w}h" for w in SYSTEM_WINDOWS),
    "capacity",
    *WEATHER,
)
"""Features in column order. ``log_…`` are logarithms of bikes per hour; ``station_…``, ``other_…``
(the opposite flow) and ``system_…`` are logarithms of what was seen in the last hours to what the
level had said for them; ``last_week`` and ``yesterday`` the same for one hour."""


@dataclass(frozen=True, eq=False)
class Features:
    """What a model sees of a set of pairs.

    :param values: [pairs, stations, targets, len(NAMES)], NaN where unknown.
    :param level: bikes per hour, [pairs, stations, targets], positive everywhere.
    """

    values: Floats
    level: Floats


@dataclass(frozen=True, eq=False)
class _Past:
    """Flows with the hours first, from ``first`` on; the last row stands for all other hours.

    :param values: [hours + 1, stations, targets], 0 where unknown.
    :param known: the same shape, 1 where known.
    """

    first: int
    values: Floats
    known: Floats

    def rows(self, hours: Ints) -> Ints:
        """Where these grid hours are found."""
        at = hours - self.first
        return np.where((at >= 0) & (at < len(self.values) - 1), at, len(self.values) - 1)

    def at(self, hours: Ints) -> Floats:
        """Flows of these hours, NaN where unknown: [hours, stations, targets]."""
        rows = self.rows(hours)
        return np.where(self.known[rows] > 0, self.values[rows], np.float32(np.nan))

    def mean(self, hours: Ints) -> Floats:
        """Means of the known among ``hours`` [n, k], NaN without any: [n, stations, targets]."""
        total = np.zeros((len(hours), *self.values.shape[1:]), np.float32)
        count = np.zeros_like(total)
        for k in range(hours.shape[1]):
            rows = self.rows(hours[:, k])
            total += self.values[rows]
            count += self.known[rows]
        return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan))


def weekly_hours(hours: Ints, weeks: int = WEEKS) -> Ints:
    """The same hour 1 … ``weeks`` weeks before: [hours, weeks].

    A week before any hour of a horizon of up to 168 is known at the origin.
    """
    return hours[:, None] - WEEK * np.arange(1, weeks + 1)


def features(
    history: History, origins: Ints, steps: Ints, *, time_of_year: bool = True
) -> Features:
    """Features of pairs of an origin and a step, for every station and target.

    Memory grows with pairs x stations and with the span of the origins: ask in pieces.

    :param origins: grid index of each pair's origin; every hour below it is known.
    :param steps: 0 … 167, the hour ``origin + step`` is forecast.
    :param time_of_year: give the day of the year; on less than a year of data a model would
        extrapolate it.
    """
    hours = origins + steps
    calendar = history.calendar(0, int(hours.max()) + 25)
    past = _past(history, origins)
    kind_hours = _kind_hours(calendar, hours, _last_day(origins, hours))
    week, kind = past.mean(weekly_hours(hours)), past.mean(kind_hours)
    base = _level(history, past, origins, kind_hours, week, kind)
    recent = _recent(past, calendar, origins, hours)
    shape = (len(hours), len(history.stations), len(TARGETS))
    columns: dict[str, NDArray[np.generic]] = {
        **_calendar_columns(calendar, hours, time_of_year),
        "step": _per_pair(steps),
        "returns": np.arange(len(TARGETS)),
        "log_level": np.log(base),
        "log_week": np.log(week + LEAST_LEVEL),
        "log_kind": np.log(kind + LEAST_LEVEL),
        "log_kind_recent": np.log(past.mean(kind_hours[:, -3:]) + LEAST_LEVEL),
        "log_other_level": np.log(base[..., ::-1]),
        "last_week": np.log((past.at(hours - WEEK) + 1) / (base + 1)),
        **recent,
        "capacity": np.array([[s.capacity or np.nan] for s in history.stations], np.float32),
        **_weather_columns(history, origins, hours),
    }
    values = np.empty((*shape, len(NAMES)), np.float32)
    for i, name in enumerate(NAMES):
        values[..., i] = columns[name]
    return Features(values, base)


def level(history: History, origins: Ints, steps: Ints) -> Floats:
    """The level alone, as in :func:`features`: [pairs, stations, targets], positive."""
    hours = origins + steps
    past = _past(history, origins)
    calendar = history.calendar(0, int(hours.max()) + 1)
    kind_hours = _kind_hours(calendar, hours, _last_day(origins, hours))
    week, kind = past.mean(weekly_hours(hours)), past.mean(kind_hours)
    return _level(history, past, origins, kind_hours, week, kind)


def weekly_mean(history: History, origins: Ints, steps: Ints, weeks: int) -> Floats:
    """The mean of the same hour in the last ``weeks`` weeks, NaN where none is known.

    :returns: bikes per hour, [pairs, stations, targets].
    """
    return _past(history, origins).mean(weekly_hours(origins + steps, weeks))


def pairs(origins: Ints, horizon: int) -> tuple[Ints, Ints]:
    """Every pair of one of ``origins`` and a step below ``horizon``, the steps running fastest."""
    return np.repeat(origins, horizon), np.tile(np.arange(horizon), len(origins))


def _per_pair(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values[:, None, None]


def _past(history: History, origins: Ints) -> _Past:
    first = max(0, int(origins.min()) // 24 - LOOKBACK_DAYS) * 24
    flows = history.flows[:, first : int(origins.max())].transpose(1, 0, 2)
    flows = np.concatenate([flows, np.full((1, *flows.shape[1:]), np.nan, np.float32)])
    known = np.isfinite(flows)
    return _Past(first, np.where(known, flows, np.float32(0)), known.astype(np.float32))


def _kind_hours(calendar: Calendar, hours: Ints, last_day: Ints) -> Ints:
    """The hour of the day on the last days of its kind up to ``last_day``, oldest first.

    :returns: [hours, KIND_DAYS], -1 where there are fewer days.
    """
    workday = calendar.workday[::24]
    days = np.empty((len(hours), KIND_DAYS), np.int64)
    for kind in (False, True):
        ours = calendar.workday[hours] == kind
        alike = np.concatenate([np.full(KIND_DAYS, -1), np.flatnonzero(workday == kind)])
        so_far = np.cumsum(np.concatenate([[0], workday == kind]))[last_day[ours] + 1]
        days[ours] = alike[so_far[:, None] + np.arange(KIND_DAYS)]
    return np.where(days >= 0, days * 24 + hours[:, None] % 24, -1)


def _last_day(origins: Ints, hours: Ints) -> Ints:
    """The last day on which the hour of the day had ended at the origin."""
    return origins // 24 - 1 + (hours % 24 < origins % 24)


def _level(
    history: History, past: _Past, origins: Ints, kind_hours: Ints, week: Floats, kind: Floats
) -> Floats:
    found = _blend(week, kind)
    unknown: NDArray[np.bool_] = np.asarray(np.isnan(found).any(axis=(0, 2)))
    if unknown.any():
        stand_in = _stand_in(history, past, origins, kind_hours, unknown)
        found[:, unknown] = np.where(np.isnan(found[:, unknown]), stand_in, found[:, unknown])
    return found + np.float32(LEAST_LEVEL)


def _blend(week: Floats, kind: Floats) -> Floats:
    both = (week + kind) / 2
    return np.where(np.isnan(week), kind, np.where(np.isnan(kind), week, both))


def _stand_in(
    history: History, past: _Past, origins: Ints, kind_hours: Ints, stations: NDArray[np.bool_]
) -> Floats:
    """A level for stations without recent days: the system's profile times the station's size.

    The size is what the station has seen in all its known hours relative to the mean station in
    the same hours, with one day of the mean station added to both, so that a station without
    history counts as the mean one.

    :returns: [pairs, stations asked for, targets].
    """
    known = past.known.sum(axis=1, keepdims=True)
    mean_station = past.values.sum(axis=1, keepdims=True) / np.maximum(known, 1)
    system = _Past(past.first, mean_station, (known > 0).astype(np.float32))
    profile = np.nan_to_num(system.mean(kind_hours))

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


def _recent(
    past: _Past, calendar: Calendar, origins: Ints, hours: Ints
) -> dict[str, NDArray[np.generic]]:
    """How the last hours compared with their level, as known at the midnight before each."""
    first = max(0, int(origins.min()) - WEEK)
    before = np.arange(first, int(origins.max()))
    expected = _blend(
        past.mean(weekly_hours(before)),
        past.mean(_kind_hours(calendar, before, before // 24 - 1)),
    )
    seen = past.at(before)
    both = np.isfinite(seen) & np.isfinite(expected)
    seen, expected = np.where(both, seen, 0), np.where(both, expected, 0)
    columns: dict[str, NDArray[np.generic]] = {}
    for who, windows, axes in (("station", STATION_WINDOWS, ()), ("system", SYSTEM_WINDOWS, (1,))):
        was = _running(seen.sum(axis=axes, keepdims=True) if axes else seen)
        said = _running(expected.sum(axis=axes, keepdims=True) if axes else expected)
        for w in windows:
            stop, start = origins - first, np.maximum(origins - w - first, 0)
            ratio = np.log((was[stop] - was[start] + 1) / (said[stop] - said[start] + 1))
            columns[f"{who}_{w}h"] = ratio
            if who == "station":
                columns[f"other_{w}h"] = ratio[..., ::-1]
                # The last window is the longest, so the week's mean stays.
                columns["log_size"] = np.log((said[stop] - said[start]) / w + LEAST_LEVEL)
    for w in SYSTEM_WINDOWS[:2]:
        fresh = _per_pair(hours - origins < FRESH_HOURS)
        columns[f"system_{w}h"] = np.where(fresh, columns[f"system_{w}h"], np.nan)
    columns["yesterday"] = _yesterday(seen, expected, origins, hours, first)
    return columns


def _running(values: Floats) -> NDArray[np.float64]:
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums


def _yesterday(
    seen: Floats, expected: Floats, origins: Ints, hours: Ints, first: int
) -> NDArray[np.floating]:
    ratio = np.full((len(hours), *seen.shape[1:]), np.nan)
    there = (hours - 24 < origins) & (hours - 24 >= first)
    at = hours[there] - 24 - first
    ratio[there] = np.log((seen[at] + 1) / (expected[at] + 1))
    return ratio


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
        "holiday_near": calendar.holiday[before] | calendar.holiday[after],
        "yearday": yearday,
    }
    return {name: _per_pair(values) for name, values in columns.items()}


def _weather_columns(
    history: History, origins: Ints, hours: Ints
) -> dict[str, NDArray[np.generic]]:
    values = np.full((len(hours), len(WEATHER)), np.nan, np.float32)
    if history.weather is not None:
        # Pairs of one origin are asked for together.
        order = np.argsort(origins, kind="stable")
        at, starts = np.unique(origins[order], return_index=True)
        for origin, pairs in zip(at, np.split(order, starts[1:]), strict=True):
            values[pairs] = history.weather.at(int(origin), hours[pairs])
    return {name: _per_pair(values[:, i]) for i, name in enumerate(WEATHER)}
