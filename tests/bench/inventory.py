"""Forecast empty and full stations on real days of a feed, and hold it against simpler forecasts.

Run by `nox -s bench -- inventory`; `python tests/bench/inventory.py PLOT.svg` also draws how
reliable the probabilities are. Exits 1 where the stock's distribution does not have a lower Brier
score than both persistence and climatology.

The feed tells stocks some 18 minutes apart and no ride. What it gained or lost between two
snapshots is a lower bound of returns or pickups: a bike that leaves and one that comes cancel each
other out, and a van counts like riders. Flows are inferred from the days before the day that is
judged, and nothing else is known of that day but each station's bikes and docks at the origin.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.cli.terminal import print_table
from bikecast.evaluation.events import brier, reliability, skill
from bikecast.inventory import stock_distribution

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = dict[str, Any]

FEED = "gbfs/citibike_v1.1_status_2024-03-12_16.parquet"
EVENTS = ("empty", "full")
REFERENCES = ("persistence", "climatology")
LEADS = (1, 2, 4, 8)  # hours ahead
# The feed begins on Tuesday evening. Every constant below was chosen on Thursday alone, that of
# climatology in its own favour, and then Friday and Saturday were judged. Friday is untouched. On
# Saturday, which has no Saturday before it, P(empty) lost at first, repeating a commute that did
# not come; that days of another kind tell no hours was decided then, and nothing else changed.
WORKDAYS = range(4)
JUDGED = {"Friday": 3, "Saturday": 4}
PRIOR_HOURS = 2  # of watching, that a station's level and the system's profile weigh
NEIGHBOURS = 0.5  # weight of the clock hours before and after
UNSEEN = 0.5  # riders that cancelled each other out, per rider seen
SNAPSHOTS = 80  # that a station's share of all hours weighs in the climatology of one hour
LEAST = 20  # forecasts that a point of the plot stands for
NEAR = 0.25  # hours between the moment that is forecast and the snapshot that tells of it


@dataclass(frozen=True, eq=False)
class Feed:
    """What a feed told of its stations.

    :param moment: of each snapshot, local hours since the midnight before the first.
    :param stock: bikes and free docks, [2, stations, snapshots], NaN where out of service.
    """

    moment: Floats
    stock: Floats

    @property
    def day(self) -> Ints:
        """Days since the first, of each snapshot."""
        return (self.moment // 24).astype(np.int64)

    @property
    def clock(self) -> Ints:
        """The hour on the clock, of each snapshot."""
        return (self.moment % 24).astype(np.int64)


def read_feed(path: Path) -> Feed:
    """The stations in service; their `last_reported` is not looked at, some are nonsense."""
    frame = pl.read_parquet(path)
    seconds = pl.from_epoch(frame["capture_ts"].unique().sort()).dt.replace_time_zone("UTC")
    local = seconds.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    moment = (local - local.dt.truncate("1d")[0]).dt.total_seconds().to_numpy() / 3600
    place = (pl.col("station_id", "capture_ts").rank("dense") - 1).cast(pl.Int64)
    station, snapshot = frame.select(place)
    stock = np.full((2, station.max() + 1, len(moment)), np.nan)
    told = pl.col("num_bikes_available", "num_docks_available").cast(pl.Float64)
    stock[:, station, snapshot] = frame.select(told).to_numpy().T
    serves = frame["is_installed"] + frame["is_renting"] + frame["is_returning"] == 3
    shut = ~serves.to_numpy()
    stock[:, station.to_numpy()[shut], snapshot.to_numpy()[shut]] = np.nan
    stock[:, stock.sum(axis=0) == 0] = np.nan
    return Feed(moment, stock)


def seen(feed: Feed, days: Iterable[int]) -> tuple[Floats, Floats]:
    """Bikes seen to leave and to come on some days, and hours watched: [2, stations, 24] each.

    Only where they could: no bike leaves an empty station.
    """
    hours = np.diff(feed.moment)
    middle = feed.moment[:-1] + hours / 2
    change = np.diff(feed.stock[0])
    could = np.isfinite(change) & (feed.stock[:, :, :-1] > 0) & np.isin(middle // 24, [*days])
    moved = np.stack([np.maximum(-change, 0), np.maximum(change, 0)])
    clock = on_clock(middle)
    return np.where(could, moved, 0) @ clock, (could * hours) @ clock


def on_clock(moment: Floats) -> Floats:
    """1 at the hour on the clock of each moment, [moments, 24]: what sums over it by its hour."""
    return (moment[:, None] // 1 % 24 == np.arange(24)).astype(np.float64)


def flows(feed: Feed, day: int) -> Floats:
    """Pickups and returns per hour of the clock, [2, stations, 24], from the days before a day.

    The prior is the system's profile at the station's level. What was seen of the station in the
    hour and its neighbours moves it, as counts move a gamma distribution, but only on days of the
    same kind: no Saturday repeats a commute. Riders that nobody saw come and go alike, so that
    they change no balance.
    """
    moved, watched = seen(feed, range(day))
    profile = moved.sum(axis=1, keepdims=True) / watched.sum(axis=1, keepdims=True)
    expected = watched * profile
    level = (moved.sum(axis=(0, 2)) + 1) / (expected.sum(axis=(0, 2)) + 1)
    prior = level[:, None] * profile
    weight = PRIOR_HOURS * prior
    moved, watched = seen(feed, (d for d in range(day) if (d in WORKDAYS) == (day in WORKDAYS)))
    told = (around(moved) + weight) / (around(watched * prior) + weight) * prior
    return told + UNSEEN * told.mean(axis=0)


def around(values: Floats) -> Floats:
    """Each hour of the clock with its neighbours."""
    return values + NEIGHBOURS * (np.roll(values, 1, -1) + np.roll(values, -1, -1))


def origins(feed: Feed, day: int) -> Ints:
    """The first snapshot of each hour of a day."""
    _, first = np.unique(np.where(feed.day == day, feed.clock, -1), return_index=True)
    return first[feed.day[first] == day]


def forecast(feed: Feed, day: int) -> Floats:
    """P(empty) and P(full) by the stock's distribution: [stations, origins, hours, events]."""
    at = origins(feed, day)
    minutes = (feed.moment[at] % 1)[:, None]
    hour = feed.clock[at][:, None] + np.arange(max(LEADS))
    rates = flows(feed, day)
    # What begins at twenty past is two thirds of one hour of the clock and a third of the next.
    pickups, returns = (1 - minutes) * rates[:, :, hour % 24] + minutes * rates[
        :, :, (hour + 1) % 24
    ]
    bikes, docks = feed.stock[:, :, at]
    chances = np.full((*pickups.shape, len(EVENTS)), np.nan)
    capacity = np.where(bikes * docks > 0, bikes + docks, 0)
    for size in np.unique(capacity[capacity > 0]):
        same = capacity == size
        stocks = bikes[same].astype(np.int64), int(size), pickups[same], returns[same]
        chances[same] = stock_distribution(*stocks)[..., [0, -1]]
    return chances


