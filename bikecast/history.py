"""What a model may learn from: flows on a civil-time grid, the calendar, and weather.

**The grid.** Every local day has 24 rows. The hour that spring skips has a row whose flows are
unknown (it is neither fitted nor scored); the hour that autumn repeats has one row that counts
both. So 168 rows back is always the same hour of the same weekday, on either side of a change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.errors import InputError
from bikecast.records import TARGETS, WEATHER, Station, System

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
HOUR = timedelta(hours=1)
LEAST_SNAPSHOTS = 2


@dataclass(frozen=True, eq=False)
class Calendar:
    """What is known of civil hours long before they come; every array has one entry an hour.

    :param exists: false for the hour that spring skips.
    :param workday: Monday to Friday and no public holiday.
    """

    hour: Ints
    weekday: Ints
    day: Ints
    yearday: Ints
    workday: NDArray[np.bool_]
    holiday: NDArray[np.bool_]
    exists: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class WeatherArchive:
    """Hourly weather on the grid of a history, as one or more vintages.

    :param vintages: (first origin index that may see it, values [hours from the grid's start,
        len(WEATHER)], NaN where unknown), sorted by that index.
    :param hindsight: among the values are observations that stand for a forecast; theirs is the
        vintage 0, which every origin may see. A real forecast is never seen before its issue.
    :param blind_from: from this hour on they do not stand for a forecast any more: an origin sees
        those of hours before it alone.
    """

    vintages: tuple[tuple[int, Floats], ...]
    hindsight: bool = False
    blind_from: int | None = None

    def at(self, origin: int, hours: Ints) -> Floats:
        """Weather for ``hours`` (grid indices) as known at ``origin``: [len(hours), variables]."""
        out = np.full((len(hours), len(WEATHER)), np.nan, np.float32)
        for known_from, values in self.vintages:
            if known_from > origin:
                break
            inside = (hours >= 0) & (hours < len(values))
            if self.blind_from is not None and self.hindsight and known_from == 0:
                inside &= hours < max(origin, self.blind_from)
            row = values[hours[inside]]
            out[inside] = np.where(np.isnan(row), out[inside], row)
        return out

    def foreseen(self, first: int, stop: int) -> "WeatherArchive | None":
        """The same as it was known then to whoever forecast the hours from ``first`` on.

        None where nobody has stored a forecast of any hour from there to ``stop`` before it came:
        then there was no weather to forecast them with.
        """
        for known_from, values in self.vintages:
            observed = self.hindsight and known_from == 0
            if not observed and np.isfinite(values[max(first, known_from) : stop]).any():
                return replace(self, blind_from=first)
        return None


@dataclass(frozen=True, eq=False)
class History:
    """Hourly flows of a system's stations up to a moment.

    :param start: midnight, local civil time without offset: the hour with index 0.
    :param flows: bikes per hour, [stations, hours, targets], NaN where unknown; the grid covers
        whole days.
    :param known: number of hours from the start that have ended; nothing at or after this index
        is known. The moment itself is :attr:`as_of`.
    :param censored: flows that are less than what riders asked for, as the station had no bike,
        or no dock; the same shape. None where nobody has watched.
    """

    system: System
    stations: tuple[Station, ...]
    start: datetime
    flows: Floats
    known: int
    weather: WeatherArchive | None = None
    censored: NDArray[np.bool_] | None = None

    @property
    def as_of(self) -> datetime:
        """The end of the data, local civil time without offset."""
        return self.hour(self.known)

    def hour(self, index: int) -> datetime:
        """The civil hour of a grid index."""
        return self.start + index * HOUR

    def index(self, hour: datetime) -> int:
        """The grid index of a civil hour."""
        return int((hour - self.start) // HOUR)

    def until(self, origin: int) -> "History":
        """What was known at ``origin``: later flows become unknown, the weather keeps its rule."""
        flows = self.flows.copy()
        flows[:, max(origin, 0) :] = np.nan
        return replace(self, flows=flows, known=min(self.known, origin))

    def calendar(self, first: int, stop: int) -> Calendar:
        """The calendar of the grid indices ``first`` … ``stop - 1``; may reach past the data."""
        days = (stop - 1) // 24 + 1
        whole = _calendar(self.start.date(), days, self.system)
        return Calendar(**{k: v[first:stop] for k, v in vars(whole).items()})

    @cached_property
    def position(self) -> dict[str, int]:
        """Station id → its place on the first axis."""
        return {s.station_id: i for i, s in enumerate(self.stations)}

    @cached_property
    def uncensored(self) -> "History":
        """The same without the censored flows: what was asked for then is unknown."""
        if self.censored is None:
            return self
        flows = np.where(self.censored, np.float32(np.nan), self.flows)
        return replace(self, flows=flows, censored=None)

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Of each target, whether any hour of it is known; some systems count pickups alone."""
        return np.array([np.isfinite(self.flows[..., k]).any() for k in range(len(TARGETS))])


