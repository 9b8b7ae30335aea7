"""Counts around a mean: the negative binomial, because plain Poisson bands are too narrow.

The variance is ``mu + alpha * mu ** 2`` (Cameron and Trivedi's NB2); ``alpha`` is one number per
target, estimated on forecasts of hours that the fit did not see.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from bikecast.history import Floats, History, Ints
from bikecast.models.base import Forecaster, Grid
from bikecast.records import QUANTILES, TARGETS

LEAST_MEAN = 0.05
"""Bikes per hour; below it a forecast of 0 would leave no room for a single bike."""

_GRID = np.geomspace(LEAST_MEAN, 20_000, 2_000)
_SPREAD = (1e-4, 100.0)


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


def quantiles(mean: Floats, alpha: Floats) -> Floats:
    """Quantiles of the counts, whole bikes, with the levels of ``QUANTILES`` as a last axis.

    The exact function takes minutes for a city's week, so it is looked up on a grid of means whose
    neighbours are 0.6 % apart.

    :param mean: [..., targets].
    :param alpha: dispersion of each target.
    """
    out = np.empty((*mean.shape, len(QUANTILES)), np.float32)
    step = np.log(_GRID[1] / _GRID[0])
    for k, a in enumerate(alpha):
        place = np.log(np.clip(mean[..., k], _GRID[0], _GRID[-1]) / _GRID[0]) / step
        out[..., k, :] = _table(float(a))[np.rint(place).astype(np.int64)]
    return out


@lru_cache(maxsize=64)
def _table(alpha: float) -> Floats:
    """The quantiles for each mean of the grid; a fitted model always asks for the same few."""
    size = 1 / alpha
    found = stats.nbinom.ppf(np.array(QUANTILES), size, (size / (size + _GRID))[:, None])
    return np.asarray(found, np.float32)


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
