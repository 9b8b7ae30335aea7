"""The network's own promises; what all models promise is in test_contract."""

import numpy as np
import pytest

from bikecast.features import NAMES
from bikecast.features.groups import GROUPS
from bikecast.models import network
from bikecast.models.base import Grid
from bikecast.models.network import Layers, Network, columns_of, inputs
from bikecast.models.rows import Rows

LEVEL = 5.0


def layers(sizes, seed=1):
    """Random weights between layers of these sizes."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes, sizes[1:], strict=False))
    weights = tuple(rng.normal(0, 1, shape).astype(np.float64) for shape in shapes)
    return Layers(weights, tuple(rng.normal(0, 1, size) for size in sizes[1:]))


def rows(count=8_000, seed=1):
    """Flows that follow one feature smoothly, around a level; a year of the day is unknown."""
    rng = np.random.default_rng(seed)
    values = np.zeros((count, len(NAMES)), np.float32)
    values[:, NAMES.index("temperature")] = rng.normal(20, 5, count)
    values[:, NAMES.index("yearday")] = np.nan
    warmth = (values[:, NAMES.index("temperature")] - 20) / 5
    actual = rng.poisson(LEVEL * np.exp(0.4 * warmth)).astype(np.float32)
    level = np.full(count, LEVEL, np.float32)
    return Rows(values, level, actual, np.zeros(count, int), np.arange(count))


@pytest.fixture(scope="module")
def learned():
    """A network that has learned from such flows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "EPOCHS", 40)
        patch.setattr(network, "BATCH", 256)
        made = Network(Grid(24))
        made.learn(rows(), 8_000)
    return made


def test_slopes_are_those_of_small_changes():
    """Each weight's slope is what a small change of it does to the output."""
    made, x = layers((4, 6, 3, 1)), np.random.default_rng(2).normal(0, 1, (1, 4))
    given = made.forward(x)
    slopes = made.backward(given, np.ones((1, 1)))[::-1]
    for layer, (entering, slope) in enumerate(zip(given[:-1], slopes, strict=True)):
        gradient = entering.T @ slope
        for place in np.ndindex(gradient.shape):
            more = [w.copy() for w in made.weights]
            more[layer][place] += 1e-6
            moved = Layers(tuple(more), made.biases).forward(x)[-1] - given[-1]
            assert moved.item() / 1e-6 == pytest.approx(gradient[place], abs=1e-4)


def test_a_smooth_dependence_is_learned(learned):
    """Warmer by a deviation is busier by half, within 10 %."""
    values = rows().values[:3].copy()
    values[:, NAMES.index("temperature")] = (15, 20, 25)
    found = learned.means(values, np.full(3, LEVEL, np.float32))
    assert found == pytest.approx(LEVEL * np.exp([-0.4, 0, 0.4]), rel=0.1)


def test_an_unknown_input_counts_as_its_mean(learned):
    """Nothing that is missing makes a forecast unknown."""
    values = rows().values[:2].copy()
    at = NAMES.index("temperature")
    values[0, at], values[1, at] = np.nan, rows().values[:, at].mean()
    found = learned.means(values, np.full(2, LEVEL, np.float32))
    assert found[0] == pytest.approx(found[1], rel=1e-4) and np.isfinite(found).all()


def test_what_is_absurd_counts_as_much(learned):
    """Five deviations are the most that an input can say; nothing runs away."""
    values = rows().values[:2].copy()
    values[:, NAMES.index("temperature")] = (1_000, 1_000_000)
    found = learned.means(values, np.full(2, LEVEL, np.float32))
    assert found[0] == found[1] <= LEVEL * np.exp(network.MOST_CHANGE) * 1.001


def test_an_explanation_names_what_it_came_from(learned):
    """All but nothing of a warm hour's change belongs to the weather."""
    values = rows().values[:1].copy()
    values[0, NAMES.index("temperature")] = 30
    logs = learned.explain(values, np.full(1, LEVEL, np.float32))[0]
    by_word = dict(zip(GROUPS, logs, strict=True))
    assert by_word["weather"] == pytest.approx(0.8, abs=0.15)
    assert sum(abs(v) for k, v in by_word.items() if k != "weather") < 0.15


def test_the_systems_last_hours_are_inputs_only_of_the_next_few():
    """Further ahead they would tell each day apart."""
    values = rows(3).values
    for short in (True, False):
        assert inputs(values, short).shape == (3, len(columns_of(short)))
    assert "system_1h" in columns_of(True) and "system_1h" not in columns_of(False)
    assert "system_24h" not in columns_of(True)
