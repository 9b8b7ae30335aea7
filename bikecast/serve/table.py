"""The forecast table in memory: arrays, and a dictionary from station id to their first axis."""

import math
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.history import HOUR, civil_hour_exists
from bikecast.inventory import stock_distribution
from bikecast.records import (
    KEPT_HORIZON,
    MAX_HORIZON,
    QUANTILE_COLUMNS,
    TARGETS,
    Issue,
    Station,
    System,
)
from bikecast.serve.problems import NO_FORECAST, OUTSIDE_TABLE, UNKNOWN_STATION, Problem
from bikecast.serve.source import Published
from bikecast.serve.types import Flow

VALUES = ("mean", *QUANTILE_COLUMNS)
INTERVAL = 0.8
LOWER, UPPER = VALUES.index("q10"), VALUES.index("q90")
DECIMALS = 3
ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class ForecastTable:
    """One issue, ready to answer from; never changed, only replaced.

    :param stations: those that have a forecast, in the order of the first axis.
    :param index: station id, present or former → place on the first axis.
    :param origin: ``as_of``, local civil time without offset: the hours ahead count from it.
    :param start: the first hour, local civil time without offset.
    :param values: bikes per hour, [stations, hours, targets, ``VALUES``], NaN where there is no
        forecast: the hour that spring skips, a target that the data do not have.
    :param digest: of all that it says: two tables with the same one say the same.
    :param timestamps: each hour in RFC 3339 with the system's offset; so are ``as_of`` and
        ``issued_at``, ready to be answered.
    """

    issue: Issue
    system: System
    zone: ZoneInfo
    stations: tuple[Station, ...]
    index: dict[str, int]
    origin: datetime
    start: datetime
    values: NDArray[np.float64]
    digest: str
    timestamps: tuple[str, ...]
    as_of: str
    issued_at: str

    @property
    def simulated(self) -> bool:
        """Whether the data behind it were made up."""
        return self.issue.simulated or self.system.simulated

    def station(self, station_id: str) -> int:
        """The place of a station on the first axis.

        :raises Problem: for an id that is not in the table.
        """
        try:
            return self.index[station_id]
        except KeyError:
            raise Problem(
                UNKNOWN_STATION,
                f"no station {station_id!r} with a forecast in {self.system.system_id}; "
                "GET /stations lists those there are",
            ) from None

    def step(self, hour: datetime) -> int:
        """The place of a civil hour on the second axis.

        :raises Problem: for an hour before or after the table.
        """
        step = (hour - self.start) // HOUR
        if 0 <= step < len(self.timestamps):
            return step
        raise self._outside(hour, self.timestamps[-1])

    def step_ahead(self, hour: datetime) -> int:
        """The place of a civil hour, as if the second axis went on to the end of the second week.

        :raises Problem: for an hour before the table, or after the second week.
        """
        step = (hour - self.start) // HOUR
        if 0 <= step < len(self.timestamps) or self.in_second_week(step):
            return step
        raise self._outside(hour, self.timestamp(KEPT_HORIZON - self.horizon(0)))

    def _outside(self, hour: datetime, last: str) -> Problem:
        return Problem(
            OUTSIDE_TABLE,
            f"{hour.isoformat()} is outside the forecast, which has the hours from "
            f"{self.timestamps[0]} to {last}; ask for one of those",
        )

    def in_second_week(self, step: int) -> bool:
        """Whether an hour is one of those behind the table that the model can be asked for."""
        behind = step >= len(self.timestamps)
        return behind and MAX_HORIZON < self.horizon(step) <= KEPT_HORIZON

    def timestamp(self, step: int) -> str:
        """An hour of the table or of the second week in RFC 3339."""
        if step < len(self.timestamps):
            return self.timestamps[step]
        return (self.start + step * HOUR).replace(tzinfo=self.zone).isoformat()

    def counted(self, station: int) -> tuple[bool, ...]:
        """Of each target, whether the station has any forecast of it."""
        means = self.values[station, :, :, 0]
        return tuple(bool(np.isfinite(of).any()) for of in means.T)

    def horizon(self, step: int) -> int:
        """Hours ahead of ``as_of``, on the civil grid; the hour that starts at it is 1."""
        return (self.start + step * HOUR - self.origin) // HOUR + 1

    def flows(self, station: int, step: int) -> tuple[Flow | None, Flow | None]:
        """Pickups and returns; None for a target without a forecast.

        :raises Problem: where there is neither.
        """
        pickups, returns = (flow(row) for row in self.values[station, step].tolist())
        if pickups is None and returns is None:
            raise Problem(
                NO_FORECAST,
                f"no forecast for station {self.stations[station].station_id!r} "
                f"at {self.timestamps[step]}; ask for another hour",
            )
        return pickups, returns

    def empty_and_full(
        self, station: int, step: int, bikes: int, means: NDArray[np.float64] | None = None
    ) -> tuple[float, float] | None:
        """Probability that the station is empty, and full, at the end of an hour.

        :param bikes: in the station at ``as_of``, 0 … its capacity, which must be known.
        :param means: of the hour itself, [targets], instead of those of the table.
        :returns: None where pickups or returns are not forecast for every hour until then.
        """
        capacity = self.stations[station].capacity
        assert capacity is not None
        demand = self.demand(station, 0, step + 1)
        if demand is None:
            return None
        if means is not None:
            demand[-1] = means
        last = stock_distribution(bikes, capacity, *demand.T)[-1]
        return round(float(last[0]), 4), round(float(last[-1]), 4)

    def demand(self, station: int, first: int, end: int) -> NDArray[np.float64] | None:
        """Expected pickups and returns of the hours from ``first`` up to ``end``, [hours, 2].

        :returns: without the hour that spring skips; None where another one is not forecast.
        """
        steps = [step for step in range(first, end) if self.exists(step)]
        means: NDArray[np.float64] = self.values[station, steps, :, 0]
        return None if np.isnan(means).any() else means

    def exists(self, step: int) -> bool:
        """Whether an hour occurs; spring skips one."""
        return civil_hour_exists(self.start + step * HOUR, self.zone)


