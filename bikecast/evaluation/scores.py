"""Scores of forecasts against what came, on the same rows for every model."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from bikecast.history import History
from bikecast.records import QUANTILE_COLUMNS, QUANTILES, TARGETS

WEEK = 168
KEYS = ["station_id", "hour", "target"]
Scores = dict[str, float]


def actuals(history: History, first: datetime) -> pl.DataFrame:
    """What came from ``first`` on: ``KEYS`` and ``actual``; an unknown hour has no row."""
    offset = max(history.index(first), 0)
    flows = history.flows[:, offset:]
    station, hour, target = np.indices(flows.shape).reshape(3, -1)
    ids = pl.Series([s.station_id for s in history.stations])
    frame = pl.DataFrame(
        {
            "station_id": ids.gather(pl.Series(station)),
            "hour": np.datetime64(history.hour(offset), "us") + hour * np.timedelta64(1, "h"),
            "target": pl.Series(TARGETS).gather(pl.Series(target)),
            "actual": flows.reshape(-1),
        }
    )
    return frame.filter(pl.col("actual").is_not_nan())


def naive_scale(history: History, before: datetime) -> float:
    """MAE of the seasonal naive forecast on all hours before a moment: the scale of MASE."""
    flows = history.flows[:, : max(history.index(before), 0)]
    return float(np.nanmean(np.abs(flows[:, WEEK:] - flows[:, :-WEEK])))


def score_overall(predictions: pl.DataFrame, history: History) -> Scores:
    """The scores of one model's predictions over all of their hours that are known."""
    first = predictions["hour"].min()
    assert isinstance(first, datetime)
    rows = predictions.join(actuals(history, first), on=KEYS)
    return _scores(rows, naive_scale(history, first)) | _net_flow(rows)


def score_models(predictions: pl.DataFrame, history: History) -> dict[str, Any]:
    """Every model's scores: overall, by target, by hours ahead, by station.

    :param predictions: rows of one or more models, told apart by ``model``; where ``naive`` is
        among them, ``skill`` is 1 − MAE / MAE of naive on the same rows.
    """
    first = predictions["hour"].min()
    assert isinstance(first, datetime)
    step = ((pl.col("hour") - pl.col("origin")).dt.total_hours() + 1).alias("horizon")
    rows = predictions.join(actuals(history, first), on=KEYS).with_columns(step)
    scale = naive_scale(history, first)
    naive = rows.filter(pl.col("model") == "naive")
    reference = float((naive["mean"] - naive["actual"]).abs().mean() or 0)  # type: ignore[arg-type]
    document = {}
    for (name,), part in rows.group_by("model", maintain_order=True):
        overall = _scores(part, scale) | _net_flow(part)
        if reference:
            overall["skill"] = 1 - overall["mae"] / reference
        unscored = len(predictions.filter(pl.col("model") == name)) - len(part)
        document[str(name)] = {
            "overall": overall | {"unscored": unscored},
            **{f"by_{by}": _by(part, by, scale) for by in ("target", "horizon", "station_id")},
        }
    return document


def _by(rows: pl.DataFrame, column: str, scale: float) -> list[dict[str, Any]]:
    groups = rows.sort(column).group_by(column, maintain_order=True)
    return [{column: key} | _scores(part, scale) for (key,), part in groups]


def _scores(rows: pl.DataFrame, scale: float) -> Scores:
    """One group's scores.

    MAE, RMSE, bias and pinball are in bikes per hour. WAPE is the sum of absolute errors over the
    sum of actuals. MASE is the MAE over ``scale`` (Hyndman and Koehler 2006, International Journal
    of Forecasting 22(4)). Pinball is the mean over the levels of ``QUANTILES``. An interval covers
    what equals one of its ends.
    """
    actual = rows["actual"].to_numpy().astype(np.float64)
    error = rows["mean"].to_numpy() - actual
    levels = rows.select(QUANTILE_COLUMNS).to_numpy()
    short = actual[:, None] - levels
    level = np.array(QUANTILES)
    mae = float(np.abs(error).mean())
    scaled = {"mase": mae / scale} if scale else {}
    return scaled | {
        "n": len(rows),
        "mae": mae,
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(error.mean()),
        "wape": float(np.abs(error).sum() / max(actual.sum(), 1e-9)),
        "mae_q50": float(np.abs(short[:, QUANTILE_COLUMNS.index("q50")]).mean()),
        "pinball": float(np.maximum(level * short, (level - 1) * short).mean()),
        "coverage_80": _covered(actual, levels, "q10", "q90"),
        "coverage_90": _covered(actual, levels, "q05", "q95"),
    }


def _covered(actual: np.ndarray, levels: np.ndarray, low: str, high: str) -> float:
    lower, upper = (levels[:, QUANTILE_COLUMNS.index(c)] for c in (low, high))
    return float(((actual >= lower) & (actual <= upper)).mean())


def _net_flow(rows: pl.DataFrame) -> Scores:
    """MAE of a station-day's returns minus pickups, from the newest origin of each hour.

    Only days with all their hours and both targets count; without any there is no such score.
    """
    newest = rows.sort("origin").unique(KEYS, keep="last")
    sign = pl.when(pl.col("target") == "returns").then(1).otherwise(-1)
    days = newest.group_by("station_id", pl.col("hour").dt.date()).agg(
        ((pl.col("mean") - pl.col("actual")) * sign).sum().abs().alias("error"), pl.len()
    )
    whole = days.filter(pl.col("len") >= 23 * len(TARGETS))
    if whole.is_empty():
        return {}
    return {"net_flow_mae": float(whole["error"].mean())}  # type: ignore[arg-type]
