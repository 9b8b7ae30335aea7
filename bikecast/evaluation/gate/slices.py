"""Whether somebody pays for the gain: hours, days, weather and stations, each on its own.

Where few bikes come, the forecast with the least absolute error is none at all, and an honest mean
errs more: at night in Jersey City (2020) regression and trees were up to 37 % worse than naive,
while their squared errors were 40 % lower. So a slice is worse where both errors are. Among 448
slices of pairs of models there and in New York (before 2018-07-16) 13 had an absolute error more
than 10 % or surely 3 % higher; in none of them was the squared error surely higher.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from bikecast.evaluation.gate.checks import Check, Outcome
from bikecast.evaluation.gate.comparison import daily_losses, gain
from bikecast.evaluation.gate.evidence import CHALLENGER, Evidence

LIMIT: Final = 0.10
"""Of the absolute error: from it on a slice is worse, where the interval lies above."""
RUINOUS: Final = 0.50
"""From it on a slice is worse, however wide the interval; if the squared error is higher, and not
surely so, it cannot be told. The largest of an honest pair was 37 %."""
WET: Final = 0.2
"""mm in the hour from which it rains: the least that a gauge tells from none."""
NEW: Final = timedelta(days=28)
BLOCKS: Final = ("0–5 h", "6–11 h", "12–17 h", "18–23 h")
FLOWS: Final = ("quiet stations", "middling stations", "busy stations")


def slices(evidence: Evidence, reference: str) -> tuple[Check, ...]:
    """A check for each slice that the window has."""
    # A city of thousands of stations has ten million rows: only what is looked at is copied.
    rows = evidence.rows.select("hour", "station_id", "rain", "actual", CHALLENGER, reference)
    return tuple(
        _judged(name, rows.filter(part), reference)
        for name, part in _parts(evidence)
        if rows.select(part.any()).item()
    )


def _parts(evidence: Evidence) -> Iterator[tuple[str, pl.Expr]]:
    hour = pl.col("hour").dt.hour() // 6
    yield from ((name, hour == i) for i, name in enumerate(BLOCKS))
    weekend = pl.col("hour").dt.weekday() >= 6
    yield from (("weekends", weekend), ("Monday to Friday", ~weekend))
    wet = pl.col("rain") >= WET
    yield from (("hours with rain", wet.fill_null(False)), ("dry hours", (~wet).fill_null(False)))
    station = pl.col("station_id").cast(pl.String)
    yield from ((name, station.is_in(ids)) for name, ids in _by_flow(evidence.rows).items())
    yield "new stations", station.is_in(_new(evidence))


def _by_flow(rows: pl.DataFrame) -> dict[str, list[str]]:
    """Thirds of the stations by their mean flow; of fewer than three nobody is busy or quiet."""
    means = rows.group_by("station_id").agg(pl.col("actual").mean())
    ids = means.sort("actual", "station_id")["station_id"].cast(pl.String).to_list()
    if len(ids) < len(FLOWS):
        return {}
    return {n: list(p) for n, p in zip(FLOWS, np.array_split(ids, len(FLOWS)), strict=True)}


def _new(evidence: Evidence) -> list[str]:
    """Stations of which less than four weeks were known when the window began."""
    since = datetime.fromisoformat(evidence.facts.start) - NEW
    first = evidence.facts.first_hours
    return [i for i, hour in first.items() if datetime.fromisoformat(hour) > since]


def _judged(name: str, rows: pl.DataFrame, reference: str) -> Check:
    name = f"no worse: {name}"
    found, squared = (gain(*daily_losses(rows, CHALLENGER, reference, p)) for p in (1, 2))
    worse, low, high = 0.0 - found.value, 0.0 - found.high, 0.0 - found.low
    if not np.isfinite(worse):
        said = "no two days of it" if found.days < 2 else f"{reference} never errs in it"
        return Check(name, "promote", said, {"days": found.days})
    outcome: Outcome = "promote"
    if squared.high < 0 and (low > LIMIT or worse > RUINOUS):
        outcome = "reject"
    elif squared.value < 0 and worse > RUINOUS:
        outcome = "inconclusive"
    figures = {"worse": worse, "low": low, "high": high, "days": found.days, "limit": LIMIT}
    span = f"{low:+.1%} to {high:+.1%}"
    if not np.isfinite(low):
        span = f"{found.days} days are too few to be sure"
    detail = f"error {worse:+.1%} ({span}) beside {reference}'s"
    return Check(name, outcome, detail, figures | {"worse_squared": 0.0 - squared.value})