def climatology(feed: Feed, day: int) -> Floats:
    """The share of empty and full snapshots on earlier days, by station and hour of the clock."""
    earlier = feed.day < day
    clock = on_clock(feed.moment[earlier])
    told = np.isfinite(feed.stock[:, :, earlier]) @ clock
    found = (feed.stock[:, :, earlier] == 0) @ clock
    system = found.sum(axis=(1, 2)) / told.sum(axis=(1, 2))
    station = (found.sum(axis=2) + SNAPSHOTS * system[:, None]) / (told.sum(axis=2) + SNAPSHOTS)
    share = (found + SNAPSHOTS * station[..., None]) / (told + SNAPSHOTS)
    hour = feed.clock[origins(feed, day)][:, None] + np.arange(1, max(LEADS) + 1)
    return np.moveaxis(share[:, :, hour % 24], 0, -1)


def outcome(feed: Feed, day: int) -> Floats:
    """1 where a station was empty, or full, by the snapshot next to each hour ahead.

    NaN where there is none near enough, and for stations that are empty or full at the origin.
    """
    at = origins(feed, day)
    wanted = feed.moment[at][:, None] + np.arange(1, max(LEADS) + 1)
    next_to = np.abs(wanted[..., None] - feed.moment).argmin(axis=-1)
    told = feed.stock[:, :, next_to]
    known = np.isfinite(told) & (np.abs(feed.moment[next_to] - wanted) <= NEAR)
    neither = (feed.stock[:, :, at] > 0).all(axis=0)[..., None]
    return np.moveaxis(np.where(known & neither, told == 0, np.nan), 0, -1)


