"""Which rows the learning models see."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import mutated_after, small_history, with_weather

from bikecast.features import NAMES
from bikecast.features.sky import RELATIVE
from bikecast.models.base import Grid
from bikecast.models.rows import (
    Rows,
    has_weather,
    learning_rows,
    predict_rows,
    recency,
    training_pairs,
    training_rows,
    without_weather,
)
from bikecast.records import WEATHER

HISTORY = small_history()
WEATHER_COLUMNS = slice(NAMES.index(WEATHER[0]), NAMES.index(RELATIVE[-1]) + 1)


@pytest.mark.parametrize("grid", [Grid(24, 24), Grid(2, 1), Grid(168, 1), Grid(168, 48)])
def test_pairs_are_those_that_the_grid_will_ask(grid):
    """Origins on the grid, steps below the horizon, hours that exist and are known."""
    origin, step = training_pairs(HISTORY, grid, 100_000_000, seed=1)
    assert (origin % min(grid.every, 24) == 0).all()
    assert set(step) == set(range(grid.horizon))
    assert (origin >= 28 * 24).all() and (origin + step < HISTORY.known).all()
    assert HISTORY.calendar(0, HISTORY.known).exists[origin + step].all()


def test_a_sample_of_pairs_is_the_same_every_time():
    """Too many pairs are sampled with a seed, and stay in the order of their origins."""
    first, second = (training_pairs(HISTORY, Grid(168, 1), 500, seed=2) for _ in range(2))
    assert np.array_equal(first, second)
    assert len(first[0]) == 500 and (np.diff(first[0]) >= 0).all()


def test_rows_carry_what_came_of_them():
    """Unknown flows are not fitted; each row has its own hour's flow and target."""
    rows = training_rows(HISTORY, Grid(24, 24), 10**9, 1, time_of_year=False)
    assert np.isfinite(rows.actual).all() and (rows.level > 0).all()
    assert np.array_equal(rows.target, rows.values[:, NAMES.index("returns")])
    assert np.array_equal(rows.hour % 24, rows.values[:, NAMES.index("hour")])
    for target in (0, 1):
        flows = HISTORY.flows[:, 28 * 24 : HISTORY.known, target]
        assert rows.actual[rows.target == target].sum() == np.nansum(flows)


def test_what_is_learned_from_is_no_fault():
    """An absurd hour counts as a very busy one; all others as they came."""
    flows = HISTORY.flows.copy()
    at = 45 * 24 + 8
    flows[0, at, 0] = 3_000
    faulty = replace(HISTORY, flows=flows)
    rows = learning_rows(faulty, Grid(24, 24), 10**9, 1, time_of_year=False)
    as_it_came = training_rows(faulty, Grid(24, 24), 10**9, 1, time_of_year=False).actual
    changed = rows.actual != as_it_came
    assert changed.sum() == 1 and as_it_came[changed] == 3_000
    assert rows.hour[changed] == at and 15 < rows.actual[changed] < 100


def test_too_many_rows_are_sampled():
    """About as many rows as allowed are left, from all stations and days."""
    rows = training_rows(HISTORY, Grid(24, 1), 5_000, 1, time_of_year=False)
    assert 4_000 < len(rows.actual) < 6_000
    assert len(set(rows.hour // 24)) == HISTORY.known // 24 + 1 - 28


@pytest.mark.parametrize(("days", "last"), [(60, 12), (139, 27), (140, 28), (500, 28)])
def test_every_tenth_day_and_the_last_ones_are_held_out(days, last):
    """Of a short history the last fifth; what is left out is told by the hour forecast."""
    day = np.arange(days)
    none = np.empty((days, 0), np.float32)
    rows = Rows(none, none, none, day, day * 24 + 23)
    expected = {d for d in range(days) if d % 10 == 0 or d >= days - last}
    assert set(day[rows.held_out]) == expected


def test_a_day_is_held_out_for_all_origins_that_reach_it():
    """No row of a day held out is among those that are fitted."""
    rows = training_rows(HISTORY, Grid(168, 24), 10**9, 1, time_of_year=False)
    unseen = rows.held_out
    held, fitted = (set(rows.where(mask).hour // 24) for mask in (unseen, ~unseen))
    assert {30, 40, HISTORY.known // 24 - 1} <= held and fitted and not held & fitted


def test_weights_halve_with_the_half_life():
    """A row 10 days old weighs half of one that ends now."""
    rows = training_rows(HISTORY, Grid(24, 24), 10**9, 1, time_of_year=False)
    weight = recency(rows, HISTORY.known, 10)
    at = np.flatnonzero(rows.hour == HISTORY.known - 240)[0]
    assert weight[at] == pytest.approx(0.5)


def test_rows_without_weather_keep_all_else():
    """No row knows its weather afterwards, nothing else changes, and the rows asked stay whole."""
    rows = training_rows(with_weather(HISTORY), Grid(24, 24), 10**9, 1, time_of_year=False)
    assert has_weather(rows.values).any()
    found = without_weather(rows)
    assert not has_weather(found.values).any()
    others = np.delete(np.arange(len(NAMES)), np.arange(len(NAMES))[WEATHER_COLUMNS])
    assert np.array_equal(found.values[:, others], rows.values[:, others], equal_nan=True)
    assert has_weather(rows.values).any()


def test_rain_and_temperature_make_weather():
    """Clouds may be unknown; without rain or temperature the weather is."""
    values = np.zeros((4, len(NAMES)), np.float32)
    for row, name in enumerate(("cloud_cover", "temperature", "precipitation"), start=1):
        values[row, NAMES.index(name)] = np.nan
    assert list(has_weather(values)) == [True, True, False, False]


def test_means_come_back_in_the_order_asked():
    """Pieces are cut by sorted origins; the answer is in the caller's order."""

    def level_of(values, level):
        return level

    origins = np.array([50 * 24, 31 * 24, 45 * 24 + 5])
    found = predict_rows(HISTORY, origins, 24, level_of, time_of_year=False)
    for i, origin in enumerate(origins):
        alone = predict_rows(HISTORY, origins[i : i + 1], 24, level_of, time_of_year=False)
        assert np.array_equal(found[i], alone[0])
    assert np.array_equal(
        found[1],
        predict_rows(
            mutated_after(HISTORY, 31 * 24), origins[1:2], 24, level_of, time_of_year=False
        )[0],
    )