def _calendar(first: date, days: int, system: System) -> Calendar:
    dates = [first + timedelta(days=i) for i in range(days)]
    free = public_holidays(system.holidays, sorted({d.year for d in dates}))
    holiday = np.array([d in free for d in dates])
    weekday = np.array([d.weekday() for d in dates], np.int64)
    zone = ZoneInfo(system.timezone)
    exists = np.ones(days * 24, bool)
    for i, d in enumerate(dates):
        noon = datetime(d.year, d.month, d.day, 12)
        if (
            noon.replace(tzinfo=zone).utcoffset()
            != (noon - 24 * HOUR).replace(tzinfo=zone).utcoffset()
        ):
            for h in range(-12, 12):
                exists[max(i * 24 + 12 + h, 0)] &= civil_hour_exists(noon + h * HOUR, zone)
    return Calendar(
        hour=np.tile(np.arange(24), days),
        weekday=np.repeat(weekday, 24),
        day=np.repeat(np.arange(days), 24),
        yearday=np.repeat(np.array([d.timetuple().tm_yday for d in dates], np.int64), 24),
        workday=np.repeat((weekday < 5) & ~holiday, 24),
        holiday=np.repeat(holiday, 24),
        exists=exists,
    )


def civil_hour_exists(hour: datetime, zone: ZoneInfo) -> bool:
    """Whether a civil hour occurs on the clocks of ``zone`` (spring skips one).

    >>> civil_hour_exists(datetime(2018, 3, 11, 2), ZoneInfo("America/New_York"))
    False
    >>> civil_hour_exists(datetime(2018, 11, 4, 1), ZoneInfo("America/New_York"))
    True
    """
    there = hour.replace(tzinfo=zone).astimezone(UTC)
    return there.astimezone(zone).replace(tzinfo=None) == hour


