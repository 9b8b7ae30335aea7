"""Which members an ensemble asks, and how it mixes what they say."""

import numpy as np
import pytest

from bikecast.features import NAMES
from bikecast.models.base import Grid
from bikecast.models.ensemble import Ensemble, weights_for
from bikecast.models.learned import Task

ROWS = np.zeros((2, len(NAMES)), np.float32)
LEVEL = np.array([1.0, 4.0], np.float32)


class Says:
    """A member that always says the level times a factor."""

    def __init__(self, factor):
        self.factor = factor

    def means(self, values, level):
        """The level times it."""
        return self.factor * level


@pytest.mark.parametrize("horizon", [2, 24, 168])
@pytest.mark.parametrize("year", [False, True])
@pytest.mark.parametrize("weather", [False, True])
def test_weights_are_shares(horizon, year, weather):
    """Whatever the task, none is negative and their sum is 1."""
    weights = weights_for(Task(Grid(horizon), year, weather))
    assert len(weights) == 4
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)


def test_the_level_is_mixed_in_before_a_year_only():
    """And the regression where networks do not know of which station a row is."""
    first, later = (weights_for(Task(Grid(24), year, False)) for year in (False, True))
    assert first[3] > 0
    assert later[3] == 0
    assert later[1] > 0
    assert weights_for(Task(Grid(2), False, False))[1:] == (0.0, 0.5, 0.0)
    assert weights_for(Task(Grid(24), False, True)) == first
    for task in (Task(Grid(2), True, False), Task(Grid(24), True, True)):
        assert weights_for(task)[1] == 0


def test_the_mean_is_geometric():
    """Half of a twofold level and half of an eightfold one is a fourfold one."""
    made = Ensemble(Task(Grid(2), False, False))
    made.trees, made.network = Says(2), Says(8)
    made.regression = Says(np.nan)  # without weight it is not asked
    assert made.means(ROWS, LEVEL) == pytest.approx(4 * LEVEL)
