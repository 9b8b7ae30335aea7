"""Counts around a mean: the negative binomial, because plain Poisson bands are too narrow.

The variance is ``mu + alpha * mu ** 2`` (Cameron and Trivedi's NB2); ``alpha`` is one number per
target, estimated on forecasts of hours that the fit did not see.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from bikecast.history import Floats, History, Ints
from bikecast.models.base import Forecaster, Grid
from bikecast.records import QUANTILES, TARGETS

LEAST_MEAN = 0.05
"""Bikes per hour; below it a forecast of 0 would leave no room for a single bike."""

MOST_MEAN = 20_000.0
MEAN_STEP, ALPHA_STEP = 0.006, 0.05
_SPREAD = (1e-4, 100.0)
FEW, FEW_BIKES = 4, 300.0
_COUNTS = np.arange(1.0, 4_096.0)


Exact = NDArray[np.float64]


def dispersion(actual: Floats, mean: Floats) -> Floats:
    """The most likely ``alpha`` of each target (last axis); unknown actuals are left out.

    :param actual: [..., targets], NaN where unknown.
    :param mean: forecasts of the same shape.
    """
    known = np.isfinite(actual) & np.isfinite(mean)
    alphas = np.full(len(TARGETS), 0.2, np.float32)
    for k in range(len(TARGETS)):
        at = known[..., k]
        if at.any():
            y, mu = actual[..., k][at].astype(float), np.maximum(mean[..., k][at], LEAST_MEAN)
            alphas[k] = _most_likely(y, mu)
    return alphas


def _most_likely(y: NDArray[np.float64], mu: Floats) -> float:
    def loss(log_alpha: float) -> float:
        size = np.exp(-log_alpha)
        likelihood = special.gammaln(y + size) - special.gammaln(size)
        likelihood += size * np.log(size / (size + mu)) + y * np.log(mu / (size + mu))
        return -float(likelihood.mean())

    found = optimize.minimize_scalar(loss, bounds=np.log(_SPREAD), method="bounded")
    return float(np.exp(found.x))


def quantiles(
    mean: Floats, alpha: NDArray[np.floating], levels: Sequence[float] | Exact = QUANTILES
) -> Floats:
    """Quantiles of the counts, whole bikes, with the levels as a last axis.

    The exact function takes 5 µs a quantile, so it is asked once for all that are nearly alike:
    means within 0.6 % and dispersions within 5 %. For a single forecast it is faster to add the
    chances up.

    :param mean: [...]; :param alpha: dispersions that broadcast to it, such as one of each target.
    """
    mu = np.clip(mean, LEAST_MEAN, MOST_MEAN).ravel()
    spread = np.clip(np.broadcast_to(alpha, mean.shape).ravel(), *_SPREAD)
    if mu.size <= FEW and mu.max(initial=0) < FEW_BIKES:
        return _of_few(mu, spread, np.asarray(levels, float)).reshape(*mean.shape, len(levels))
    cell = np.rint(np.log(mu) / MEAN_STEP) * 1_000 + np.rint(np.log(spread) / ALPHA_STEP)
    _, first, which = np.unique(cell, return_index=True, return_inverse=True)
    size, p = _size_and_p(mu[first], spread[first])
    found = stats.nbinom.ppf(np.asarray(levels), size[:, None], p[:, None])
    out: Floats = found.astype(np.float32)[which].reshape(*mean.shape, len(levels))
    return out


def _size_and_p(
    mu: NDArray[np.floating], spread: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """What stands for these means and dispersions and those that are nearly alike."""
    at = np.exp(np.rint(np.log(mu) / MEAN_STEP) * MEAN_STEP)
    size = 1 / np.exp(np.rint(np.log(spread) / ALPHA_STEP) * ALPHA_STEP)
    return size, size / (size + at)


def _of_few(mu: NDArray[np.floating], spread: NDArray[np.floating], levels: Exact) -> Floats:
    found = np.empty((len(mu), len(levels)), np.float32)
    for i, (size, p) in enumerate(zip(*_size_and_p(mu, spread), strict=True)):
        found[i] = _added_up(float(size), float(p), levels)
    return found


def _added_up(size: float, p: float, levels: Exact) -> Exact:
    """Quantiles of one negative binomial: the first counts up to which the chances reach levels.

    Each count's chance is that of the one before times a factor.
    """
    count = 64
    while True:
        factors = (_COUNTS[: count - 1] + (size - 1)) * ((1 - p) / _COUNTS[: count - 1])
        chances = np.cumprod(np.concatenate([[p**size], factors])).cumsum()
        if chances[-1] >= levels.max():
            return np.asarray(chances.searchsorted(levels), float)
        if count > len(_COUNTS):
            return np.asarray(stats.nbinom.ppf(levels, size, p))
        count *= 4


def recent_actuals(history: History, origins: Ints, horizon: int) -> Floats:
    """What came of forecasts: [origins, horizon, stations, targets], NaN where not yet known."""
    hours = origins[:, None] + np.arange(horizon)
    inside = hours < history.known
    flows = history.flows.transpose(1, 0, 2)[np.where(inside, hours, 0)]
    return np.where(inside[..., None, None], flows, np.float32(np.nan))


def recent_dispersion(model: Forecaster, history: History, grid: Grid, days: int) -> Floats:
    """The dispersion of a fitted model's own forecasts in the last days.

    :param model: must have learned nothing from the last ``days`` whole days.
    """
    last = history.known // 24
    # Every day, or every third for long horizons; an hour less so that all hours are origins.
    stride = 24 * -(-grid.horizon // 72) - (grid.every < 24)
    origins = np.arange(max(last - days, 1) * 24, last * 24, stride)
    mean = model.predict(history, origins, grid.horizon).mean
    return dispersion(recent_actuals(history, origins, grid.horizon), mean)
