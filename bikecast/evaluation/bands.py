"""Whether a model's quantiles are worth more than a plain band around its mean."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from bikecast.errors import InputError
from bikecast.evaluation.scores import pinball, scored_rows
from bikecast.history import Floats, History
from bikecast.models.counts import dispersion, quantiles
from bikecast.records import QUANTILE_COLUMNS, TARGETS

FITTED_DAYS = 28


def negative_binomial_pinball(
    predictions: pl.DataFrame, history: History, start: datetime, refit_days: int
) -> dict[str, float]:
    """Pinball loss of a model's quantiles, and of a negative binomial band around its mean.

    The band's dispersion is one number per target (NB2, the most likely one), fitted for each fold
    of the window on the same model's forecasts of the ``FITTED_DAYS`` before the fold.

    :param predictions: one model's, as ``backtest`` gives them, of a window that begins
        ``FITTED_DAYS`` before ``start``; what is scored are the hours from ``start`` on.
    :param start: first day of the window that is scored, local midnight.
    :param refit_days: length of the folds, counted from ``start``.
    :returns: ``n`` rows, ``pinball`` of the model and ``pinball_nb`` of the band on these rows, in
        bikes per hour, and ``gain_percent``, by how much the model's is smaller.
    :raises InputError: where the predictions lack the days before ``start``, or those after it.
    """
    rows = scored_rows(predictions, history)
    first = rows["hour"].min()
    if not isinstance(first, datetime) or first > start - timedelta(days=FITTED_DAYS - 1):
        raise InputError(
            f"no forecasts of the {FITTED_DAYS} days before {start:%Y-%m-%d}",
            hint=f"begin the backtest {FITTED_DAYS} days earlier",
        )
    scored, bands = [], []
    for fitted, fold in _folds(rows, start, refit_days):
        scored.append(fold)
        bands.append(_band(fold, dispersion(_by_target(fitted, "actual"), _means(fitted))))
    if not scored:
        raise InputError(f"no forecasts from {start:%Y-%m-%d} on", hint="choose more days")
    window = pl.concat(scored)
    actual = window["actual"].to_numpy().astype(np.float64)
    own = pinball(actual, window.select(QUANTILE_COLUMNS).to_numpy())
    band = pinball(actual, np.concatenate(bands))
    gain = 100 * (1 - own / band)
    return {"n": len(window), "pinball": own, "pinball_nb": band, "gain_percent": gain}


def _folds(
    rows: pl.DataFrame, start: datetime, refit_days: int
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows of the days before each fold, and those of its origins.

    An origin before the window belongs to the first fold, as in ``backtest``.
    """
    inside = rows.filter(pl.col("hour") >= start)
    number = ((pl.col("origin") - start).dt.total_days() // refit_days).clip(lower_bound=0)
    for (fold,), part in inside.group_by(number.alias("fold"), maintain_order=True):
        assert isinstance(fold, int)
        begin = start + timedelta(days=fold * refit_days)
        days = pl.col("hour").is_between(begin - timedelta(days=FITTED_DAYS), begin, closed="left")
        yield rows.filter(days), part


def _by_target(rows: pl.DataFrame, column: str) -> Floats:
    """A column as [rows, targets], NaN in the other target's place."""
    target = rows["target"].to_numpy()[:, None] == np.array(TARGETS)
    return np.where(target, rows[column].to_numpy()[:, None], np.nan).astype(np.float32)


def _means(rows: pl.DataFrame) -> Floats:
    return np.repeat(rows["mean"].to_numpy()[:, None], len(TARGETS), axis=1)


def _band(rows: pl.DataFrame, alpha: Floats) -> Floats:
    """The negative binomial quantiles around the means of rows: [rows, quantiles]."""
    target = (rows["target"].to_numpy()[:, None] == np.array(TARGETS)).argmax(axis=1)
    of_both = quantiles(_means(rows), alpha)
    return np.take_along_axis(of_both, target[:, None, None], axis=1)[:, 0]
