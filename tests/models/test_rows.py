"""Which rows the learning models see."""

import numpy as np
import pytest
from made_up import mutated_after, small_history, with_weather

from bikecast.features import NAMES, Features
from bikecast.models.base import Grid
from bikecast.models.rows import (
    predict_means,
    recency,
    training_pairs,
    training_rows,
    without_weather,
)
from bikecast.records import WEATHER

HISTORY = small_history()
WEATHER_COLUMNS = slice(NAMES.index(WEATHER[0]), NAMES.index(WEATHER[-1]) + 1)


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


def test_too_many_rows_are_sampled():
    """About as many rows as allowed are left, from all stations and days."""
    rows = training_rows(HISTORY, Grid(24, 1), 5_000, 1, time_of_year=False)
    assert 4_000 < len(rows.actual) < 6_000
    assert len(set(rows.hour // 24)) == HISTORY.known // 24 + 1 - 28


def test_every_tenth_day_is_held_out_by_the_hour_forecast():
    """A held-out day is held out for all origins that reach it."""
    rows = training_rows(HISTORY, Grid(168, 24), 10**9, 1, time_of_year=False)
    assert set(rows.where(rows.held_out).hour // 24) == {30, 40, 50}
    assert not {30, 40, 50} & set(rows.where(~rows.held_out).hour // 24)


def test_weights_halve_with_the_half_life():
    """A row 10 days old weighs half of one that ends now."""
    rows = training_rows(HISTORY, Grid(24, 24), 10**9, 1, time_of_year=False)
    weight = recency(rows, HISTORY.known, 10)
    at = np.flatnonzero(rows.hour == HISTORY.known - 240)[0]
    assert weight[at] == pytest.approx(0.5)


def test_weather_is_forgotten_for_whole_hours():
    """A share of the hours loses all its weather, the rest keeps it, nothing else changes."""
    rows = training_rows(with_weather(HISTORY), Grid(24, 24), 10**9, 1, time_of_year=False)
    wanted = rows.values.copy()
    found = without_weather(rows, WEATHER_COLUMNS, 0.5, seed=1)
    gone = np.isnan(found.values[:, WEATHER_COLUMNS]).all(axis=1)
    assert 0.3 < gone.mean() < 0.7
    assert np.array_equal(found.values[~gone], wanted[~gone], equal_nan=True)
    wanted[:, WEATHER_COLUMNS] = np.nan
    found.values[:, WEATHER_COLUMNS] = np.nan
    assert np.array_equal(found.values, wanted, equal_nan=True)


def test_means_come_back_in_the_order_asked():
    """Pieces are cut by sorted origins; the answer is in the caller's order."""

    def level_of(seen: Features):
        return seen.level

    origins = np.array([50 * 24, 31 * 24, 45 * 24 + 5])
    found = predict_means(HISTORY, origins, 24, level_of, time_of_year=False)
    for i, origin in enumerate(origins):
        alone = predict_means(HISTORY, origins[i : i + 1], 24, level_of, time_of_year=False)
        assert np.array_equal(found[i], alone[0])
    assert np.array_equal(
        found[1],
        predict_means(
            mutated_after(HISTORY, 31 * 24), origins[1:2], 24, level_of, time_of_year=False
        )[0],
    )
