"""Counts around a mean: the negative binomial, because plain Poisson bands are too narrow.

The variance is ``mu + alpha * mu ** 2`` (Cameron and Trivedi's NB2); ``alpha`` is one number per
target, estimated on forecasts of hours that the fit did not see.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bikecast.history import Floats, History, Ints
from bikecast.models.base import Forecaster, Grid
from bikecast.records import QUANTILES, TARGETS

LEAST_MEAN = 0.05
"""Bikes per hour; below it a forecast of 0 would leave no room for a single bike."""

MOST_MEAN = 20_000.0
MEAN_STEP, ALPHA_STEP = 0.006, 0.05
_SPREAD = (1e-4, 100.0)
FEW, MOST_COUNTED = 4, 4_096


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
    from scipy import optimize, special

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
    # In float64, so that a mean is nearly like the same ones whether it comes alone or with others.
    mu = np.minimum(np.maximum(mean, LEAST_MEAN), MOST_MEAN).ravel().astype(float)
    if np.shape(alpha) != mean.shape:
        alpha = np.broadcast_to(alpha, mean.shape)
    spread = np.minimum(np.maximum(alpha, _SPREAD[0]), _SPREAD[1]).ravel().astype(float)
    wanted = np.asarray(levels, float)
    shape = (*mean.shape, len(wanted))
    if mu.size <= FEW:
        each = wanted.tolist()
        few = [of_one(each, *row) for row in zip(mu.tolist(), spread.tolist(), strict=True)]
        return np.array(few, np.float32).reshape(shape)
    log_mu, log_spread = np.rint(np.log(mu) / MEAN_STEP), np.rint(np.log(spread) / ALPHA_STEP)
    cell = log_mu * 1_000 + log_spread
    _, first, which = np.unique(cell, return_index=True, return_inverse=True)
    size = 1 / np.exp(log_spread[first] * ALPHA_STEP)[:, None]
    found = _exact(wanted, size, size / (size + np.exp(log_mu[first] * MEAN_STEP)[:, None]))
    out: Floats = found.astype(np.float32)[which].reshape(shape)
    return out


def of_one(levels: list[float], mean: float, alpha: float) -> list[float]:
    """:func:`quantiles` of one forecast: the counts up to which their chances reach levels.

    In plain Python: NumPy would take most of its time for being called.

    :param levels: ascending.
    """
    mu = min(max(mean, LEAST_MEAN), MOST_MEAN)
    spread = min(max(alpha, _SPREAD[0]), _SPREAD[1])
    at = math.exp(round(math.log(mu) / MEAN_STEP) * MEAN_STEP)
    size = 1 / math.exp(round(math.log(spread) / ALPHA_STEP) * ALPHA_STEP)
    p = size / (size + at)
    count, found = 0, []
    chance = total = p**size
    for level in levels:
        while total < level:
            count += 1
            if count > MOST_COUNTED:
                exact: list[float] = _exact(np.array(levels), size, p).tolist()
                return exact
            # Each count's chance is that of the one before times a factor.
            chance *= (count + (size - 1)) * ((1 - p) / count)
            total += chance
        found.append(float(count))
    return found


def _exact(levels: Exact, size: Exact | float, p: Exact | float) -> Exact:
    # A second and 50 MB, which the service does without.
    from scipy import stats

    return np.asarray(stats.nbinom.ppf(levels, size, p))


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
