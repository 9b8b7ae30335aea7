"""Pickups and returns of a day, reconciled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import small_history

from bikecast.models.reconcile import has_both, reconciled, shrinkage

BOTH = np.array([[True, True]])
QUARTER = np.full(3, 0.25, np.float32)


@pytest.fixture
def mean():
    """Three days from one midnight, two stations, of which one fills and the other empties."""
    mean = np.full((1, 72, 2, 2), 4, np.float32)
    mean[:, :, 0, 1] = 6
    mean[:, :, 1, 1] = 3
    return mean


def net(flows):
    """Returns minus pickups of the first day of each station."""
    return (flows[0, :24, :, 1] - flows[0, :24, :, 0]).sum(axis=0)


def test_the_net_flow_of_a_day_shrinks_by_the_share(mean):
    """48 bikes gained become 36, 24 lost become 18."""
    found = reconciled(mean, np.array([240]), BOTH, QUARTER)
    assert net(found) == pytest.approx([36, -18], rel=1e-5)


def test_what_is_not_a_whole_day_stays(mean):
    """From 6:00 on, the 18 hours of the first day and the last six are left alone."""
    found = reconciled(mean, np.array([246]), BOTH, QUARTER)
    same = (found == mean).all(axis=(0, 2, 3))
    assert same[:18].all() and not same[18:66].any() and same[66:].all()


def test_a_station_with_one_flow_stays(mean):
    """Where returns are not known, their forecast says nothing of pickups."""
    found = reconciled(mean, np.array([240]), np.array([[False, True]]), QUARTER)
    assert (found[:, :, 0] == mean[:, :, 0]).all() and (found[:, :, 1] != mean[:, :, 1]).all()


@given(st.floats(0, 0.5), st.integers(0, 23), st.integers(1, 80))
def test_forecasts_stay_forecasts(share, clock, horizon):
    """Whatever is asked, nothing falls below zero and nothing becomes unknown."""
    rng = np.random.default_rng(horizon)
    mean = rng.poisson(0.3, (2, horizon, 2, 2)).astype(np.float32)
    found = reconciled(
        mean, np.array([240 + clock, 264 + clock]), BOTH.repeat(2, 0), np.full(2, share)
    )
    assert np.isfinite(found).all() and (found >= 0).all() and found.shape == mean.shape


def test_the_share_is_what_the_days_held_out_say(mean):
    """Net flows of which three quarters come are a quarter too large; unknown days do not count."""
    day = np.repeat(mean[:, :24], 3, axis=0)
    came = reconciled(day, np.array([240, 264, 288]), BOTH.repeat(3, 0), QUARTER)
    came[2, 5] = np.nan
    assert shrinkage(day, came) == pytest.approx(0.25, rel=1e-4)
    assert shrinkage(day, day * 2) == 0
    assert shrinkage(day, day[..., ::-1]) == 0.5
    assert shrinkage(day, day * np.nan) == 0


def test_only_what_was_known_before_the_origin_tells_of_both_flows():
    """A station whose returns begin later has one flow, as has a city that counts only pickups."""
    history = small_history()
    found = has_both(history, np.array([5 * 24, 50 * 24]))
    assert found.tolist() == [[True, False, True], [True, True, True]]
    history.flows[..., 1] = np.nan
    assert not has_both(history, np.array([50 * 24])).any()
