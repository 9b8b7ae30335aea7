"""The stock of a station as a chain, censored at empty and full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.inventory import stock_distribution

FLOWS = st.lists(st.floats(0, 40), min_size=1, max_size=6)


@given(st.integers(0, 20), st.integers(0, 20), FLOWS)
def test_chances_are_a_distribution(a, b, flows):
    """Every hour's chances are between 0 and 1 and sum to 1."""
    bikes, capacity = min(a, b), max(a, b)
    found = stock_distribution(bikes, capacity, np.array(flows), np.array(flows[::-1]))
    assert found.shape == (len(flows), capacity + 1)
    assert (found >= -1e-12).all() and np.allclose(found.sum(axis=1), 1)


@given(st.integers(0, 19), FLOWS)
def test_more_bikes_are_never_emptier(bikes, flows):
    """One bike more at the start does not raise the chance of an empty station."""
    demand, back = np.array(flows), np.array(flows) / 2
    fewer, more = (stock_distribution(b, 20, demand, back) for b in (bikes, bikes + 1))
    assert (more[:, 0] <= fewer[:, 0] + 1e-9).all()
    assert (more[:, -1] >= fewer[:, -1] - 1e-9).all()


def test_it_agrees_with_playing_the_hours_through():
    """A hundred thousand simulated days give the same chances."""
    random = np.random.default_rng(0)
    pickups, returns = np.array([3.0, 2.0]), np.array([1.0, 4.0])
    found = stock_distribution(5, 12, pickups, returns)
    stock = np.full(100_000, 5)
    for hour, (out, back) in enumerate(zip(pickups, returns, strict=True)):
        stock = np.maximum(stock - random.poisson(out, len(stock)), 0)
        stock = np.minimum(stock + random.poisson(back, len(stock)), 12)
        played = np.bincount(stock, minlength=13) / len(stock)
        assert np.abs(played - found[hour]).max() < 0.006


def test_without_rides_the_stock_stays():
    """No demand, no change."""
    found = stock_distribution(3, 7, np.zeros(2), np.zeros(2))
    assert (found[:, 3] == 1).all()


def test_more_bikes_than_docks_are_refused():
    """A station cannot hold more than it holds."""
    with pytest.raises(ValueError, match="8 bikes in a station of 7"):
        stock_distribution(8, 7, np.zeros(1), np.zeros(1))
