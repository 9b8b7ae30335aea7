"""How far a forecast is off: a negative binomial around the mean, and levels put right.

The dispersion is a function of the row, as a sure hour of a busy station errs otherwise than a
quiet night. What a negative binomial gets wrong (rain, which only ever takes riders away) is put
right by the levels: the quantile of 10 % is the one below which 10 % came on the days held out
(Kuleshov, Fenner and Ermon 2018, "Accurate uncertainties for deep learning using calibrated
regression", for counts with the probability integral transform of Czado, Gneiting and Held 2009,
doi:10.1111/j.1541-0420.2009.01191.x), in each fifth of the forecasts.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bikecast.features import NAMES
from bikecast.history import Floats
from bikecast.models.counts import LEAST_MEAN, of_one, quantiles
from bikecast.models.rows import filled
from bikecast.records import QUANTILES

FITTED_ROWS = 60_000
FIFTHS = 5
LEAST_ROWS = 500
"""In a fifth of the forecasts; with fewer rows the levels are put right for all at once, or not."""
PENALTY = 5.0
"""Half the rows that say nothing, for coefficients of columns of unit variance."""
LOG_ALPHA = (-7.0, 3.0)

_AT = {name: i for i, name in enumerate(NAMES)}
_UNSURE = np.array([_AT[name] for name in ("usual_kind40", "median_week", "usual_week12")])
_AS_THEY_ARE = np.array([_AT[name] for name in ("log_size", "scatter", "station_24h", "missed")])
_FINE = np.linspace(0, 1, 2_001)

Exact = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spread:
    """What was learned of the errors of a learner.

    :param coefficients: of the columns of the dispersion's logarithm.
    :param edges: means that part the forecasts, [parts - 1].
    :param levels: for each part the levels of the negative binomial that stand for ``QUANTILES``.
    """

    coefficients: Exact
    edges: Exact
    levels: Exact

    def dispersion(self, values: Floats, mean: Floats) -> Floats:
        """NB2's alpha of rows of features with these means: [rows]."""
        return _alpha(_columns(values, mean), self.coefficients).astype(np.float32)

    def fixed(self, values: Floats) -> Exact:
        """What rows say of their dispersion beside their means: [rows]."""
        found: Exact = _columns(values, np.ones(len(values), np.float32)) @ self.coefficients
        return found

    def of_one(self, fixed: float, own: float, mean: float) -> list[float]:
        """Quantiles of one forecast, in plain Python, which takes a fifth of NumPy's time for it.

        :param fixed: what :meth:`fixed` says of it; :param own: the mean as the learner says it,
            of which the dispersion is; :param mean: the forecast.
        """
        edges, levels, slope = self._plain
        log_alpha = fixed + slope * math.log(max(own, LEAST_MEAN))
        alpha = math.exp(min(max(log_alpha, LOG_ALPHA[0]), LOG_ALPHA[1]))
        return of_one(levels[bisect_left(edges, mean)], mean, alpha)

    @cached_property
    def _plain(self) -> tuple[list[float], list[list[float]], float]:
        return self.edges.tolist(), self.levels.tolist(), float(self.coefficients[1])

    def quantiles(self, mean: Floats, alpha: NDArray[np.floating]) -> Floats:
        """Quantiles of forecasts [n] of these dispersions [n]: [n, ``QUANTILES``]."""
        part = np.searchsorted(self.edges, mean)
        out = np.empty((len(mean), len(QUANTILES)), np.float32)
        for i in set(part.tolist()):
            here = part == i
            out[here] = quantiles(mean[here], alpha[here], self.levels[i])
        return out


def fit_spread(values: Floats, mean: Floats, actual: Floats, seed: int = 1) -> Spread:
    """Learn from the errors on days that no fit has seen.

    :param values: rows of features; :param mean: their forecasts, :param actual: what came.
    """
    from scipy import stats

    if len(mean) > FITTED_ROWS:
        at = np.random.default_rng(seed).choice(len(mean), FITTED_ROWS, replace=False)
        values, mean, actual = values[at], mean[at], actual[at]
    columns, y = _columns(values, mean), actual.astype(float)
    mu = np.maximum(mean, LEAST_MEAN).astype(float)
    coefficients = _most_likely(columns, mu, y)
    size = 1 / _alpha(columns, coefficients)
    below, up_to = (stats.nbinom.cdf(y - k, size, size / (size + mu)) for k in (1, 0))
    parts = min(max(len(y) // LEAST_ROWS, 1), FIFTHS)
    edges = np.quantile(mean, np.arange(1, parts) / parts)
    part = np.searchsorted(edges, mean)
    levels = [_levels(below[part == i], up_to[part == i]) for i in range(parts)]
    return Spread(coefficients, np.asarray(edges, float), np.array(levels))


def _columns(values: Floats, mean: Floats) -> Exact:
    """What the dispersion depends on; chosen by pinball loss before the reference days.

    The hour of the day, working days and the square of the mean's logarithm made it worse.
    """
    log_mean = np.log(np.maximum(mean, LEAST_MEAN))
    known = [values[:, _AT["returns"]], np.log1p(values[:, _AT["step"]])]
    perhaps = filled(np.concatenate([np.abs(values[:, _UNSURE]), values[:, _AS_THEY_ARE]], axis=1))
    return np.stack([np.ones_like(log_mean), log_mean, *known, *perhaps.T], axis=1).astype(float)


def _alpha(columns: Exact, coefficients: Exact) -> Exact:
    return np.asarray(np.exp(np.clip(columns @ coefficients, *LOG_ALPHA)))


def _most_likely(columns: Exact, mu: Exact, y: Exact) -> Exact:
    """Coefficients of the logarithm of NB2's alpha, by penalised likelihood."""
    from scipy import optimize, special

    spread = columns.std(axis=0)
    spread[np.ptp(columns, axis=0) == 0] = 1  # that of a constant is not quite 0
    x = columns / spread
    penalised = np.arange(x.shape[1]) > 0

    def loss(b: Exact) -> tuple[float, Exact]:
        r = 1 / _alpha(x, b)
        likelihood = special.gammaln(y + r) - special.gammaln(r)
        likelihood += r * np.log(r / (r + mu)) + y * np.log(mu / (r + mu))
        slope = special.digamma(y + r) - special.digamma(r) + np.log(r / (r + mu))
        slope += (mu - y) / (r + mu)
        held = PENALTY * penalised * b
        return float((held @ b - likelihood.sum()) / len(y)), (x.T @ (slope * r) + 2 * held) / len(
            y
        )

    start = np.where(penalised, 0.0, np.log(0.2))
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x / spread)


def _levels(below: Exact, up_to: Exact) -> Exact:
    """Where the distribution of the probability integral transform reaches each level.

    :param below: P(less than what came), :param up_to: P(no more than what came); the transform
        of a count is spread evenly between them.
    """
    if len(below) < LEAST_ROWS:
        return np.array(QUANTILES)
    width = np.maximum(up_to - below, 1e-9)
    reached = [np.clip((u - below) / width, 0, 1).mean() for u in _FINE]
    return np.asarray(np.interp(QUANTILES, reached, _FINE))
