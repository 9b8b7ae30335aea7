"""A contender on the recent hours, fitted before them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from bikecast.evaluation.backtest import backtest
from bikecast.evaluation.detail import Parts, parts
from bikecast.evaluation.scores import KEYS, Scores, score_overall
from bikecast.history import History
from bikecast.models.base import Forecaster, Grid
from bikecast.records import QUANTILE_COLUMNS, TARGETS

ROW = ["origin", *KEYS]


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of it.

    :param frame: ``origin``, station, hour, target, ``mean`` and quantiles, in little memory.
    :param forecaster: as it was fitted before the window.
    """

    frame: pl.DataFrame
    scores: Scores
    parts: Parts
    forecaster: Forecaster


def trial(
    history: History, make: Callable[[], Forecaster], start: datetime, days: int, grid: Grid
) -> Trial:
    """Fit once before the window, then forecast all of it.

    :param start: first day of the window, local midnight.
    """
    made = make()
    frame = backtest(history, lambda: made, start=start, days=days, grid=grid, refit_days=days)
    ids = pl.Enum([s.station_id for s in history.stations])
    small = frame.select(
        "origin",
        pl.col("station_id").cast(ids),
        "hour",
        pl.col("target").cast(pl.Enum(TARGETS)),
        pl.col("mean", *QUANTILE_COLUMNS).cast(pl.Float32),
    )
    return Trial(small, score_overall(frame, history), parts(frame, history), made)
