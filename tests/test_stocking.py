"""What a station should hold, beside the stock it has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikecast.inventory import expected_failures, stock_distribution
from bikecast.stocking import stocking

HOURS = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 20), HOURS, HOURS)
def test_the_best_stock_avoids_what_the_drifting_one_fails(capacity, bikes, before, ahead):
    """Failures avoided are those of every stock there may be by its chance, less the best's."""
    bikes = min(bikes, capacity)
    until, after = np.array(before), np.array(ahead)
    found = stocking(capacity, until, after, bikes)
    failures = expected_failures(capacity, after[:, 0], after[:, 1])
    chances = stock_distribution(bikes, capacity, until[:, 0], until[:, 1])[-1]
    assert 0 <= found.low <= found.best <= found.high <= capacity
    assert found.expected_failures == failures[found.best] == failures.min()
    assert found.worst_failures == failures.max()
    assert found.drift.bikes == bikes
    assert (found.drift.p_empty, found.drift.p_full) == (chances[0], chances[-1])
    avoided = chances @ failures - found.expected_failures
    assert found.drift.avoided == pytest.approx(avoided, abs=1e-6)
    assert found.drift.avoided >= -1e-9


@settings(deadline=None)
@given(st.integers(1, 20), HOURS)
def test_a_stock_that_is_set_at_once_is_the_one_there_is(capacity, ahead):
    """Without an hour before, nothing has moved: the best avoids nothing, and few others do."""
    none, after = np.empty((0, 2)), np.array(ahead)
    best = stocking(capacity, none, after, None).best
    assert stocking(capacity, none, after, best).drift.avoided == 0
    empty, full = (stocking(capacity, none, after, b).drift for b in (0, capacity))
    assert (empty.p_empty, empty.p_full) == (1, 0) and (full.p_empty, full.p_full) == (0, 1)


def test_without_the_stock_now_there_is_a_best_and_no_drift():
    """What to hold depends on the hours ahead alone."""
    ahead = np.array([[12.0, 0.0], [0.0, 12.0]])
    unknown, known = (stocking(30, np.array([[5.0, 1.0]]), ahead, b) for b in (None, 4))
    assert unknown.drift is None and known.drift is not None
    assert (unknown.best, unknown.low, unknown.high) == (known.best, known.low, known.high)
    assert 12 <= unknown.low < unknown.high < 30
