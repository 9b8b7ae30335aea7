"""Factors in words: they multiply to the forecast, whatever it is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.errors import InputError
from bikecast.features import NAMES
from bikecast.features.groups import GROUPS
from bikecast.features.inputs import Inputs
from bikecast.models import MODELS
from bikecast.explanation import BALANCE, LAST_DECIMAL, PRECISION, explain_hours, explanation

WORDS = list(GROUPS)


def product(found):
    """What an explanation comes to."""
    return found["level"] * math.prod(f["factor"] for f in found["factors"])


def logs_of(**factors):
    """Logarithms of factors of some groups, 0 of the others."""
    return np.log([factors.get(word.replace(" ", "_"), 1) for word in WORDS])


def test_the_strongest_comes_first_and_what_changes_nothing_is_left_out():
    """Strong is far from 1 on either side."""
    found = explanation(2.0, logs_of(weather=0.5, time_of_day=1.5, day=1.1), 2 * 0.5 * 1.5 * 1.1)
    assert found == {
        "level": 2.0,
        "factors": [
            {"group": "weather", "factor": 0.5},
            {"group": "time of day", "factor": 1.5},
            {"group": "day", "factor": 1.1},
        ],
    }


def test_what_came_after_the_model_is_the_last_factor():
    """However strong it is."""
    found = explanation(2.0, logs_of(weather=1.01), 2 * 1.01 * 3)
    assert found["factors"] == [
        {"group": "weather", "factor": 1.01},
        {"group": BALANCE, "factor": 3.0},
    ]


@given(
    level=st.floats(0.05, 500),
    logs=st.lists(st.floats(-1, 1), min_size=len(WORDS), max_size=len(WORDS)),
    balance=st.one_of(st.just(1.0), st.floats(0.3, 3)),
)
def test_it_always_comes_to_the_forecast(level, logs, balance):
    """Where nothing came after the model there is no balance."""
    mean = round(level * math.exp(sum(logs)) * balance, 3)
    found = explanation(level, np.array(logs), mean)
    assert product(found) == pytest.approx(mean, rel=PRECISION, abs=LAST_DECIMAL)
    if balance == 1:
        assert BALANCE not in [f["group"] for f in found["factors"]]


def test_no_bikes_are_explained_by_none():
    """A level of 0 has nothing to be multiplied."""
    assert explanation(0.0, np.zeros(len(WORDS)), 0.0) == {"level": 0.0, "factors": []}


def test_inputs_of_other_features_are_refused():
    """Their columns mean something else."""
    other = Inputs(("hour",), np.zeros((3, 2, 1), np.float32), np.ones((3, 2), np.float32))
    with pytest.raises(InputError, match="other features; issue it anew"):
        explain_hours(MODELS["naive"](), other, np.arange(3), np.ones((3, 2)))


def test_the_hours_asked_for_are_explained_and_a_target_without_forecast_is_not():
    """The level of the hour it is, and nothing for what is not forecast."""
    level = np.array([[1, 2], [3, 4]], np.float32)
    inputs = Inputs(NAMES, np.zeros((2, 2, len(NAMES)), np.float32), level)
    found = explain_hours(MODELS["naive"](), inputs, np.array([1]), np.array([[3, np.nan]]))
    assert found == [{"pickups": {"level": 3.0, "factors": []}, "returns": None}]
