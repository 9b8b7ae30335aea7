"""A station's week beside its bands."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from bikecast.evaluation.report.drawing import INK, picture
from bikecast.evaluation.scores import KEYS, actuals
from bikecast.history import History
from bikecast.records import TARGETS

WEEK = timedelta(days=7)
BANDS = (("q05", "q95", "90 % interval", 0.15), ("q25", "q75", "50 % interval", 0.3))


def busiest(predictions: pl.DataFrame) -> str:
    """The station of which most is forecast."""
    total = predictions.group_by("station_id").agg(pl.col("mean").sum())
    return str(total.sort("mean", "station_id")["station_id"][-1])


def week(predictions: pl.DataFrame, history: History, station: str, colour: str) -> str:
    """The first week of a station, pickups above returns.

    :param predictions: one model's; of several forecasts of an hour the newest is shown.
    """
    newest = predictions.filter(pl.col("station_id") == station).sort("origin")
    hours = newest.unique(KEYS, keep="last").sort("hour")
    first = hours["hour"][0]
    assert isinstance(first, datetime)
    shown = hours.filter(pl.col("hour") < first + WEEK)
    rows = shown.join(actuals(history, first), on=KEYS, how="left").sort("hour")
    parts = {t: rows.filter(pl.col("target") == t) for t in TARGETS}
    parts = {t: part for t, part in parts.items() if len(part)}
    meaning = "; ".join(
        f"{target} from {first:%Y-%m-%d} on: {_inside(part)}" for target, part in parts.items()
    )

    def draw(axes: Any) -> None:
        for axis, (target, part) in zip(np.atleast_1d(axes), parts.items(), strict=True):
            _draw(axis, part, target, colour)

    return picture(draw, meaning, rows=len(parts), height=2.7 * len(parts))


def _inside(rows: pl.DataFrame) -> str:
    known = rows.filter(pl.col("actual").is_not_null())
    inside = known["actual"].is_between(known["q05"], known["q95"])
    return f"{inside.sum()} of {len(known)} known hours inside the 90 % interval"


def _draw(axes: Any, rows: pl.DataFrame, target: str, colour: str) -> None:
    from matplotlib.dates import DateFormatter, DayLocator

    hours = rows["hour"].to_list()
    for low, high, label, alpha in BANDS:
        axes.fill_between(
            hours, rows[low], rows[high], color=colour, alpha=alpha, linewidth=0, label=label
        )
    axes.plot(hours, rows["mean"], color=colour, linewidth=1.2, label="forecast")
    axes.plot(hours, rows["actual"], ".", color=INK, markersize=4, label="came")
    axes.set(title=f"{target} per hour", ylim=(0, None), xlim=(hours[0], hours[-1]))
    axes.xaxis.set_major_locator(DayLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%a %d %b"))
    if target == TARGETS[0]:
        axes.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
