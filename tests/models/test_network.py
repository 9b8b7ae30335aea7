"""The network's own promises; what all models promise is in test_contract."""

from dataclasses import replace

import numpy as np
import pytest

from bikecast.features import NAMES
from bikecast.features.groups import GROUPS
from bikecast.models import network
from bikecast.models.base import Grid
from bikecast.models.network import Layers, Network, columns_of, inputs, sums
from bikecast.models.rows import Rows

LEVEL = 5.0


def layers(sizes, seed=1):
    """Random weights between layers of these sizes."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes, sizes[1:], strict=False))
    weights = tuple(rng.normal(0, 1, shape).astype(np.float64) for shape in shapes)
    own = np.append(rng.normal(0, 1, (3, sizes[1])), np.zeros((1, sizes[1])), axis=0)
    return Layers(weights, tuple(rng.normal(0, 1, size) for size in sizes[1:]), own)


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
        patch.setattr(network, "SEEDS", 2)
        patch.setattr(network, "EPOCHS", 40)
        patch.setattr(network, "BATCH", 256)
        made = Network(Grid(24), year=True, weather=False)
        made.learn(rows(), 8_000)
    return made


def test_slopes_are_those_of_small_changes():
    """Each weight's slope, and that of a station's own part, is what a small change of it does."""
    made, x, whose = layers((4, 6, 3, 1)), np.random.default_rng(2).normal(0, 1, (1, 4)), [1]
    given = made.forward(x, made.parts(whose))
    slopes = made.backward(given, np.ones((1, 1)))[::-1]
    for layer, (entering, slope) in enumerate(zip(given[:-1], slopes, strict=True)):
        gradient = entering.T @ slope
        for place in np.ndindex(gradient.shape):
            more = [w.copy() for w in made.weights]
            more[layer][place] += 1e-6
            changed = replace(made, weights=tuple(more))
            moved = changed.forward(x, changed.parts(whose))[-1] - given[-1]
            assert moved.item() / 1e-6 == pytest.approx(gradient[place], abs=1e-4)
    gradient = sums(slopes[0], np.array(whose), 3)
    for place in np.ndindex(gradient.shape):
        own = made.own.copy()
        own[place] += 1e-6
        moved = made.forward(x, replace(made, own=own).parts(whose))[-1] - given[-1]
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


@pytest.fixture(scope="module")
def told_apart():
    """A network for the next hours that met a station busier than its level, and a quieter one.

    Returns of the busier one are fewer than its level says.
    """
    flows = rows()
    station, returns = np.arange(8_000) % 2, np.arange(8_000) // 2 % 2
    for name, value in (("station", station), ("returns", returns), ("yearday", 1)):
        flows.values[:, NAMES.index(name)] = value
    factor = np.where((station == 1) & (returns == 0), 1.5, 0.75)
    actual = np.random.default_rng(3).poisson(LEVEL * factor).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "SEEDS", 2)
        patch.setattr(network, "EPOCHS", 40)
        patch.setattr(network, "BATCH", 256)
        made = Network(Grid(2, 1), year=True, weather=False)
        made.learn(replace(flows, actual=actual), 8_000)
    return made


def of_stations(*numbers):
    """A row of features of each."""
    values = np.zeros((len(numbers), len(NAMES)), np.float32)
    for name, value in (("station", numbers), ("yearday", 1), ("temperature", 20)):
        values[:, NAMES.index(name)] = value
    return values, np.full(len(numbers), LEVEL, np.float32)


def test_the_next_hours_of_a_station_are_its_own(told_apart):
    """What sets a station apart is learned; one that was never met lies between the others."""
    quiet, busy, new = told_apart.means(*of_stations(0, 1, 2)) / LEVEL
    assert (quiet, busy) == pytest.approx((0.75, 1.5), rel=0.1)
    assert quiet < new < busy
    values, level = of_stations(1)
    values[:, NAMES.index("returns")] = 1
    assert told_apart.means(values, level) / LEVEL == pytest.approx(0.75, rel=0.1)
    assert told_apart.means(*of_stations(5))[0] == told_apart.means(*of_stations(2))[0]


def test_what_is_a_stations_own_is_explained_by_the_station(told_apart):
    """A new one has nothing of either."""
    logs = told_apart.explain(*of_stations(0, 1, 2))
    of_station = logs[:, list(GROUPS).index("station")]
    assert of_station[1] - of_station[0] == pytest.approx(np.log(2), abs=0.15)
    assert of_station[0] < of_station[2] < of_station[1]


def test_what_is_a_stations_own_is_kept(told_apart):
    """A network that is restored tells the same stations apart."""
    kept = Network(Grid(24), year=False, weather=False)
    kept.restore(told_apart.portable())
    asked = of_stations(0, 1, 2)
    assert (kept.means(*asked) == told_apart.means(*asked)).all()
    assert (kept.explain(*asked) == told_apart.explain(*asked)).all()


def test_what_decays_shrinks_and_nothing_else_does():
    """Without a slope, a value loses its rate times its decay."""
    values = [np.ones(1, np.float32), np.ones(1, np.float32)]
    adam = network._Adam(values, [0.5, 0.0])
    adam.step([np.zeros(1, np.float32)] * 2, rate=0.1)
    assert [v.item() for v in values] == pytest.approx([0.95, 1.0])


def test_rows_that_do_not_say_whose_they_are_teach_nothing_of_a_station(monkeypatch):
    """Where all rows keep it to themselves, no station has a part of its own."""
    monkeypatch.setattr(network, "EPOCHS", 1)
    monkeypatch.setattr(network, "UNKNOWN_SHARE", 1.0)
    flows = rows(500)
    flows.values[:, NAMES.index("station")] = np.arange(500) % 2
    made = Network(Grid(2, 1), year=True, weather=False)
    made.learn(flows, 500)
    assert len(made.flows) == 2
    assert not any(layers.own.any() for layers in made.layers)


def test_heavy_rain_is_told_as_its_logarithm():
    """Millimetres alone, and the row itself stays as it was; unknown rain stays unknown."""
    values = np.zeros((3, len(NAMES)), np.float32)
    values[:, NAMES.index("rain_day")] = (0, np.e - 1, np.nan)
    values[:, NAMES.index("temperature")] = 7
    before = values.copy()
    found = dict(zip(columns_of(False), inputs(values, False).T, strict=True))
    assert found["rain_day"] == pytest.approx([0, 1, np.nan], nan_ok=True)
    assert found["temperature"] == pytest.approx([7, 7, 7])
    assert np.array_equal(values, before, equal_nan=True)


def test_further_ahead_nobody_is_told_apart(learned):
    """A day-ahead network that knows no weather knows no station."""
    first, second = learned.means(*of_stations(0, 1))
    assert first == second


@pytest.mark.parametrize("horizon", [2, 168])
@pytest.mark.parametrize("year", [False, True])
def test_where_the_weather_is_known_stations_are_told_apart_after_a_year(
    monkeypatch, horizon, year
):
    """Rain keeps riders from some more than from others; before, it would be one season of them."""
    monkeypatch.setattr(network, "EPOCHS", 1)
    flows = rows(500)
    flows.values[:, NAMES.index("station")] = np.arange(500) % 2
    flows.values[:, NAMES.index("yearday")] = 1
    made = Network(Grid(horizon, 1), year=year, weather=True)
    made.learn(replace(flows, actual=LEVEL * (np.arange(500, dtype=np.float32) % 2)), 500)
    first, second = made.means(*of_stations(0, 1))
    assert (first != second) == year


def test_the_systems_last_hours_are_inputs_only_of_the_next_few():
    """Further ahead they would tell each day apart."""
    values = rows(3).values
    for short in (True, False):
        assert inputs(values, short).shape == (3, len(columns_of(short)))
    assert "system_1h" in columns_of(True) and "system_1h" not in columns_of(False)
    assert "system_24h" not in columns_of(True)
