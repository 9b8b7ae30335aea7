"""What models learn of stations that run empty every evening."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import small_history

from bikecast.features import features
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.models.rows import training_rows
from bikecast.records import TARGETS

TRUTH = small_history()
EVENING = np.arange(TRUTH.flows.shape[1]) % 24
EVENING = (EVENING >= 17) & (EVENING < 20)
PICKUPS = TARGETS.index("pickups")
FITTED = 50 * 24
DAYS = np.arange(50, 57) * 24
GRID = Grid(24, 24)


@pytest.fixture(scope="module")
def empty():
    """The busiest station has no bike from five to eight, so nobody takes one."""
    flows = TRUTH.flows.copy()
    flows[2, EVENING, PICKUPS] *= 0
    return replace(TRUTH, flows=flows)


@pytest.fixture(scope="module")
def watched(empty):
    """The same, and it is known that there was none."""
    censored = np.zeros(empty.flows.shape, bool)
    censored[2, EVENING, PICKUPS] = True
    return replace(empty, censored=censored)


@pytest.mark.parametrize("name", ["glm", "ensemble"])
def test_a_station_that_runs_empty_is_forecast_nearer_to_its_demand(name, empty, watched):
    """Unwatched, its evenings are learned as quiet ones; the others are not harmed."""
    errors = []
    for history in (empty, watched):
        made = MODELS[name]()
        made.fit(history.until(FITTED), GRID)
        found = made.predict(history, DAYS, GRID.horizon).mean[..., PICKUPS]
        came = TRUTH.flows.transpose(1, 0, 2)[DAYS[:, None] + np.arange(24)][..., PICKUPS]
        error = np.abs(found - came)
        errors.append((error[:, 17:20, 2].mean(), np.nanmean(error[..., :2])))
    (evening, others), (nearer, still) = errors
    assert nearer < evening / 2
    assert still < 1.1 * others


def test_censored_rows_are_not_learned(empty, watched):
    """The pickups of these hours are in no row; their returns are."""
    rows = [
        training_rows(h.uncensored.until(FITTED), GRID, 10**6, 1, time_of_year=False)
        for h in (empty, watched)
    ]
    zeros = [((r.actual == 0) & EVENING[r.hour] & (r.target == PICKUPS)).sum() for r in rows]
    learned = int(np.isfinite(empty.flows[2, 25 * 24 : FITTED, PICKUPS])[EVENING[600:FITTED]].sum())
    assert len(rows[0].actual) - len(rows[1].actual) == learned
    assert zeros[0] - zeros[1] == learned


def test_a_censored_zero_lowers_no_level(watched):
    """One evening without bikes leaves the level and the last hours' ratios as they were."""
    one = np.zeros_like(watched.censored)
    one[2, FITTED - 7 : FITTED - 4, PICKUPS] = True
    flows = np.where(one, np.float32(0), TRUTH.flows)
    known = replace(TRUTH, flows=flows, censored=one)
    asked = np.array([FITTED]), np.array([18])
    truth, zero, left_out = (
        features(h.uncensored, *asked).level[0, 2, PICKUPS]
        for h in (TRUTH, replace(known, censored=None), known)
    )
    assert zero < 0.95 * truth and left_out > zero


def test_a_mask_after_the_origin_changes_nothing(watched):
    """What a station's status says later is not known yet."""
    made = MODELS["glm"]()
    made.fit(watched.until(FITTED), GRID)
    later = watched.censored.copy()
    later[:, FITTED:] = ~later[:, FITTED:]
    origin = np.array([FITTED])
    wanted, found = (
        made.predict(h, origin, 24) for h in (watched, replace(watched, censored=later))
    )
    assert np.array_equal(wanted.mean, found.mean)
    again = MODELS["glm"]()
    again.fit(replace(watched, censored=later).until(FITTED), GRID)
    assert np.array_equal(again.predict(watched, origin, 24).mean, wanted.mean)
