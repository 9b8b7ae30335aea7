"""How far forecasts are off, learned from days that no fit has seen."""

import numpy as np
import pytest
from scipy import stats

from bikecast.features import NAMES
from bikecast.models.spread import LEAST_ROWS, fit_spread
from bikecast.records import QUANTILES


@pytest.fixture
def rng():
    """The same numbers every time."""
    return np.random.default_rng(11)


def rows(rng, n):
    """Rows of features of random hours, and means between a bike in two hours and forty an hour."""
    values = np.zeros((n, len(NAMES)), np.float32)
    values[:, NAMES.index("hour")] = rng.integers(0, 24, n)
    values[:, NAMES.index("returns")] = rng.integers(0, 2, n)
    return values, np.exp(rng.uniform(np.log(0.5), np.log(40), n)).astype(np.float32)


def banded(spread, values, mean):
    """The quantiles that a fitted spread puts around means."""
    return spread.quantiles(mean, spread.dispersion(values, mean))


def shares(actual, found):
    """Which share came below each quantile, and up to it."""
    return (actual[:, None] < found).mean(axis=0), (actual[:, None] <= found).mean(axis=0)


def assert_calibrated(actual, found, tolerance):
    """The bars of the project: below no more than the level, and up to it no less."""
    below, up_to = shares(actual, found)
    assert (below <= np.array(QUANTILES) + tolerance).all()
    assert (up_to >= np.array(QUANTILES) - tolerance).all()


def drawn(rng, mean, alpha):
    """Counts of a negative binomial."""
    return rng.negative_binomial(1 / alpha, 1 / (1 + alpha * mean)).astype(np.float32)


def test_dispersion_that_falls_with_the_mean_is_found(rng):
    """Quiet hours are a lottery and busy ones sure: quantiles are right for either."""
    values, mean = rows(rng, 40_000)
    actual = drawn(rng, mean, 0.8 / mean)
    spread = fit_spread(values[:30_000], mean[:30_000], actual[:30_000])
    found, came, of = (
        banded(spread, values[30_000:], mean[30_000:]),
        actual[30_000:],
        mean[30_000:],
    )
    for third in np.array_split(np.argsort(of), 3):
        assert_calibrated(came[third], found[third], 0.03)
    sure = stats.nbinom.ppf(0.95, 40 / 0.8, 1 / 1.8)
    assert found[of > 39, -1].mean() == pytest.approx(sure, rel=0.1)


def test_errors_that_lean_are_put_right_by_the_levels(rng):
    """One hour in eight loses four fifths of its riders to rain that nobody foresaw."""
    values, mean = rows(rng, 40_000)
    rain = rng.random(40_000) < 1 / 8
    actual = rng.poisson(mean / 0.9 * np.where(rain, 0.2, 1)).astype(np.float32)
    spread = fit_spread(values[:30_000], mean[:30_000], actual[:30_000])
    assert_calibrated(
        actual[30_000:], banded(spread, values[30_000:], mean[30_000:]), tolerance=0.015
    )


def test_few_rows_leave_the_levels_alone(rng):
    """Where there is little to learn from, the negative binomial stands as it is."""
    values, mean = rows(rng, LEAST_ROWS - 1)
    spread = fit_spread(values, mean, drawn(rng, mean, 0.2))
    assert spread.levels == pytest.approx(np.array([QUANTILES]))
    found = banded(spread, values, mean)
    assert np.isfinite(found).all() and (np.diff(found, axis=1) >= 0).all()


def test_nothing_but_zeros_is_survived(rng):
    """A closed system's errors are none, and its quantiles stay numbers."""
    values, mean = rows(rng, 1_000)
    spread = fit_spread(values, mean * 0, mean * 0)
    assert (banded(spread, values, mean * 0) == 0).all()
