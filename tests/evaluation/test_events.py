"""Scores of probabilities are what a hand would compute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.evaluation.events import brier, reliability, skill

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1)


def test_the_brier_score_by_hand():
    """Errors of 0.2, 0.5 and 1."""
    found = brier(np.array([0.8, 0.5, 1.0]), np.array([1.0, 0.0, 0.0]))
    assert found == pytest.approx((0.04 + 0.25 + 1) / 3)


def test_skill_is_the_share_of_the_reference_that_is_saved():
    """Half the score is half saved; what is worse has a negative skill."""
    assert skill(0.1, 0.2) == pytest.approx(0.5)
    assert skill(0.3, 0.2) == pytest.approx(-0.5)


def test_bins_hold_what_was_forecast_and_what_came():
    """0 and 1 belong to the first and the last; an empty bin has no row."""
    found = reliability(np.array([0, 0.1, 0.45, 0.9, 1.0]), np.array([0.0, 1, 0, 1, 1]), bins=4)
    assert found["forecast"].to_list() == pytest.approx([0.05, 0.45, 0.95])
    assert found["happened"].to_list() == [0.5, 0.0, 1.0]
    assert found["n"].to_list() == [2, 1, 2]


@given(PAIRS)
def test_every_forecast_is_in_one_bin_around_it(pairs):
    """Bins add up to all forecasts, in ascending order, and a mean lies inside its bin."""
    said, came = np.array(pairs).T
    found = reliability(said, came)
    assert found["n"].sum() == len(pairs)
    assert (found["forecast"] * found["n"]).sum() == pytest.approx(said.sum())
    assert found["forecast"].is_sorted()


@given(PAIRS)
def test_no_constant_beats_the_share_that_happened(pairs):
    """The score is proper: saying how often it happens is best."""
    said, came = np.array(pairs).T
    honest = brier(np.full_like(came, came.mean()), came)
    assert honest <= brier(np.full_like(came, said[0]), came) + 1e-12
