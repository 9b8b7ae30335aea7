"""The worst days, and the error of all days around them."""

from html import escape
from math import isfinite
from typing import Any

import polars as pl

from bikecast.evaluation.days import BadDay, errors_by_day, worst_days
from bikecast.evaluation.report.drawing import LINE, picture, table
from bikecast.history import History


def days(predictions: pl.DataFrame, history: History, colour: str) -> str:
    """A bar for each day, and a line of the table for each of the worst.

    :param predictions: one model's.
    """
    by_day, worst = errors_by_day(predictions, history), worst_days(predictions, history)
    marked = {bad.day for bad in worst}
    meaning = (
        f"MAE of each day, from {min(by_day['mae']):.2f} to {max(by_day['mae']):.2f} bikes per "
        f"station-hour; the worst are {', '.join(f'{d:%Y-%m-%d}' for d in sorted(marked))}"
    )

    def draw(axes: Any) -> None:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        shades = [colour if day in marked else LINE for day in by_day["day"]]
        axes.bar(by_day["day"].to_list(), by_day["mae"], color=shades)
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.set(title="MAE of each day, bikes per station-hour")

    heads = ["day", "MAE", "of a usual day's", "forecasts were", "likely reason"]
    return picture(draw, meaning, height=2.6) + table(
        heads, [_cells(b) for b in worst], look="words"
    )


def _cells(bad: BadDay) -> list[str]:
    side = "too high" if bad.bias > 0 else "too low"
    return [
        f"{bad.day:%a %Y-%m-%d}",
        f"{bad.mae:.2f}",
        f"{bad.times_usual:.1f} ×" if isfinite(bad.times_usual) else "–",
        f"{abs(bad.bias):.2f} {side}, {bad.one_way} of {bad.stations} stations",
        escape(bad.reason),
    ]
