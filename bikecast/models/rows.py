"""Which rows the learning models are fitted on, and how they are asked in pieces.

A row is a pair of an origin and a step, a station and a target.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bikecast.features import NAMES, Features, features, pairs
from bikecast.features.past import MOST, past_of
from bikecast.features.sky import RELATIVE
from bikecast.history import Floats, History, Ints
from bikecast.models.base import Grid
from bikecast.records import TARGETS, WEATHER

TENTH = 10
LAST_DAYS, LAST_SHARE = 28, 5
"""Held out of a first fit, to measure the errors on: every tenth day, and the last four weeks or
the last fifth of less history. On the former alone errors are too small, as the days around them
were learned: quantiles of a summer after half a year of history missed by 3.1 points and had a
pinball loss 0.9 % above that of a plain band, with both by 0 points and 2.0 % below it (New York,
2017, day-ahead)."""

_WEATHER = slice(NAMES.index(WEATHER[0]), NAMES.index(RELATIVE[-1]) + 1)
_NEEDED = [NAMES.index(name) for name in ("temperature", "precipitation")]

# Cells of flows or rows of features in memory at once: about 50 MB with all intermediates. With
# four times as many, a row of 1,000 stations took a third more time than one of 300.
_PIECE = 100_000
# Hours to learn from lie apart, and each piece looks at the week before them all.
_PIECE_APART = 200_000
# Hours of origins whose past is found at once: it begins half a year before the first of them.
_YEAR = 366 * 24
_LEAST_PAIRS = 3_000


@dataclass(frozen=True, eq=False)
class Rows:
    """Known rows to fit on or to judge by.

    :param values: [rows, features], :param level: bikes per hour, :param actual: bikes,
    :param target: index into ``TARGETS``, :param hour: grid index.
    """

    values: Floats
    level: Floats
    actual: Floats
    target: Ints
    hour: Ints

    def where(self, mask: NDArray[np.bool_]) -> "Rows":
        """The rows of a mask."""
        return Rows(**{name: column[mask] for name, column in vars(self).items()})

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Rows whose day the first fit may not see; by the hour forecast, which origins share."""
        day = self.hour // 24
        held: NDArray[np.bool_] = day % TENTH == 0
        # Of the days that are there: nothing would be left to learn where the others are a gap.
        days = np.unique(day)
        if last := min(LAST_DAYS, len(days) // LAST_SHARE):
            held |= day >= days[-last]
        return held


def held_out_midnights(held: Rows, history: History) -> Ints:
    """The last of the days of rows that are known whole, as many as are about two pieces."""
    days = np.unique(held.hour // 24)
    days = days[days < history.known // 24]
    most = max(_PIECE // (24 * len(history.stations)), 2)
    found: Ints = days[-most:] * 24
    return found


def training_pairs(history: History, grid: Grid, count: int, seed: int) -> tuple[Ints, Ints]:
    """Up to ``count`` pairs as the grid would ask them, sorted by origin.

    The first four weeks (half of a shorter history) only serve as the past of others. Hours that
    do not exist are left out.
    """
    first = min(28, history.known // 48) * 24
    origins = np.arange(first, history.known, min(grid.every, 24))
    origin, step = pairs(origins, grid.horizon)
    usable = origin + step < history.known
    usable &= history.calendar(0, history.known + grid.horizon).exists[origin + step]
    at = np.flatnonzero(usable)
    if len(at) > count:
        at = np.sort(np.random.default_rng(seed).choice(at, count, replace=False))
    return origin[at], step[at]


def training_rows(
    history: History, grid: Grid, most: int, seed: int, *, time_of_year: bool
) -> Rows:
    """Up to ``most`` rows with a known actual, sampled alike from all pairs and stations."""
    stations = len(history.stations)
    count = max(most // (2 * stations), _LEAST_PAIRS)
    origin, step = training_pairs(history, grid, count, seed)
    share = min(1.0, most / max(len(origin) * 2 * stations, 1))
    rng = np.random.default_rng(seed)
    found = []
    for piece, seen in _asked(history, origin, step, time_of_year, _PIECE_APART):
        hours = (origin + step)[piece]
        actual = history.flows[:, hours].transpose(1, 0, 2)
        mask = np.isfinite(actual) & (rng.random(actual.shape) < share)
        found.append(_rows(seen, actual, hours, mask))
    columns = [vars(rows) for rows in found]
    return Rows(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


def learning_rows(
    history: History, grid: Grid, most: int, seed: int, *, time_of_year: bool
) -> Rows:
    """Training rows whose actuals are cut at ``MOST``.

    A regression of all stations takes one faulty hour to heart: 2,000 bikes in an hour of one of
    six made-up stations raised the errors at the other five by 36 to 97 %.
    """
    rows = training_rows(history, grid, most, seed, time_of_year=time_of_year)
    factor, more = MOST
    return replace(rows, actual=np.minimum(rows.actual, factor * rows.level + more))


def _rows(seen: Features, actual: Floats, hours: Ints, mask: NDArray[np.bool_]) -> Rows:
    pair, _, target = np.nonzero(mask)
    return Rows(seen.values[mask], seen.level[mask], actual[mask], target, hours[pair])


def _asked(
    history: History, origin: Ints, step: Ints, time_of_year: bool, at_once: int
) -> Iterator[tuple[slice, Features]]:
    """Features of pairs, sorted by origin, in pieces that are small in memory."""
    cells = len(history.stations) * len(TARGETS)
    most, span = max(at_once // cells, 1), max(8 * at_once // cells, 168)
    for year in _runs(origin, len(origin), _YEAR):
        calendar = history.calendar(0, int(origin[year].max()) + 1)
        past = past_of(history, calendar, origin[year])
        for run in _runs(origin[year], most, span):
            piece = slice(year.start + run.start, year.start + run.stop)
            asked = history, origin[piece], step[piece]
            yield piece, features(*asked, time_of_year=time_of_year, past=past)


def _runs(origin: Ints, most: int, span: int) -> Iterator[slice]:
    """Runs of at most so many pairs, and of origins (sorted) in at most so many hours."""
    start = 0
    while start < len(origin):
        stop = min(start + most, int(np.searchsorted(origin, origin[start] + span)))
        yield slice(start, stop)
        start = stop


def predict_rows(
    history: History,
    origins: Ints,
    horizon: int,
    of: Callable[[Floats, Floats], Floats],
    *,
    time_of_year: bool,
) -> Floats:
    """What is said of all pairs, asked in pieces: [origins, horizon, stations, targets, …].

    :param of: values [rows, features] and levels of rows → [rows, …].
    """
    shape = len(history.stations), len(TARGETS)
    origin, step = pairs(origins, horizon)
    order = np.argsort(origin, kind="stable")
    out = np.empty(0, np.float32)
    for piece, seen in _asked(history, origin[order], step[order], time_of_year, _PIECE):
        flat = of(seen.values.reshape(-1, len(NAMES)), seen.level.ravel())
        if not out.size:
            out = np.empty((len(origin), *shape, *flat.shape[1:]), np.float32)
        out[order[piece]] = flat.reshape(*seen.level.shape, *flat.shape[1:])
    return out.reshape(len(origins), horizon, *out.shape[1:])


def filled(values: Floats) -> Floats:
    """0 where unknown; numpy's own ``nan_to_num`` takes five times as long for a few rows."""
    return np.where(np.isnan(values), np.float32(0), values)


def cut(values: NDArray[np.floating], most: float) -> NDArray[Any]:
    """No less than minus ``most`` and no more than it; ``np.clip`` takes three times as long."""
    found: NDArray[Any] = np.minimum(np.maximum(values, -most), most)
    return found


def recency(rows: Rows, known: int, half_life_days: int) -> Floats:
    """Weights that halve with every ``half_life_days`` of age."""
    age = (known - rows.hour) / (24 * half_life_days)
    return np.exp2(-age).astype(np.float32)


def has_weather(values: Floats) -> NDArray[np.bool_]:
    """Of rows of features, which know the temperature and the rain of their hour."""
    return np.asarray(np.isfinite(values[:, _NEEDED]).all(axis=1))


def without_weather(rows: Rows) -> Rows:
    """The same rows, of which none knows its weather."""
    values = rows.values.copy()
    values[:, _WEATHER] = np.nan
    return replace(rows, values=values)
