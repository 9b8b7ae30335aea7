"""Scores of forecasts against what came, on the same rows for every model."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.errors import InputError
from bikecast.evaluation.calibration import calibration
from bikecast.evaluation.decision import decision_value
from bikecast.history import History
from bikecast.records import QUANTILE_COLUMNS, QUANTILES, TARGETS

WEEK = 168
KEYS = ["station_id", "hour", "target"]
SPLITS = ("target", "horizon", "station_id")
# Model to beat → name of the score that says by how much.
REFERENCES = {"naive": "skill", "mean4w": "skill_mean4w"}
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
    """MAE of the seasonal naive forecast on all hours before a moment: the scale of MASE.

    It is 0 where no hour is known a week after another one.
    """
    flows = history.flows[:, : max(history.index(before), 0)]
    errors = np.abs(flows[:, WEEK:] - flows[:, :-WEEK])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else 0.0


def score_overall(predictions: pl.DataFrame, history: History) -> Scores:
    """The scores of one model's predictions over all of their hours that are known."""
    first = predictions["hour"].min()
    assert isinstance(first, datetime)
    rows = scored_rows(predictions, history)
    scores = _scores(rows, naive_scale(history, first)) | _net_flow(rows)
    return scores | decision_value(predictions, history)


def score_models(predictions: pl.DataFrame, history: History) -> dict[str, Any]:
    """Every model's scores: overall, by target, by hours ahead, by station; its calibration.

    :param predictions: rows of one or more models, told apart by ``model``; where one of
        ``REFERENCES`` is among them, its skill is 1 − MAE / MAE of that one on the same rows.
    """
    first = predictions["hour"].min()
    assert isinstance(first, datetime)
    rows = scored_rows(predictions, history)
    scale = naive_scale(history, first)
    document: dict[str, Any] = {}
    for (name,), part in rows.group_by("model", maintain_order=True):
        asked = predictions.filter(pl.col("model") == name)
        overall = _scores(part, scale) | _net_flow(part) | decision_value(asked, history)
        document[str(name)] = {
            "overall": overall | {"unscored": len(asked) - len(part)},
            **{f"by_{by}": _by(part, by, scale) for by in SPLITS},
            "calibration": calibration(part),
        }
    for reference, skill in REFERENCES.items():
        if reference in document:
            _add_skill(document, document[reference], skill)
    return document


def scored_rows(predictions: pl.DataFrame, history: History) -> pl.DataFrame:
    """The predictions of known hours, with their ``actual`` and their ``horizon`` in hours.

    :raises InputError: where no hour of them is known.
    """
    first = predictions["hour"].min()
    assert isinstance(first, datetime)
    step = ((pl.col("hour") - pl.col("origin")).dt.total_hours() + 1).alias("horizon")
    rows = predictions.join(actuals(history, first), on=KEYS).with_columns(step)
    if rows.is_empty():
        raise InputError(
            f"no hour from {first:%Y-%m-%d} on is known, so nothing can be scored",
            hint="choose a window in which the data have no gap",
        )
    return rows


def _add_skill(document: dict[str, Any], reference: dict[str, Any], skill: str) -> None:
    """Hold every score beside the reference's of the same hours, where that one errs at all."""
    for model in document.values():
        pairs = [(model["overall"], reference["overall"])]
        for by in SPLITS:
            beside = {scores[by]: scores for scores in reference[f"by_{by}"]}
            pairs += [(s, beside[s[by]]) for s in model[f"by_{by}"] if s[by] in beside]
        for ours, theirs in pairs:
            if theirs["mae"]:
                ours[skill] = 1 - ours["mae"] / theirs["mae"]


def _by(rows: pl.DataFrame, column: str, scale: float) -> list[dict[str, Any]]:
    groups = rows.sort(column).group_by(column, maintain_order=True)
    return [{column: key} | _scores(part, scale) for (key,), part in groups]


def _scores(rows: pl.DataFrame, scale: float) -> Scores:
    """One group's scores.

    MAE, RMSE, bias and pinball are in bikes per hour. WAPE is the sum of absolute errors over the
    sum of actuals. MASE is the MAE over ``scale`` (Hyndman and Koehler 2006, International Journal
    of Forecasting 22(4)). An interval covers what equals one of its ends.
    """
    actual = rows["actual"].to_numpy().astype(np.float64)
    error = rows["mean"].to_numpy() - actual
    levels = rows.select(QUANTILE_COLUMNS).to_numpy()
    mae = float(np.abs(error).mean())
    scaled = {"mase": mae / scale} if scale else {}
    return scaled | {
        "n": len(rows),
        "mae": mae,
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(error.mean()),
        "wape": float(np.abs(error).sum() / max(actual.sum(), 1e-9)),
        "mae_q50": float(np.abs(levels[:, QUANTILE_COLUMNS.index("q50")] - actual).mean()),
        "pinball": pinball(actual, levels),
        "coverage_80": _covered(actual, levels, "q10", "q90"),
        "coverage_90": _covered(actual, levels, "q05", "q95"),
    }


def pinball(actual: NDArray[np.floating], levels: NDArray[np.floating]) -> float:
    """Mean pinball loss over all rows and the levels of ``QUANTILES``, in bikes per hour.

    :param actual: [rows].
    :param levels: [rows, quantiles].
    """
    level, short = np.array(QUANTILES), actual[:, None] - levels
    return float(np.maximum(level * short, (level - 1) * short).mean())


def _covered(actual: np.ndarray, levels: np.ndarray, low: str, high: str) -> float:
    lower, upper = (levels[:, QUANTILE_COLUMNS.index(c)] for c in (low, high))
    return float(((actual >= lower) & (actual <= upper)).mean())


def _net_flow(rows: pl.DataFrame) -> Scores:
    """MAE of a station-day's returns minus pickups, of the newest forecast issued by its midnight.

    Only days with both targets count, and with all their hours but one, as the clock may skip
    it; without any there is no such score. Hours of 24 origins are no forecast of a day: each
    makes good what the one before had got wrong, and the better they are at that the worse is
    their sum. One hour ahead, New York, 84 days before 2018-07-16, trees have a lower error of
    an hour's net flow than the count regression (RMSE 5.31 and 5.69 bikes) and a higher one of
    the day's sum (MAE 14.7 and 10.9).
    """
    issued = rows.filter(pl.col("origin") <= pl.col("hour").dt.truncate("1d"))
    newest = issued.sort("origin").unique(KEYS, keep="last")
    sign = pl.when(pl.col("target") == "returns").then(1).otherwise(-1)
    days = newest.group_by("station_id", pl.col("hour").dt.date()).agg(
        ((pl.col("mean") - pl.col("actual")) * sign).sum().abs().alias("error"), pl.len()
    )
    whole = days.filter(pl.col("len") >= 23 * len(TARGETS))
    if whole.is_empty():
        return {}
    return {"net_flow_mae": float(whole["error"].mean())}  # type: ignore[arg-type]
