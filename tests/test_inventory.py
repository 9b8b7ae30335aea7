"""The stock of a station as a chain, censored at empty and full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from bikecast.inventory import TOLERANCE, expected_failures, stock_distribution, target

FLOWS = st.lists(st.floats(0, 40), min_size=1, max_size=6)


def play(bikes, capacity, pickups, returns, runs):
    """Stocks at the end and failures, from days whose every rider comes at a moment of his own."""
    random = np.random.default_rng(0)
    ends, failed = np.empty(runs, int), np.zeros(runs)
    for run in range(runs):
        stock = bikes
        for out, back in zip(pickups, returns, strict=True):
            riders = np.repeat([-1, 1], [random.poisson(out), random.poisson(back)])
            for rider in random.permutation(riders):
                served = 0 <= stock + rider <= capacity
                stock, failed[run] = stock + rider * served, failed[run] + 1 - served
        ends[run] = stock
    return np.bincount(ends, minlength=capacity + 1) / runs, failed.mean()


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


@given(st.integers(0, 15), st.integers(0, 15), st.floats(0, 60), st.floats(0, 60))
def test_an_hour_is_that_of_the_chain_in_continuous_time(a, b, out, back):
    """The chances are those of the matrix exponential of the chain's rates."""
    bikes, capacity = min(a, b), max(a, b)
    rates = np.diag([back] * capacity, 1) + np.diag([out] * capacity, -1)
    rates -= np.diag(rates.sum(axis=1))
    found = stock_distribution(bikes, capacity, np.array([out]), np.array([back]))
    assert np.allclose(found[0], expm(rates)[bikes], atol=1e-7)


def test_it_agrees_with_playing_the_hours_through():
    """Thousands of simulated days give the same chances and the same failures."""
    pickups, returns = np.array([9.0, 2.0]), np.array([4.0, 6.0])
    chances, failed = play(5, 8, pickups, returns, 8_000)
    assert np.abs(stock_distribution(5, 8, pickups, returns)[-1] - chances).max() < 0.02
    assert expected_failures(8, pickups, returns)[5] == pytest.approx(failed, rel=0.03)


def test_a_busy_station_that_loses_bikes_may_well_end_an_hour_empty():
    """Returns and pickups take turns: those that come back are gone again before the hour ends."""
    found = stock_distribution(5, 30, np.array([20.0]), np.array([12.0]))
    assert found[0, 0] > 0.3


def test_without_rides_the_stock_stays():
    """No demand, no change, no failure."""
    found = stock_distribution(3, 7, np.zeros(2), np.zeros(2))
    assert (found[:, 3] == 1).all()
    assert (expected_failures(7, np.zeros(2), np.zeros(2)) == 0).all()


def test_more_bikes_than_docks_are_refused():
    """A station cannot hold more than it holds, nor can one of many."""
    with pytest.raises(ValueError, match="8 bikes in a station of 7"):
        stock_distribution(8, 7, np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="-1 bikes in a station of 7"):
        stock_distribution(np.array([3, -1]), 7, np.zeros((2, 1)), np.zeros((2, 1)))


def test_many_stations_at_once_are_as_each_by_itself():
    """A busy station beside a quiet one changes neither's figures."""
    flows = np.random.default_rng(1).uniform(0, [[1], [30], [8]], (2, 3, 5))
    bikes = np.array([0, 7, 12])
    chances = stock_distribution(bikes, 12, *flows)
    failures = expected_failures(12, *flows)
    for i in range(3):
        alone = stock_distribution(int(bikes[i]), 12, flows[0, i], flows[1, i])
        assert np.allclose(chances[i], alone, atol=1e-8)
        assert np.allclose(failures[i], expected_failures(12, *flows[:, i]), atol=1e-6)


@given(st.integers(0, 15), FLOWS)
def test_failures_of_all_stocks_add_up(capacity, flows):
    """Whatever the first stock, bikes that leave are riders served, and the rest have failed."""
    pickups, returns = np.array(flows), np.array(flows[::-1]) / 3
    failures = expected_failures(capacity, pickups, returns)
    asked = pickups.sum() + returns.sum()
    assert ((failures >= -1e-9) & (failures <= asked + 1e-6)).all()
    if capacity == 0:
        assert failures[0] == pytest.approx(asked, abs=1e-6)


@given(st.integers(2, 20), FLOWS, FLOWS)
def test_failures_are_convex_in_the_first_stock(capacity, out, back):
    """Each further bike saves less than the one before: a range of good stocks has no gaps."""
    hours = min(len(out), len(back))
    failures = expected_failures(capacity, np.array(out[:hours]), np.array(back[:hours]))
    assert (np.diff(failures, 2) >= -1e-6).all()


def test_the_target_is_the_stock_that_the_day_asks_for():
    """Twelve are taken before twelve come back: a dozen bikes at least, and a few docks more."""
    failures = expected_failures(30, np.array([12.0, 0.0]), np.array([0.0, 12.0]))
    found = target(failures)
    assert 12 <= found.low < found.best < found.high < 30
    assert found.avoided[found.best] == 0
    assert found.avoided[0] == pytest.approx(12, abs=0.5)
    inside = found.avoided[found.low : found.high + 1]
    assert (inside <= TOLERANCE).all()
    assert found.avoided[found.low - 1] > TOLERANCE < found.avoided[found.high + 1]


def test_a_station_that_nobody_uses_may_hold_anything():
    """The range is the whole station, the best its emptiest."""
    found = target(np.zeros(8))
    assert (found.best, found.low, found.high) == (0, 0, 7)
