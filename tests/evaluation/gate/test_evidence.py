"""Evidence: all forecasts of the same hours side by side, and what is known around them."""

import json
from dataclasses import replace

import numpy as np
import planted
import pytest
from evidence import made_evidence
from made_up import small_history, with_weather

from bikecast.errors import InputError
from bikecast.evaluation.gate import (
    facts_document,
    facts_from,
    facts_of,
    leak,
    rain_before,
    side_by_side,
    trial,
)
from bikecast.models.base import Grid
from bikecast.models.naive import SeasonalNaive

GRID = Grid(168, 48)


def test_facts_are_the_same_after_a_way_through_json():
    """An endless leak included, and what a later release has added left out."""
    for change in (0.5, None, float("inf")):
        facts = made_evidence(leak=change).facts
        document = json.loads(json.dumps(facts_document(facts), allow_nan=False))
        assert facts_from(document | {"later": 1}) == facts
    with pytest.raises(InputError, match="incomplete.*train anew"):
        facts_from({"model": "glm"})


def test_rows_are_the_hours_that_naive_forecasts_and_that_are_known():
    """Who does not forecast one has a null there; the rain is that of the hour."""
    history = with_weather(small_history(days=60))
    start = history.hour(42 * 24)
    naive = trial(replace(history, weather=None), SeasonalNaive, start, 14, GRID)
    lacking = replace(naive, frame=naive.frame.filter(naive.frame["station_id"] != "s1"))
    rows = side_by_side({"naive": naive, "challenger": lacking}, history, start)
    assert len(rows) == len(naive.frame)
    silent = rows.filter(rows["challenger"].is_null())["station_id"].cast(str)
    assert set(silent) == {"s1"} and rows["champion"].is_null().all()
    first = rows.row(0, named=True)
    place = history.position[first["station_id"]], history.index(first["hour"])
    assert first["actual"] == history.flows[place][0]
    assert not rows["rain"].is_null().any()


def test_how_much_of_the_rain_before_a_window_is_known():
    """Of the year before it, or of what there is."""
    history = with_weather(small_history(days=60))
    start = history.hour(42 * 24)
    assert rain_before(history, start) == pytest.approx(1 - 12 / (42 * 24))  # from a noon on
    assert rain_before(replace(history, weather=None), start) == 0
    for _, values in history.weather.vintages:
        values[14 * 24 :] = np.nan
    assert rain_before(history, history.hour(28 * 24)) == pytest.approx((14 * 24 - 12) / (28 * 24))
    assert 0 < rain_before(history, start) < 0.5


def test_volume_and_stations_are_told():
    """Whole weeks back from the end, and who had no known hour in the last."""
    history = planted.city()
    facts = facts_of(history)
    assert len(facts["weekly_rides"]) == 10 and facts["stations"] == planted.STATIONS
    assert facts["weekly_rides"][-1] == np.nansum(history.flows[:, -168:])
    history.flows[2, -168:] = np.nan
    history.flows[3, :240] = np.nan
    facts = facts_of(history)
    assert facts["vanished"] == ["s2"]
    before = np.nansum(history.flows[:, -5 * 168 : -168], axis=(1, 2))
    assert facts["vanished_share"] == pytest.approx(before[2] / before.sum())
    assert facts["first_hours"]["s3"] == history.hour(240).isoformat()


@pytest.mark.parametrize(("model", "leaks"), [(planted.Leaky, True), (planted.Profile, False)])
def test_a_look_ahead_is_seen(model, leaks):
    """By altering all that comes after an origin."""
    history = planted.city()
    start = history.hour(63 * 24)
    forecaster = model()
    forecaster.fit(history.until(63 * 24), GRID)
    assert (leak(history, forecaster, start, 21) > 0.1) == leaks
