"""Scores by part of the hours."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from bikecast.evaluation.detail import detail, parts
from bikecast.history import build_history
from bikecast.records import QUANTILE_COLUMNS, System

START = datetime(2018, 5, 4)  # a Friday


@pytest.fixture(scope="module")
def history():
    """Two stations of three days; one bike an hour each way."""
    rows = [
        {"station_id": s, "hour": START + timedelta(hours=h), "pickups": 1, "returns": 1}
        for s in ("a", "b")
        for h in range(72)
    ]
    return build_history(pl.DataFrame(rows), System("city"))


def predictions(error):
    """From one origin for all hours, off by what a function says of station and hour."""
    rows = [
        {"origin": START, "station_id": s, "hour": hour, "target": t, "mean": 1 + error(s, hour)}
        for s in ("a", "b")
        for t in ("pickups", "returns")
        for hour in (START + timedelta(hours=h) for h in range(72))
    ]
    levels = [pl.lit(float(i)).alias(q) for i, q in enumerate(QUANTILE_COLUMNS)]
    return pl.DataFrame(rows).with_columns(levels)


def test_errors_are_told_by_part_and_by_station(history):
    """A model that is off at night on weekends, at one station alone."""

    def night(station, hour):
        return 2.0 if station == "b" and hour.hour < 6 and hour.weekday() > 4 else 0.0

    found = {
        "glm": parts(predictions(night), history),
        "naive": parts(predictions(lambda s, h: 0.1), history),
    }
    told = detail(found, "glm")
    maes = {(s["of"], s["part"]): round(s["scores"]["glm"]["mae"], 4) for s in told["slices"]}
    assert maes == {
        ("target", "pickups"): 0.1667,
        ("target", "returns"): 0.1667,
        ("day ahead", "1"): 0.0,
        ("day ahead", "2"): 0.25,
        ("day ahead", "3"): 0.25,
        ("hours of the day", "0–5"): 0.6667,
        ("hours of the day", "6–11"): 0.0,
        ("hours of the day", "12–17"): 0.0,
        ("hours of the day", "18–23"): 0.0,
        ("day", "weekend"): 0.25,
        ("day", "Monday to Friday"): 0.0,
    }
    assert list(maes)[5:9] == [("hours of the day", p) for p in ("0–5", "6–11", "12–17", "18–23")]
    first = told["slices"][0]["scores"]
    assert first["naive"]["mae"] == pytest.approx(0.1) and first["naive"]["n"] == 144
    assert first["naive"]["bias"] == pytest.approx(0.1)
    # One bike lies between q10 (1) and q90 (5).
    assert first["glm"]["coverage_80"] == 1.0
    assert told["stations"]["n"] == 2 and told["stations"]["worse_than_naive"] == 1
    worst = told["stations"]["worst"][0]
    assert worst["station_id"] == "b" and worst["mae"] == pytest.approx(1 / 3)
    assert not told["calibration"]["calibrated"] and len(told["calibration"]["worst"]) == 5


def test_an_hour_that_is_not_known_counts_nowhere(history):
    """As in all other scores."""
    longer = predictions(lambda s, h: 0.0)
    later = longer.with_columns(pl.col("hour") + timedelta(days=2))
    told = detail({"naive": parts(later, history)}, "naive")
    assert sum(s["scores"]["naive"]["n"] for s in told["slices"] if s["of"] == "target") == 96
