"""The negative binomial around a mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bikecast.models.counts import FEW, dispersion, quantiles
from bikecast.records import QUANTILES


def test_the_dispersion_of_made_up_counts_is_found_again():
    """Counts drawn with a known alpha give that alpha back, per target, unknown ones left out."""
    rng = np.random.default_rng(3)
    mean = rng.uniform(0.5, 30, (40_000, 2)).astype(np.float32)
    size = 1 / np.array([0.1, 0.6])
    actual = rng.negative_binomial(size, size / (size + mean)).astype(np.float32)
    actual[::7] = np.nan
    assert dispersion(actual, mean) == pytest.approx([0.1, 0.6], rel=0.05)


def test_dispersion_without_a_known_hour_is_the_default():
    """A target that was never seen has some dispersion, not a crash."""
    actual = np.full((5, 2), np.nan, np.float32)
    assert np.isfinite(dispersion(actual, np.ones((5, 2), np.float32))).all()


def test_quantiles_are_those_of_the_exact_distribution():
    """It is the exact function, but for the rounding of mean and dispersion."""
    mean = np.geomspace(0.06, 400, 60).astype(np.float32).repeat(2).reshape(-1, 2)
    found = quantiles(mean, np.array([0.2, 0.2], np.float32))
    exact = stats.nbinom.ppf(np.array(QUANTILES), 5, 5 / (5 + mean[:, :1]))
    assert (np.abs(found[:, 0] - exact) <= 1 + 0.008 * exact).all()


LEVELS = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=7).map(sorted)


@settings(deadline=None)
@given(
    arrays(np.float32, 2, elements=st.floats(0, 400, width=32)),
    arrays(np.float32, 2, elements=st.floats(0, 100, width=32)),
    st.one_of(LEVELS, st.just(list(QUANTILES))),
)
def test_quantiles_of_few_are_those_of_many(mean, alpha, levels):
    """A what-if has the interval that the table would have."""
    many = quantiles(np.tile(mean, FEW), np.tile(alpha, FEW), levels)
    others = np.arange(1, FEW, dtype=np.float32)
    company = quantiles(np.concatenate([mean, others]), np.append(alpha, others), levels)
    few = quantiles(mean, alpha, levels)
    assert np.array_equal(few, company[:2]) and np.array_equal(few, many[:2])


def test_quantiles_never_cross_and_never_fall_with_the_mean():
    """Levels are in order, a higher mean has no lower quantile, and nothing is below zero."""
    mean = np.linspace(0, 50_000, 5_000, dtype=np.float32).repeat(2).reshape(-1, 2)
    found = quantiles(mean, np.array([0.05, 2.0], np.float32))
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (np.diff(found, axis=-1) >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()
