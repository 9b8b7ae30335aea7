"""The days that were forecast worst, and the likely reason as far as the data at hand tell."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from bikecast.evaluation.scores import KEYS, scored_rows
from bikecast.features.past import OUTAGE
from bikecast.history import History
from bikecast.records import WEATHER

MOST_OF_IT: Final = 1 / 3
"""Share of a day's error from which what made it is named as the reason."""
ONE_WAY: Final = 3 / 4
"""Share of stations that err to the same side, from which the whole system was low or high."""
BY_DAY: Final = (6, 22)  # hours
AROUND_DAYS: Final = 7
WETTER: Final = 3.0
"""More rain by day than on the days around, in mm, from which a day was wet."""
COLDER: Final = 4.0
"""Below the days around, in °C, from which a day was cold."""


@dataclass(frozen=True)
class BadDay:
    """A day and what went wrong on it.

    :param mae: in bikes per station-hour; ``times_usual`` is it over the median day's.
    :param bias: mean of forecast minus actual, in bikes per station-hour.
    :param one_way: stations that err to the side of the bias, of all ``stations`` of the day.
    :param reason: facts that would explain it, or ``unknown``.
    """

    day: date
    mae: float
    times_usual: float
    bias: float
    one_way: int
    stations: int
    reason: str


def errors_by_day(predictions: pl.DataFrame, history: History) -> pl.DataFrame:
    """``day``, ``mae`` and ``bias`` of one model, in bikes per station-hour, in order."""
    rows = scored_rows(predictions, history)
    error = pl.col("mean") - pl.col("actual")
    days = rows.group_by(pl.col("hour").dt.date().alias("day"))
    return days.agg(error.abs().mean().alias("mae"), error.mean().alias("bias")).sort("day")


def worst_days(predictions: pl.DataFrame, history: History, most: int = 5) -> list[BadDay]:
    """The days with the largest error, the worst first.

    :param predictions: one model's rows.
    """
    days = errors_by_day(predictions, history)
    usual = float(np.median(days["mae"].to_numpy()))
    hours = _hours(predictions, history)
    found = []
    for day, mae, bias in days.sort("mae", descending=True).head(most).iter_rows():
        part = hours.filter(pl.col("hour").dt.date() == day)
        lean = part.group_by("station_id").agg(pl.col("surplus").sum())["surplus"]
        one_way = int((lean * np.sign(bias) > 0).sum())
        reason = _reason(day, part, history, np.sign(bias) * (one_way >= ONE_WAY * len(lean)))
        times = mae / usual if usual else float("nan")
        found.append(BadDay(day, mae, times, bias, one_way, len(lean), reason))
    return found


def _hours(predictions: pl.DataFrame, history: History) -> pl.DataFrame:
    """Every station and hour: bikes ``expected`` and ``came`` of both targets, and the errors."""
    once = scored_rows(predictions, history).group_by(KEYS)
    rows = once.agg(pl.col("mean").mean(), pl.col("actual").first())
    surplus = pl.col("mean") - pl.col("actual")
    return (
        rows.group_by("station_id", "hour")
        .agg(
            expected=pl.col("mean").sum(),
            came=pl.col("actual").sum(),
            surplus=surplus.sum(),
            error=surplus.abs().sum(),
        )
        .sort("station_id", "hour")
    )


def _reason(day: date, hours: pl.DataFrame, history: History, lean: float) -> str:
    """Every fact that holds.

    :param lean: 1 where nearly all stations were forecast too high, -1 too low, 0 neither.
    """
    facts = (
        _outage(hours, history) or _one_station(hours, history),
        _days_off(day, history),
        _weather(day, history, lean),
    )
    return "; ".join(fact for fact in facts if fact) or "unknown"


