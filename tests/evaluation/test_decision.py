"""The stock that a forecast sets at midnight, held against the day that came."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from bikecast.evaluation import backtest, score_models, score_overall
from bikecast.evaluation.decision import best_stocks, decision_value
from bikecast.evaluation.decision import replay as replayed
from bikecast.history import build_history
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.panels import read_panel, read_stations
from bikecast.records import QUANTILE_COLUMNS, Station, System

NEW_YORK = System("ny", timezone="America/New_York", holidays="US-NY")
SPRING = datetime(2018, 3, 11)  # a day of 23 hours
PLACES = (Station("a", capacity=10), Station("b"))


def panel(days=3, start=datetime(2018, 3, 10)):
    """Four bikes leave at 8 and six come back at 18, at two stations."""
    hours = [start + timedelta(hours=h) for h in range(24 * days)]
    flows = {
        "pickups": [4 * (hour.hour == 8) for hour in hours],
        "returns": [6 * (hour.hour == 18) for hour in hours],
    }
    frames = [pl.DataFrame({"station_id": s.station_id, "hour": hours, **flows}) for s in PLACES]
    return pl.concat(frames)


@pytest.fixture
def history():
    """Nine days and the three of the panel; of one station the capacity is not known."""
    return build_history(panel(12, datetime(2018, 3, 1)), NEW_YORK, PLACES)


def forecasts(frame, origin=None, mean=pl.col("mean")):
    """A forecast, by default of just what came, issued at each midnight or at one moment."""
    rows = frame.unpivot(
        on=["pickups", "returns"],
        index=["station_id", "hour"],
        variable_name="target",
        value_name="mean",
    ).with_columns(
        mean=mean.cast(pl.Float64),
        origin=pl.col("hour").dt.truncate("1d") if origin is None else pl.lit(origin),
    )
    skipped = pl.col("hour") == SPRING + timedelta(hours=2)
    return rows.filter(~skipped).with_columns(pl.col("mean").alias(q) for q in QUANTILE_COLUMNS)


def test_a_day_is_replayed_rider_by_rider():
    """Two bikes serve two of four pickups; of six returns the docks that are left take the rest."""
    flows = np.zeros((24, 2))
    flows[8] = 4, 0
    flows[18] = 0, 6
    stocks = np.arange(8)
    assert replayed(stocks, np.full(8, 7), flows[None]).tolist() == [4, 3, 2, 1, 0, 0, 1, 2]


def test_pickups_come_before_returns_within_the_hour():
    """A bike that comes back in the hour serves nobody in that hour, but its dock may be free."""
    flows = np.zeros((1, 24, 2))
    flows[0, 8] = 3, 3
    assert replayed(np.array([0]), np.array([3]), flows) == [3]
    assert replayed(np.array([3]), np.array([3]), flows) == [0]


def test_the_stock_is_the_one_that_fails_least_on_average():
    """It is the best of all stocks on a thousand days drawn around the forecast."""
    random = np.random.default_rng(2)
    mean = random.uniform(0, 4, (1, 24, 2))
    days = random.poisson(mean, (2_000, 24, 2)).astype(float)
    docks = np.full(2_000, 15)
    failed = [replayed(np.full(2_000, b), docks, days).mean() for b in range(16)]
    (chosen,) = best_stocks(mean, np.array([15]))
    assert failed[chosen] < min(failed) + 0.1


def test_a_forecast_that_is_right_lets_few_fail(history):
    """Known hours, known capacity: days are counted, others too, and the demand is what came."""
    found = decision_value(forecasts(panel()), history)
    assert found == {
        "station_days": 3,  # of station a; the day without its second hour is one of them
        "station_days_left_out": 3,
        "failed_trips": 0,
        "trip_demand": 30,
    }


def test_the_newest_forecast_at_midnight_decides(history):
    """What was issued during the day comes too late, what was issued long before is outdated."""
    before, late = datetime(2018, 3, 9), datetime(2018, 3, 10, 1)
    wrong = 9 * (pl.col("target") == "returns")
    old = forecasts(panel(), before, wrong)
    rows = pl.concat([old, forecasts(panel()), forecasts(panel(1), late, wrong)])
    assert decision_value(old, history)["failed_trips"] > 0
    assert decision_value(rows, history)["failed_trips"] == 0


@pytest.mark.parametrize(
    "rows",
    [
        forecasts(panel()).filter(pl.col("target") == "pickups"),
        forecasts(panel()).filter(pl.col("hour").dt.hour() < 23),
        forecasts(panel()).with_columns(origin=pl.col("hour")),
    ],
    ids=["one target", "an hour lacks", "issued hour by hour"],
)
def test_days_that_midnight_cannot_see_whole_are_left_out_and_counted(history, rows):
    """There is no such score, and it is said of how many days."""
    assert decision_value(rows, history) == {"station_days": 0, "station_days_left_out": 6}


def test_days_that_did_not_come_whole_are_left_out(history):
    """An unknown hour leaves its day out, and so does the end of the history."""
    flows = history.flows.copy()
    flows[0, 9 * 24 + 5] = np.nan
    found = decision_value(forecasts(panel(5)), replace(history, flows=flows))
    assert (found["station_days"], found["station_days_left_out"]) == (2, 8)


def test_it_is_among_the_scores_of_every_model(history):
    """Overall, alone and side by side."""
    rows = forecasts(panel())
    assert score_overall(rows, history)["trip_demand"] == 30
    named = rows.with_columns(model=pl.lit("oracle"))
    assert score_models(named, history)["oracle"]["overall"]["failed_trips"] == 0


@pytest.fixture(scope="module")
def published(shared_data):
    """The panel of the published figures, and its 84 reference days [stations, days, 24, 2]."""
    folder, skipped = shared_data / "panel", Counter()
    end = datetime(2018, 10, 8)
    frame, _ = read_panel(folder / "nyc30_published_2018-01_2018-10-07.parquet", end, skipped)
    places, _ = read_stations(folder / "nyc30_stations.csv", skipped)
    history = build_history(frame, NEW_YORK, places)
    first = history.index(datetime(2018, 7, 16))
    return history, history.flows[:, first:].reshape(30, 84, 24, 2).astype(float)


def test_replay_gives_the_published_failures(published):
    """Half full (odd capacities a bike less), and with each day known before."""
    history, days = published
    docks = np.array([s.capacity for s in history.stations])[:, None].repeat(84, axis=1)
    assert days.sum() == 1_410_516
    assert replayed(docks // 2, docks, days).sum() == 134_047
    every = [
        np.where(b <= docks, replayed(np.minimum(b, docks), docks, days), np.inf)
        for b in range(docks.max() + 1)
    ]
    assert np.min(every, axis=0).sum() == 109_501


def test_the_four_week_mean_has_the_published_failures(published):
    """By way of the backtest."""
    history, _ = published
    window = {"start": datetime(2018, 7, 16), "days": 84, "refit_days": 28}
    frame = backtest(history, MODELS["mean4w"], grid=Grid(24, 24), **window)
    found = decision_value(frame, history)
    assert (found["station_days"], found["trip_demand"]) == (2_520, 1_410_516)
    assert found["failed_trips"] == pytest.approx(120_958, rel=0.001)


def test_the_historical_mean_has_the_published_failures(published):
    """The mean of each hour of the week over all weeks before the day."""
    history, days = published
    weeks = history.flows.reshape(30, -1, 7 * 24, 2).astype(float)
    so_far = np.nancumsum(weeks, axis=1) / np.cumsum(np.isfinite(weeks), axis=1)
    # The panel begins on a Monday, as the reference days do: week by week the mean before it.
    mean = so_far[:, -13:-1].reshape(days.shape)
    docks = np.array([s.capacity for s in history.stations]).repeat(84)
    stocks = best_stocks(mean.reshape(-1, 24, 2), docks)
    failed = replayed(stocks, docks, days.reshape(-1, 24, 2)).sum()
    assert failed == pytest.approx(122_200, rel=0.001)
