"""What a forecast is worth to riders: the stock that it sets at midnight, held against the day.

The rule is that of the published figures that it is compared with, in whole hours, pickups before
returns, as the hour is all that a panel knows of a ride. Pickups and returns that take turns within
the hour fail less often: ``bikecast.inventory`` reckons with those, this score does not.
"""

from datetime import datetime

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import gammaln, pdtrc, xlogy

from bikecast.history import History, Ints
from bikecast.records import TARGETS

Floats = NDArray[np.float64]
KEYS = ["station_id", "hour", "target"]


def decision_value(predictions: pl.DataFrame, history: History) -> dict[str, float]:
    """Trips that would have failed had each station been stocked at midnight by its forecast.

    For every station and day the stock is the one with the fewest expected failures, Poisson
    around the newest means that were issued at or before that midnight; then the real day is
    replayed from it. Demand is what was ridden: trips that failed in their time are not known.

    :param predictions: one model's rows: ``origin``, ``KEYS`` and ``mean``.
    :returns: ``failed_trips`` of ``trip_demand``, pickups and returns together, on all of the
        ``station_days`` whose capacity is known and whose hours are all known and forecast, both
        targets; ``station_days_left_out`` counts the others. Without any that counts there are
        only these two numbers.
    """
    forecast, actual = _days(predictions, history)
    capacity = np.array([s.capacity or 0 for s in history.stations])
    whole = np.isfinite(forecast + actual).all(axis=(2, 3)) & (capacity > 0)[:, None]
    asked = predictions.select("station_id", pl.col("hour").dt.date()).n_unique()
    days = int(whole.sum())
    counts: dict[str, float] = {"station_days": days, "station_days_left_out": asked - days}
    if not days:
        return counts
    docks = np.broadcast_to(capacity[:, None], whole.shape)[whole]
    failed = replay(best_stocks(forecast[whole], docks), docks, actual[whole])
    return counts | {
        "failed_trips": float(failed.sum()),
        "trip_demand": float(actual[whole].sum()),
    }


def best_stocks(forecast: Floats, capacity: Ints) -> Ints:
    """The first stock with the fewest expected failures, of every station-day.

    :param forecast: bikes, [station-days, hours, targets]; ``capacity`` in docks, [station-days].
    """
    stocks = np.empty(len(capacity), np.int64)
    for docks in np.unique(capacity):
        at = capacity == docks
        failures = np.zeros((at.sum(), docks + 1))
        for pickups, returns in np.moveaxis(forecast[at], (1, 2), (0, 1))[::-1]:
            # Returns into a station are pickups of its free docks.
            failures = _before(failures[:, ::-1], returns)[:, ::-1]
            failures = _before(failures, pickups)
        stocks[at] = failures.argmin(axis=-1)
    return stocks


def _before(failures: Floats, demand: Floats) -> Floats:
    """Expected failures before an hour's pickups, from those after them, both by the stock.

    :param failures: [station-days, capacity + 1]; ``demand`` is the mean of a Poisson.
    """
    n, mu = np.arange(failures.shape[1]), demand[:, None]
    counts, more = np.exp(xlogy(n, mu) - mu - gammaln(n + 1)), pdtrc(n, mu)
    # Row b holds the chances of b, b - 1, … pickups: a window that slides, not a copy.
    padded = np.concatenate([np.zeros_like(counts[:, 1:]), counts], axis=1)
    left = sliding_window_view(padded, len(n), axis=1)[..., ::-1]
    later = np.einsum("dba,da->db", left, failures) + more * failures[:, :1]
    # The b-th bike serves when more than b - 1 are asked for; without bikes all fail.
    served = np.cumsum(more, axis=1) - more
    return np.asarray(later + mu - served)


def replay(stock: Ints, capacity: Ints, flows: Floats) -> Floats:
    """Pickups that find no bike and returns that find no dock, pickups first in every hour.

    :param stock: bikes at midnight, [...]; ``capacity`` in docks.
    :param flows: what riders ask for, bikes, [..., hours, targets].
    :returns: trips of the whole day, [...].
    """
    bikes, failed = stock.astype(np.float64), np.zeros(stock.shape)
    for pickups, returns in np.moveaxis(flows, (-2, -1), (0, 1)):
        failed += np.maximum(pickups - bikes, 0)
        bikes = np.maximum(bikes - pickups, 0) + returns
        failed += np.maximum(bikes - capacity, 0)
        bikes = np.minimum(bikes, capacity)
    return failed


def _days(predictions: pl.DataFrame, history: History) -> tuple[Floats, Floats]:
    """Forecast and actual flows of the days, [stations, days, 24, targets], NaN where unknown.

    In the hour that spring skips nobody rides.
    """
    hours = predictions["hour"]
    first, last = hours.min(), hours.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    begin = history.index(first) // 24 * 24
    stop = min((history.index(last) // 24 + 1) * 24, history.flows.shape[1])
    flows = np.full((2, len(history.stations), stop - begin, len(TARGETS)), np.nan)
    flows[1] = history.flows[:, begin:stop]
    newest = (
        predictions.filter(
            pl.col("origin") <= pl.col("hour").dt.truncate("1d"),
            pl.col("hour") < history.hour(stop),
        )
        .sort("origin")
        .unique(KEYS, keep="last")
    )
    flows[0][_places(newest, history, begin)] = newest["mean"]
    flows[:, :, ~history.calendar(begin, stop).exists] = 0
    forecast, actual = flows.reshape(2, len(history.stations), -1, 24, len(TARGETS))
    return forecast, actual


def _places(rows: pl.DataFrame, history: History, begin: int) -> tuple[Ints, Ints, Ints]:
    """Station, hour from ``begin`` on, target."""
    order = {target: k for k, target in enumerate(TARGETS)}
    found = rows.select(
        pl.col("station_id").replace_strict(history.position, return_dtype=pl.Int64),
        (pl.col("hour") - history.hour(begin)).dt.total_hours(),
        pl.col("target").replace_strict(order, return_dtype=pl.Int64),
    )
    station, hour, target = (found[name].to_numpy() for name in found.columns)
    return station, hour, target