def flow(row: list[float]) -> Flow | None:
    """``VALUES`` as they are answered; None for those of no forecast."""
    if math.isnan(row[0]):
        return None
    return {"mean": row[0], "lower": row[LOWER], "upper": row[UPPER]}


def build_table(published: Published) -> ForecastTable:
    """Put a forecast frame on arrays.

    :raises ValueError: for a frame without a row.
    """
    frame = published.frame
    if frame.is_empty():
        raise ValueError(f"issue {published.issue.issue_id} has no row")
    start, last = frame["hour"].min(), frame["hour"].max()
    assert isinstance(start, datetime) and isinstance(last, datetime)
    stations = _stations_of(frame, published.stations)
    present = {s.station_id: i for i, s in enumerate(stations)}
    former = {old: present[new] for old, new in published.aliases.items() if new in present}
    values = _values(frame, present, start, (last - start) // HOUR + 1)
    return arranged(published.issue, published.system, stations, former | present, start, values)


def arranged(
    issue: Issue,
    system: System,
    stations: tuple[Station, ...],
    index: dict[str, int],
    start: datetime,
    values: NDArray[np.float64],
    digest: str | None = None,
) -> ForecastTable:
    """A table with all that follows from its parts.

    :param digest: where it is known: it takes reading all values.
    """
    zone = ZoneInfo(system.timezone)
    as_of, issued_at = issue.as_of.astimezone(zone), issue.issued_at.astimezone(zone)
    hours = [start + i * HOUR for i in range(values.shape[1])]
    return ForecastTable(
        issue=issue,
        system=system,
        zone=zone,
        stations=stations,
        index=index,
        origin=as_of.replace(tzinfo=None),
        start=start,
        values=values,
        digest=digest or _digest((issue, system, stations, sorted(index.items()), start), values),
        timestamps=tuple(h.replace(tzinfo=zone).isoformat() for h in hours),
        as_of=as_of.isoformat(timespec="seconds"),
        issued_at=issued_at.isoformat(timespec="seconds"),
    )


def _digest(said: object, values: NDArray[np.float64]) -> str:
    found = blake2b(np.ascontiguousarray(values).data, digest_size=8)
    found.update(repr((said, values.shape)).encode())
    return found.hexdigest()


def _stations_of(frame: pl.DataFrame, known: tuple[Station, ...]) -> tuple[Station, ...]:
    places = {s.station_id: s for s in known}
    ids = sorted(frame["station_id"].unique().to_list())
    return tuple(places.get(i, Station(i)) for i in ids)


def _values(
    frame: pl.DataFrame, index: dict[str, int], start: datetime, hours: int
) -> NDArray[np.float64]:
    values = np.full((len(index), hours, len(TARGETS), len(VALUES)), np.nan)
    # In pieces: of a whole table each step would take as much memory as the table itself.
    for piece in frame.iter_slices(ROWS_AT_ONCE):
        cells = piece.select(
            station=pl.col("station_id").replace_strict(index, return_dtype=pl.Int64),
            step=(pl.col("hour") - start).dt.total_hours(),
            target=pl.col("target").replace_strict(
                {t: k for k, t in enumerate(TARGETS)}, return_dtype=pl.Int64
            ),
        )
        at = tuple(cells[name].to_numpy() for name in ("station", "step", "target"))
        values[at] = piece.select(VALUES).to_numpy().astype(np.float64).round(DECIMALS)
    return values
