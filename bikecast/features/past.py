"""Flows before a set of origins: what is known of them, what was to be expected, what is usual."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bikecast.history import Calendar, Floats, History, Ints

WEEK: Final = 168
WEEKS: Final = 4
KIND_DAYS: Final = 10
LEAST_LEVEL: Final = 0.05
"""Added to every level, in bikes per hour, so that its logarithm exists."""
# Forty Saturdays and Sundays lie 20 weeks back. How busy the system was then is told by the level
# of that hour, whose ten days can lie 5 weeks back and more in a run of holidays.
LOOKBACK_DAYS: Final = 190

OUTAGE: Final = 15.0
"""Bikes that should have come and gone in a run of empty hours, from which it is an outage."""
MOST: Final = (4.0, 15.0)
"""An hour counts as at most so many times what was expected, and so many bikes more: a marathon,
or a fault, is not copied into the weeks after it."""
BUSYNESS: Final = (0.1, 4.0)


@dataclass(frozen=True, eq=False)
class Past:
    """Flows with the hours first, from ``first`` on; the last row stands for all other hours.

    :param values: [hours + 1, stations, targets], 0 where unknown.
    :param known: the same shape, 1 where known.
    :param expected: what the level had said at the midnight before, the same shape, NaN unknown.
    :param seen: flows as they came, before they were cleaned, NaN where unknown.
    :param missed: [hours + 1, stations], bikes that were expected in the run of empty hours that
        each hour ends, 0 where it is not empty.
    """

    first: int
    values: Floats
    known: Floats
    expected: Floats
    seen: Floats
    missed: Floats

    @property
    def counted(self) -> tuple[Floats, Floats]:
        """What means are made of: sums of the first by sums of the second."""
        return self.values, self.known

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
        return _mean(total, count)

    def seen_and_expected(self, start: int, stop: int) -> tuple[Floats, Floats, Floats]:
        """Flows of grid hours of the past and what was expected of them, 0 where one is unknown.

        The last says where both are known: 1, and elsewhere 0.
        """
        rows = slice(start - self.first, stop - self.first)
        seen, expected = self.seen[rows], self.expected[rows]
        both = np.isfinite(seen) & np.isfinite(expected)
        return (
            np.where(both, seen, np.float32(0)),
            np.where(both, expected, np.float32(0)),
            both.astype(np.float32),
        )

    @cached_property
    def usual(self) -> "Past":
        """Flows divided by how busy the whole system was in their hour."""
        return replace(self, values=self.values / _busyness(self)[:, None, None])

    @cached_property
    def squares(self) -> "Past":
        """Flows squared."""
        return replace(self, values=self.values**2)

    @cached_property
    def seen_and_expected_of_all(self) -> NDArray[np.float64]:
        """The first two of :meth:`seen_and_expected`, of all stations: [2, hours, targets]."""
        stop = self.first + len(self.values) - 1
        seen, expected, _ = self.seen_and_expected(self.first, stop)
        return np.stack([of.sum(axis=1, dtype=float) for of in (seen, expected)])

    @cached_property
    def system(self) -> Floats:
        """Flows of all stations together: [hours + 1, 1, targets]."""
        total: Floats = self.values.sum(axis=1, keepdims=True)
        return total


def last_week(origins: Ints, hours: Ints) -> Ints:
    """The same hour of the week, the last time that it had ended at the origin: [hours].

    That is a week before up to 168 hours ahead, and two weeks before in the second week.
    """
    found: Ints = hours - WEEK * ((hours - origins) // WEEK + 1)
    return found


def weekly_hours(origins: Ints, hours: Ints, weeks: int = WEEKS) -> Ints:
    """The same hour of the last ``weeks`` weeks that are known at the origin: [hours, weeks]."""
    return last_week(origins, hours)[:, None] - WEEK * np.arange(weeks)


def past_of(history: History, calendar: Calendar, origins: Ints) -> Past:
    """What features of these origins may see, cleaned."""
    return _cleaned(raw_past(history, origins), calendar)


def raw_past(history: History, origins: Ints) -> Past:
    """Flows before these origins as they came; nothing is said of what was to be expected."""
    first = max(0, int(origins.min()) // 24 - LOOKBACK_DAYS) * 24
    flows = history.flows[:, first : int(origins.max())].transpose(1, 0, 2)
    flows = np.concatenate([flows, np.full((1, *flows.shape[1:]), np.nan, np.float32)])
    known = np.isfinite(flows)
    values = np.where(known, flows, np.float32(0))
    unsaid = np.broadcast_to(np.float32(np.nan), flows.shape)
    return Past(first, values, known.astype(np.float32), unsaid, flows, unsaid[..., 0])


def _cleaned(past: Past, calendar: Calendar) -> Past:
    """Outages unknown, outliers cut; with what was expected of every hour.

    Whether an hour counts follows from it and from earlier ones alone.
    """
    past = replace(past, expected=_expected(past, calendar))
    past = replace(past, missed=_missed(past))
    outage = past.missed >= OUTAGE
    if outage.any():
        known = np.where(outage[..., None], np.float32(0), past.known)
        past = replace(past, known=known, values=past.values * known)
        past = replace(past, expected=_expected(past, calendar))
    factor, more = MOST
    # What nothing was expected of is not cut: of a number and NaN, fmin takes the number.
    return replace(past, values=np.fmin(past.values, factor * past.expected + more))


def _missed(past: Past) -> Floats:
    counted = _both(past.known)
    # Where a system counts its pickups alone, they are all that can tell.
    most = np.maximum.accumulate(counted.max(axis=1))[:, None]
    empty = (counted == most) & (counted > 0) & (_both(past.values) == 0)
    expected = _both(np.nan_to_num(past.expected))
    found = np.zeros(empty.shape, np.float32)
    for hour in range(len(empty) - 1):
        # The row before the first stands for all other hours, of which nothing is known.
        found[hour] = np.where(empty[hour], found[hour - 1] + expected[hour], 0)
    return found


def _both(flows: Floats) -> Floats:
    """Pickups and returns; numpy's own sum takes thirty times as long over so short an axis."""
    pickups, returns = np.moveaxis(flows, -1, 0)
    total: Floats = pickups + returns
    return total


