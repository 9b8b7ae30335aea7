"""Whether the intervals are as wide as they say: calibration of quantiles of counts.

Counts are discrete, so a quantile ``q`` of level ``p`` is right where ``P(y < q) ≤ p ≤ P(y ≤ q)``;
no observed share need equal ``p``. A cell (one level in one group of rows) misses by what lies
beyond a tolerance on either side.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.records import QUANTILE_COLUMNS, QUANTILES

TOLERANCE: Final = 0.015
"""Of the shares over all rows; beyond it the intervals are not called calibrated."""
GROUP_TOLERANCE: Final = 0.04
"""Of the shares in a tercile, a block of the day or at one distance, which have fewer rows."""
HORIZONS: Final = (1, 24, 72, 168)
"""Hours ahead that are looked at on their own, where they were forecast."""
EDGES: Final = (0.0, *QUANTILES, 1.0)
"""The levels between which the forecast says something, and the bins of the PIT histogram."""

MOST_WORST: Final = 5

_BLOCKS = ("0–5", "6–11", "12–17", "18–23")


def calibration(rows: pl.DataFrame) -> dict[str, Any]:
    """The verdict on one model's quantiles, and the figures behind it.

    :param rows: at least one, with ``mean``, ``QUANTILE_COLUMNS``, ``actual``, ``hour``, and
        ``horizon`` in hours ahead.
    :returns: ``calibrated``, ``largest_miss`` (a share, 0 where calibrated), the ``worst`` cells
        of all ``cells``, and the shares of the ``pit`` histogram between ``EDGES``. A cell has its
        ``group`` and ``part``, ``level``, ``n``, the shares ``below`` (y < q) and ``up_to``
        (y ≤ q), and its ``miss`` beyond the ``tolerance``.
    """
    cells = [cell for part in _parts(rows) for cell in _cells(*part)]
    worst = sorted((c for c in cells if c["miss"] > 0), key=lambda c: -c["miss"])
    return {
        "calibrated": not worst,
        "largest_miss": worst[0]["miss"] if worst else 0.0,
        "worst": worst[:MOST_WORST],
        "cells": cells,
        "pit": pit_shares(rows["actual"].to_numpy(), rows.select(QUANTILE_COLUMNS).to_numpy()),
    }


def _parts(rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, str, str, float]]:
    """Each part of the rows that is looked at: its rows, group, name and tolerance."""
    yield rows, "overall", "all", TOLERANCE
    cuts = np.quantile(rows["mean"].to_numpy(), [1 / 3, 2 / 3])
    tercile = pl.Series(np.searchsorted(cuts, rows["mean"].to_numpy()))
    groups = (
        ("forecast", tercile, dict(enumerate(("low", "middle", "high")))),
        ("hour of the day", rows["hour"].dt.hour() // 6, dict(enumerate(_BLOCKS))),
        ("hours ahead", rows["horizon"], {h: str(h) for h in HORIZONS}),
    )
    for group, key, names in groups:
        for value, name in names.items():
            part = rows.filter(key == value)
            if len(part):
                yield part, group, name, GROUP_TOLERANCE


def _cells(rows: pl.DataFrame, group: str, part: str, tolerance: float) -> list[dict[str, Any]]:
    actual = rows["actual"].to_numpy()[:, None]
    levels = rows.select(QUANTILE_COLUMNS).to_numpy()
    shares = zip(QUANTILES, (actual < levels).mean(axis=0), (actual <= levels).mean(axis=0))
    return [
        {
            "group": group,
            "part": part,
            "level": level,
            "n": len(rows),
            "below": float(below),
            "up_to": float(up_to),
            "tolerance": tolerance,
            "miss": max(0.0, float(below) - level - tolerance, level - tolerance - float(up_to)),
        }
        for level, below, up_to in shares
    ]


def pit_shares(actual: NDArray[np.floating], levels: NDArray[np.floating]) -> list[float]:
    """The non-randomised PIT histogram of counts, from quantiles alone: a share per bin.

    Each count spreads its mass evenly over ``F(y − 1) … F(y)``, the expectation of the randomised
    transform (Czado, Gneiting and Held 2009, Biometrics 65(4), section 2.1). Between two quantiles
    that is one bin. A count that equals quantiles has the level of each inside that range, and its
    ends somewhere in the bins beside them, of which the middle is taken; nothing is below 0. Where
    counts are small and most of them tie, right quantiles look uneven by up to a fifth.

    :param actual: [n], whole bikes.
    :param levels: [n, quantiles], not crossing.
    """
    edges = np.array(EDGES)
    middle = (edges[:-1] + edges[1:]) / 2
    first = (levels < actual[:, None]).sum(axis=1)
    last = (levels <= actual[:, None]).sum(axis=1)
    ties = last > first
    low = np.where(ties, np.where(actual > 0, middle[first], 0), edges[first])[:, None]
    high = np.where(ties, middle[last], edges[first + 1])[:, None]
    inside = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return [float(s) for s in (np.maximum(inside, 0) / (high - low)).mean(axis=0)]
