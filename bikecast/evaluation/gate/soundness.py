"""What no forecast may be, whoever errs less: missing, negative, crossing, wrongly sure."""

from typing import Final

import numpy as np
import polars as pl

from bikecast.evaluation.gate.checks import Check
from bikecast.evaluation.gate.evidence import CHALLENGER, NAIVE, Evidence
from bikecast.records import QUANTILE_COLUMNS

COVERAGE_SLACK: Final = 0.08
"""By which an end of the 80 % interval may miss its level. Seven windows of four weeks (Jersey City
2020, New York before 2018-07-16): learned models miss by 1.1 points at most, the four-week mean by
6.5, naive by 9."""
ENDS: Final = {"q10": 0.1, "q90": 0.9}
MOST_NAMED: Final = 5


def soundness(evidence: Evidence) -> tuple[Check, ...]:
    """Every forecast there, none negative; quantiles in order; intervals as wide as they say.

    Naive's are wider or narrower; where nothing errs less they have to do.
    """
    rows = evidence.rows
    checks = (_numbers(rows), _order(rows))
    if evidence.facts.model == NAIVE:
        return checks
    return (*checks, _coverage(rows.select("actual", *ENDS).drop_nulls()))


def _numbers(rows: pl.DataFrame) -> Check:
    """Null, NaN, infinite and negative means and quantiles, by station."""
    good = pl.all_horizontal(
        (pl.col(c).is_finite() & (pl.col(c) >= 0)).fill_null(False)
        for c in (CHALLENGER, *QUANTILE_COLUMNS)
    )
    bad = rows.filter(~good)
    name = "a number for every station and hour"
    if bad.is_empty():
        return Check(name, "promote", f"{len(rows):,} forecasts", {"forecasts": len(rows)})
    ids = bad["station_id"].cast(pl.String).unique().sort().to_list()
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return Check(
        name,
        "reject",
        f"{len(bad):,} of {len(rows):,} forecasts are missing, negative or not a number, at "
        f"{', '.join(ids[:MOST_NAMED])}{more}",
        {"forecasts": len(rows), "bad": len(bad), "stations": ids},
    )


def _order(rows: pl.DataFrame) -> Check:
    levels = rows.select(QUANTILE_COLUMNS).to_numpy()
    crossing = int((np.diff(levels, axis=1) < 0).any(axis=1).sum())
    detail = f"{crossing:,} of {len(rows):,} forecasts have quantiles that cross"
    return Check(
        "quantiles in order", "reject" if crossing else "promote", detail, {"crossing": crossing}
    )


def _coverage(rows: pl.DataFrame) -> Check:
    """How far the ends of the 80 % interval miss their levels.

    Counts may equal a quantile: it is right where the level lies between the share below it and
    the share up to it, as in :mod:`bikecast.evaluation.calibration`.
    """
    name = "interval coverage"
    if rows.is_empty():
        return Check(name, "inconclusive", "no forecast of a known hour")
    actual = rows["actual"].to_numpy()
    misses = {}
    for column, level in ENDS.items():
        end = rows[column].to_numpy()
        below, up_to = float((actual < end).mean()), float((actual <= end).mean())
        misses[column] = max(0.0, below - level, level - up_to)
    low, high = (rows[c].to_numpy() for c in ENDS)
    covered = float(((actual >= low) & (actual <= high)).mean())
    worst = max(misses.values())
    return Check(
        name,
        "promote" if worst <= COVERAGE_SLACK else "reject",
        f"{covered:.1%} inside the 80 % interval, its ends off by up to {100 * worst:.1f} points",
        {"coverage_80": covered, "miss": worst, "limit": COVERAGE_SLACK},
    )
