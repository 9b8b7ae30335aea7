"""Gains and their intervals."""

import numpy as np
import pytest
from evidence import made_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from bikecast.evaluation.gate.comparison import daily_losses, gain

LOSSES = st.lists(st.floats(1, 1_000), min_size=3, max_size=30)


def test_losses_are_summed_by_day_where_both_forecast():
    """Absolute and squared; an hour that one of them lacks counts for neither."""
    rows = made_rows(days=3, stations=("a",))
    own, other = daily_losses(rows, "challenger", "naive")
    error = np.abs(rows["challenger"] - rows["actual"]).to_numpy()
    assert own == pytest.approx(error.reshape(3, 24).sum(axis=1))
    squared, _ = daily_losses(rows, "challenger", "naive", 2)
    assert squared == pytest.approx((error**2).reshape(3, 24).sum(axis=1))
    lacking = rows.with_columns(naive=rows["naive"].scatter(0, np.nan))
    less, fewer = daily_losses(lacking, "challenger", "naive")
    assert less[0] == pytest.approx(own[0] - error[0]) and fewer[0] < other[0]
    assert len(daily_losses(rows, "challenger", "challenger")[0]) == 3


@settings(deadline=None)
@given(LOSSES)
def test_equal_losses_are_no_gain(losses):
    """Whatever they are, and without a doubt."""
    found = gain(np.array(losses), np.array(losses))
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.low == pytest.approx(0, abs=1e-9) == found.high


@settings(deadline=None)
@given(LOSSES, st.integers(0, 2**32))
def test_the_interval_holds_the_gain(losses, seed):
    """And is the same at every call."""
    other = np.array(losses)
    own = other * np.random.default_rng(seed).uniform(0.5, 1.5, len(other))
    found = gain(own, other)
    assert found.low <= found.value <= found.high and found == gain(own, other)


def test_too_little_says_nothing():
    """One day, or a reference that never errs."""
    for losses in (np.ones(1), np.zeros(9)):
        found = gain(np.ones(len(losses)), losses)
        assert np.isnan(found.value) and (found.low, found.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(("days", "sure"), [(2, False), (3, False), (4, True)])
def test_few_days_leave_the_gain_open(days, sure):
    """However alike they are; what it was on them is told."""
    other = np.full(days, 100.0)
    found = gain(other * np.linspace(1.2, 1.3, days), other)
    assert found.value == pytest.approx(-0.25) and found.days == days
    assert np.isfinite([found.low, found.high]).all() == sure


def test_days_that_resemble_their_neighbours_widen_the_interval():
    """A run of good days is less than as many good days here and there."""
    other = np.full(28, 100.0)
    away = np.repeat([1.0, -1.0], 14)
    mixed = np.tile([1.0, 1.0, -1.0, -1.0], 7)
    runs, turns = (gain(other - 5 - 10 * a, other) for a in (away, mixed))
    assert runs.high - runs.low > 1.2 * (turns.high - turns.low)
