"""What each kind of model gives as its reasons."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import small_history, with_weather

from bikecast.features import NAMES, features, pairs
from bikecast.features.groups import GROUPS
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.models.rows import learning_rows
from bikecast.models.statistical import MOST_CHANGE, CountRegression

HISTORY = with_weather(small_history())
WORDS = list(GROUPS)


@pytest.fixture(scope="module")
def regression():
    """A count regression that learned with weather."""
    made = CountRegression()
    made.learn(learning_rows(HISTORY, Grid(24), 10**9, 1, time_of_year=False), HISTORY.known)
    return made


@pytest.fixture(scope="module")
def rows():
    """A day's rows of features, and their levels."""
    seen = features(HISTORY, *pairs(np.array([50 * 24]), 24))
    return seen.values.reshape(-1, len(NAMES)), seen.level.ravel()


def test_other_weather_changes_the_weathers_factor_alone(regression, rows):
    """Terms of a regression are each their own."""
    values, level = rows
    warmer = values.copy()
    warmer[:, NAMES.index("temperature")] += 10
    changed = regression.explain(warmer, level) != regression.explain(values, level)
    assert changed[:, WORDS.index("weather")].all()
    assert not np.delete(changed, WORDS.index("weather"), axis=1).any()


def test_a_change_that_is_cut_is_cut_of_all_terms(regression, rows):
    """A regression gone wild stops at a factor of 20, and its terms still add up to that."""
    wild = CountRegression()
    wild.coefficients, wild.centre = regression.coefficients * 500, regression.centre
    values, level = rows
    logs = wild.explain(values, level)
    assert np.abs(logs.sum(axis=1)).max() == pytest.approx(MOST_CHANGE, rel=1e-4)
    assert level * np.exp(logs.sum(axis=1)) == pytest.approx(wild.means(values, level), rel=1e-4)


@pytest.mark.parametrize("name", ["naive", "mean4w"])
def test_what_only_repeats_the_past_is_its_own_level(name):
    """There is nothing to explain, also where the past was empty."""
    quiet = replace(HISTORY, flows=HISTORY.flows * 0)
    model = MODELS[name]()
    inputs = model.inputs(quiet, np.array([50 * 24]), 5)
    assert (inputs.level == 0).all()
    assert (model.explain(inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()) == 0).all()