def _expected(past: Past, calendar: Calendar) -> Floats:
    """What the level had said for each past hour at the midnight before it; NaN where nothing.

    The mean of :func:`weekly_hours` and of :func:`kind_hours` at that midnight, day by day.
    """
    hours = len(past.values) - 1
    found = np.full_like(past.values, np.nan)
    kinds = {kind: _LastDays(past) for kind in (False, True)}
    none = np.zeros((), np.float32)
    for start in range(0, hours, 24):
        day = slice(start, min(start + 24, hours))
        kind = kinds[bool(calendar.workday[past.first + start])]
        weeks = [WEEK * k for k in range(1, WEEKS + 1) if WEEK * k <= start]
        sums = (sum((of[day.start - w : day.stop - w] for w in weeks), none) for of in past.counted)
        found[day] = blend(_mean(*sums), kind.mean(day.stop - start))
        kind.add(day)
    return found


class _LastDays:
    """Running sums over the last days of a kind; they are exact, as flows are whole numbers."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.days: list[slice] = []
        self.sums = np.zeros((2, 24, *past.values.shape[1:]), np.float32)

    def mean(self, hours: int) -> Floats:
        """Means of the first hours of the day, NaN where none is known."""
        return _mean(*self.sums[:, :hours])

    def add(self, day: slice) -> None:
        """Take in the rows of a day, and drop those of the oldest."""
        self.days.append(day)
        for total, of in zip(self.sums, self.past.counted, strict=True):
            total[: day.stop - day.start] += of[day]
            if len(self.days) > KIND_DAYS:
                total -= of[self.days[0]]
        del self.days[:-KIND_DAYS]


def _mean(total: Floats, count: Floats) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan))


def kind_hours(calendar: Calendar, hours: Ints, last_day: Ints, most: int = KIND_DAYS) -> Ints:
    """The hour of the day on the last days of its kind up to ``last_day``, oldest first.

    :returns: [hours, most], -1 where there are fewer days.
    """
    workday = calendar.workday[::24]
    days = np.empty((len(hours), most), np.int64)
    for kind in (False, True):
        ours = calendar.workday[hours] == kind
        alike = np.concatenate([np.full(most, -1), np.flatnonzero(workday == kind)])
        so_far = np.cumsum(np.concatenate([[0], workday == kind]))[last_day[ours] + 1]
        days[ours] = alike[so_far[:, None] + np.arange(most)]
    return np.where(days >= 0, days * 24 + hours[:, None] % 24, -1)


def last_day(origins: Ints, hours: Ints) -> Ints:
    """The last day on which the hour of the day had ended at the origin."""
    return origins // 24 - 1 + (hours % 24 < origins % 24)


def blend(week: Floats, kind: Floats) -> Floats:
    both = (week + kind) / 2
    return np.where(np.isnan(week), kind, np.where(np.isnan(kind), week, both))


def _busyness(past: Past) -> Floats:
    """What the system had in each past hour and the one before, relative to its level; last 1.

    A bike for each station is added to both, so that quiet hours are ordinary ones.

    :returns: [rows of the past].
    """
    total = past.seen_and_expected_of_all.sum(axis=2).T + past.values.shape[1]
    total[1:] = (2 * total[1:] + total[:-1]) / 3
    found = np.clip(total[:, 0] / total[:, 1], *BUSYNESS)
    return np.append(found, 1).astype(np.float32)