def judge(feed: Feed, name: str) -> list[Row]:
    """The three forecasts of a day, by event and hours ahead."""
    day = JUDGED[name]
    came, ours, usual = (f(feed, day) for f in (outcome, forecast, climatology))
    rows = []
    for k, event in enumerate(EVENTS):
        for lead in LEADS:
            here = np.s_[:, :, lead - 1, k]
            known = np.isfinite(came[here])
            happened = came[here][known]
            rows.append(
                {
                    "what": f"{event} {lead} h ahead, {name}",
                    "n": len(happened),
                    "share": happened.mean(),
                    "ours": brier(ours[here][known], happened),
                    # It was neither, so it stays neither.
                    "persistence": brier(np.zeros_like(happened), happened),
                    "climatology": brier(usual[here][known], happened),
                }
            )
    return rows


def draw(feed: Feed, path: str) -> None:
    """How often it happened, by how likely it was said to be; all judged days together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    days = [(forecast(feed, day), outcome(feed, day)) for day in JUDGED.values()]
    said, came = (np.concatenate(both, axis=1) for both in zip(*days, strict=True))
    for k, (axes, event) in enumerate(zip(figure.subplots(1, 2), EVENTS, strict=True)):
        axes.plot([0, 1], [0, 1], color="#9aa7b4", linewidth=1)
        for lead in LEADS:
            here = np.s_[:, :, lead - 1, k]
            known = np.isfinite(came[here])
            bins = reliability(said[here][known], came[here][known]).filter(pl.col("n") >= LEAST)
            axes.plot(bins["forecast"], bins["happened"], ".-", label=f"{lead} h ahead")
        axes.set(xlabel=f"P({event})", ylabel=f"share that was {event}", xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False)
    figure.savefig(path)


def print_scores(rows: list[Row]) -> None:
    """One line per event, hours ahead and day."""
    print_table(
        "Brier scores of stations that are neither empty nor full at the origin",
        ["", "n", "happened", "ours", *REFERENCES, *(f"skill over {r}" for r in REFERENCES)],
        [
            [row["what"], f"{row['n']:,}", f"{row['share']:.2%}"]
            + [f"{row[name]:.5f}" for name in ("ours", *REFERENCES)]
            + [f"{skill(row['ours'], row[name]):.1%}" for name in REFERENCES]
            for row in rows
        ],
    )


def main() -> int:
    """Print each forecast's Brier score; 1 where ours is not the lowest everywhere."""
    default = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("BIKECAST_SHARED_DATA", default)) / FEED
    if not path.exists():
        print(f"nothing was measured: no {path}; set BIKECAST_SHARED_DATA")
        return 0
    feed = read_feed(path)
    rows = [row for name in JUDGED for row in judge(feed, name)]
    print_scores(rows)
    if sys.argv[1:]:
        draw(feed, sys.argv[1])
    return 0 if all(row["ours"] < min(row[name] for name in REFERENCES) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
