"""Forecast arrays as a frame: one row per origin, station, hour and target."""

from datetime import timedelta

import numpy as np
import polars as pl

from bikecast.history import History, Ints
from bikecast.models.base import Prediction
from bikecast.records import FORECAST_COLUMNS, QUANTILE_COLUMNS, TARGETS


def forecast_frame(prediction: Prediction, history: History, origins: Ints) -> pl.DataFrame:
    """``origin`` and ``FORECAST_COLUMNS``, without the hour that spring skips and unknown means.

    A target that the system does not count has no row: nobody could say how wrong it was.

    :param origins: grid indices that the prediction was made from, its first axis.
    """
    n_origins, horizon, n_stations, n_targets = prediction.mean.shape
    shape = prediction.mean.shape
    step = np.arange(horizon)[None, :, None, None]
    target_hour = np.broadcast_to(origins[:, None, None, None] + step, shape).ravel()
    origin_hour = np.broadcast_to(origins[:, None, None, None], shape).ravel()
    station = np.broadcast_to(np.arange(n_stations)[None, None, :, None], shape).ravel()
    target = np.broadcast_to(np.arange(n_targets), shape).ravel()
    keep = history.calendar(0, int(target_hour.max()) + 1).exists[target_hour]
    keep &= history.counted[target] & ~np.isnan(prediction.mean.ravel())
    ids = pl.Series([s.station_id for s in history.stations])
    levels = prediction.quantiles.reshape(-1, len(QUANTILE_COLUMNS))[keep]
    return pl.DataFrame(
        {
            "origin": _civil(history, origin_hour[keep]),
            "station_id": ids.gather(pl.Series(station[keep])),
            "hour": _civil(history, target_hour[keep]),
            "target": pl.Series(TARGETS).gather(pl.Series(target[keep])),
            "mean": prediction.mean.ravel()[keep],
            **{name: levels[:, q] for q, name in enumerate(QUANTILE_COLUMNS)},
        }
    ).select("origin", *FORECAST_COLUMNS)


def _civil(history: History, index: Ints) -> pl.Series:
    return pl.Series(
        np.datetime64(history.start, "us") + index * np.timedelta64(timedelta(hours=1))
    )