def _outage(hours: pl.DataFrame, history: History) -> str:
    """Runs of hours without a bike at stations where so many should have come and gone."""
    empty = pl.col("came") == 0
    runs = (
        hours.with_columns(run=empty.rle_id().over("station_id"))
        .filter(empty)
        .group_by("station_id", "run")
        .agg(pl.col("expected", "error").sum(), pl.len().alias("hours"))
        .filter(pl.col("expected") >= OUTAGE)
    )
    if runs.is_empty() or runs["error"].sum() < MOST_OF_IT * float(hours["error"].sum()):
        return ""
    ids = runs["station_id"].unique()
    where = _named(history, ids[0]) if len(ids) == 1 else f"{len(ids)} stations"
    return (
        f"an outage: no bike in up to {max(runs['hours'])} hours on end at {where}, "
        f"where {runs['expected'].sum():,.0f} were expected"
    )


def _one_station(hours: pl.DataFrame, history: History) -> str:
    by = hours.group_by("station_id").agg(pl.col("expected", "came", "error").sum())
    worst = by.sort("error", "station_id").row(-1, named=True)
    share = worst["error"] / max(hours["error"].sum(), 1e-9)
    # Of a few stations one always has much of the error.
    if share < max(MOST_OF_IT, 3 / len(by)):
        return ""
    where, came, expected = _named(history, worst["station_id"]), worst["came"], worst["expected"]
    if came > 1.5 * expected:
        return f"an event at {where}: {came:,.0f} bikes where {expected:,.0f} were expected"
    return f"{where} alone made {share:.0%} of the error"


def _named(history: History, station_id: str) -> str:
    name = history.stations[history.position[station_id]].name
    return f"station {station_id} ({name})" if name else f"station {station_id}"


def _days_off(day: date, history: History) -> str:
    at = (day - history.start.date()).days
    calendar = history.calendar(0, (at + 8) * 24)
    holiday, off = calendar.holiday[::24], ~calendar.workday[::24]
    if holiday[at]:
        return "a public holiday"
    for step, side in ((-1, "after"), (1, "before")):
        i = at + step
        while 0 <= i < len(off) and off[i]:
            if holiday[i]:
                if i == at + step:
                    return f"the day {side} a public holiday"
                long = "the long weekend of a public holiday"
                return long if off[at] else f"the day {side} {long}"
            i += step
    return ""


def _weather(day: date, history: History, lean: float) -> str:
    """What set a day apart from those around it, where the whole system was low or high."""
    if history.weather is None or not lean:
        return ""
    offsets = [d for d in range(-AROUND_DAYS, AROUND_DAYS + 1) if d]
    rain, warmth = _by_day(day, history)
    around = np.array([_by_day(day + timedelta(days=d), history) for d in offsets])
    around = around[np.isfinite(around).all(axis=1)]
    if not len(around) or not np.isfinite([rain, warmth]).all():
        return ""
    usual_rain, usual_warmth = np.median(around, axis=0)
    facts = {
        "wet" if lean > 0 else "dry": (
            lean * (rain - usual_rain) >= WETTER,
            f"{rain:.0f} mm of rain by day, usually {usual_rain:.0f}",
        ),
        "cold" if lean > 0 else "warm": (
            lean * (usual_warmth - warmth) >= COLDER,
            f"{warmth:.0f} °C by day, usually {usual_warmth:.0f}",
        ),
    }
    return "; ".join(f"{what}: {figures}" for what, (holds, figures) in facts.items() if holds)


def _by_day(day: date, history: History) -> tuple[float, float]:
    """Rain in mm and mean temperature in °C of the hours by day, as last known."""
    assert history.weather is not None
    midnight = history.index(datetime(day.year, day.month, day.day))
    hours = np.arange(midnight + BY_DAY[0], midnight + BY_DAY[1])
    newest = max((since for since, _ in history.weather.vintages), default=0)
    values = history.weather.at(newest, hours)
    rain, warmth = (values[:, WEATHER.index(v)] for v in ("precipitation", "temperature"))
    return float(rain.sum()), float(warmth.mean())