def check_zone(name: str) -> None:
    """See that a time zone is known.

    :raises InputError: for a name that the time-zone database does not have.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"no time zone {name!r}", hint="write one as in America/New_York"
        ) from error


def public_holidays(code: str, years: Sequence[int]) -> set[date]:
    """The public holidays of ``US`` or ``US-NY`` in these years; none for an empty code.

    :raises InputError: for a code that the ``holidays`` package does not know.
    """
    if not code:
        return set()
    import holidays

    country, _, subdivision = code.partition("-")
    try:
        found = holidays.country_holidays(country, subdiv=subdivision or None, years=list(years))
    except NotImplementedError as error:
        raise InputError(
            f"no holiday calendar {code!r}", hint="write a country and subdivision, as in US-NY"
        ) from error
    return set(found)


def build_history(
    frame: pl.DataFrame,
    system: System,
    stations: Sequence[Station] = (),
    weather: WeatherArchive | None = None,
    as_of: datetime | None = None,
) -> History:
    """Put a panel frame on the grid.

    :param frame: ``station_id``, ``hour`` (civil, naive), ``pickups`` and optionally ``returns``;
        what has no row is unknown, what has two rows is added up.
    :param stations: place and capacity where known; stations without an entry get a bare one.
    :param as_of: end of the data; by default the hour after the last row.
    :raises InputError: for a frame without a row.
    """
    if frame.is_empty():
        raise InputError("no hour of any station in the history", hint="import trips or a panel")
    first, last = frame["hour"].min(), frame["hour"].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    end = as_of or last + HOUR
    days = max((max(end - HOUR, last).date() - start.date()).days + 1, 1)
    places = {s.station_id: s for s in stations}
    ids = sorted(frame["station_id"].unique().to_list())
    where = pl.DataFrame({"station_id": ids, "s": np.arange(len(ids))})
    cells = frame.join(where, on="station_id").with_columns(
        i=((pl.col("hour") - start).dt.total_seconds() // 3600).cast(pl.Int64)
    )
    flows = np.full((len(ids), days * 24, len(TARGETS)), np.nan, np.float32)
    for k, target in enumerate(TARGETS):
        if target in frame.columns:
            part = cells.filter(pl.col(target).is_not_null())
            sums = part.group_by("s", "i").agg(pl.col(target).sum())
            at = sums["s"].to_numpy(), sums["i"].to_numpy()
            flows[at[0], at[1], k] = sums[target].to_numpy()
    known = int((end - start) // HOUR)
    flows[:, known:] = np.nan
    history = History(
        system, tuple(places.get(i, Station(i)) for i in ids), start, flows, known, weather
    )
    flows[:, ~history.calendar(0, days * 24).exists] = np.nan
    return history


def censored_hours(status: pl.DataFrame, history: History) -> NDArray[np.bool_]:
    """Which flows of a history are censored: [stations, hours, targets].

    Pickups where in half of an hour's snapshots or more there was no bike, returns where there was
    no dock. Fewer than ``LEAST_SNAPSHOTS`` say too little of an hour.

    :param status: ``station_id``, ``hour`` (civil, naive), ``snapshots``, ``empty`` and ``full``,
        each station and hour once; stations that the history does not have are left out.
    """
    found = np.zeros(history.flows.shape, bool)
    end = history.hour(history.known)
    rows = status.filter(
        pl.col("station_id").is_in(list(history.position)),
        pl.col("hour").is_between(history.start, end, closed="left"),
        pl.col("snapshots") >= LEAST_SNAPSHOTS,
    )
    cells = rows.select(
        pl.col("station_id").replace_strict(history.position, return_dtype=pl.Int64),
        (pl.col("hour") - history.start).dt.total_hours(),
        *((2 * pl.col(gone) >= pl.col("snapshots")).alias(gone) for gone in ("empty", "full")),
    )
    station, hour, empty, full = (cells[name].to_numpy() for name in cells.columns)
    found[station, hour] = np.stack([empty, full], axis=1)
    return found


def build_weather(
    frame: pl.DataFrame, system: System, start: datetime, hours: int, *, hindsight: bool
) -> WeatherArchive:
    """Put a weather frame on the grid that begins at ``start`` (local midnight).

    :param frame: ``hour`` and ``issued_at`` (UTC, with time zone; null for an observation), then
        the variables of ``WEATHER``.
    :param hours: length of the grid; reach a week past the data for the hours to be forecast.
    :param hindsight: let observations stand for forecasts. Without it an observation is known
        from the end of its own hour, and a forecast from its issue.
    """
    zone = system.timezone
    local = pl.col("hour").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    issued = pl.col("issued_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    at = ((local - start).dt.total_seconds() // 3600).cast(pl.Int64)
    since = (-(-(issued - start).dt.total_seconds() // 3600)).cast(pl.Int64)
    rows = frame.select(i=at, since=since, *[pl.col(c).cast(pl.Float32) for c in WEATHER])
    rows = rows.filter((pl.col("i") >= 0) & (pl.col("i") < hours))
    vintages: list[tuple[int, Floats]] = []
    observed = rows.filter(pl.col("since").is_null())
    if hindsight and not observed.is_empty():
        vintages.append((0, _weather_grid(observed, hours)))
    for (known_from,), part in rows.drop_nulls("since").group_by("since", maintain_order=True):
        assert isinstance(known_from, int)
        vintages.append((known_from, _weather_grid(part, hours)))
    return WeatherArchive(tuple(sorted(vintages, key=lambda v: v[0])), hindsight)


def _weather_grid(rows: pl.DataFrame, hours: int) -> Floats:
    # The repeated hour of autumn has two rows in UTC and one on the grid: their mean.
    means = rows.group_by("i").agg(pl.col(WEATHER).mean())
    grid = np.full((hours, len(WEATHER)), np.nan, np.float32)
    grid[means["i"].to_numpy()] = means.select(WEATHER).to_numpy()
    return grid
