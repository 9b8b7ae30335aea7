"""What is amiss in a backtest's data is counted, and nothing else."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from bikecast.evaluation import remarks
from bikecast.history import History, WeatherArchive
from bikecast.records import WEATHER, Station, System

NEW_YORK = System("city", timezone="America/New_York")
FIRST = datetime(2018, 3, 1)  # the clocks change on the 11th
DAYS = 40
START = FIRST + timedelta(days=33)
WINDOW = slice(33 * 24, 40 * 24)


@pytest.fixture
def city():
    """Three stations with four to six bikes in every hour that exists."""
    flows = np.random.default_rng(4).integers(4, 7, (3, DAYS * 24, 2)).astype(np.float32)
    history = History(NEW_YORK, tuple(Station(f"s{i}") for i in range(3)), FIRST, flows, DAYS * 24)
    flows[:, ~history.calendar(0, DAYS * 24).exists] = np.nan
    return history


def said(history, days=7):
    """What is said of a week's window."""
    return remarks(history, START, days)


def test_of_whole_data_nothing_is_said(city):
    """The hour that spring skips is no gap, and an hour without a bike no outage."""
    city.flows[0, 500] = 0
    assert said(city) == {}


def test_gaps_are_counted_by_hour_and_station(city):
    """Before and inside the window, not behind it; one flow that is known is enough."""
    city.flows[0, 500:510] = np.nan
    city.flows[1, 800] = np.nan
    city.flows[2, 600, 1] = np.nan
    city.flows[2, 39 * 24 + 5] = np.nan
    assert said(city, days=6) == {"hours of a station without a row, unknown and not zero": 11}


def test_stations_that_come_and_go_in_the_window_are_counted(city):
    """Outside it they are not worth a word."""
    city.flows[0, : 35 * 24] = np.nan
    city.flows[1, 36 * 24 :] = np.nan
    city.flows[2, : 5 * 24] = np.nan
    assert said(city) == {
        "stations that begin inside the window": 1,
        "stations that end inside the window": 1,
    }
    city.flows[0] = np.nan
    assert said(city) == {
        "stations that end inside the window": 1,
        "stations without a row before the end of the window": 1,
    }


def test_outages_and_cut_counts_are_those_of_the_features(city):
    """From the hour on where fifteen bikes are missing; both flows of a marathon."""
    city.flows[1, 700:710] = 0
    city.flows[2, 800] = 500
    found = said(city)
    # Ten bikes are expected in an hour, so that the second empty one makes it an outage.
    assert found["hours of a station without a bike, taken as an outage"] in (8, 9)
    assert found["counts cut to 4 times what was expected and 15 more"] == 2


def test_hours_without_weather_are_counted(city):
    """Of the window, where there is weather at all."""
    values = np.zeros((DAYS * 24 + 168, len(WEATHER)), np.float32)
    values[WINDOW][30:54] = np.nan
    values[:100] = np.nan
    weather = WeatherArchive(((0, values),), hindsight=True)
    assert said(replace(city, weather=weather)) == {"hours of the window without weather": 24}


def test_models_may_look_back_on_less_than_the_window_needs(city):
    """A window that begins on the second day, and one to the last known hour."""
    assert remarks(city, FIRST + timedelta(days=1), 2) == {}
    assert remarks(city.until(38 * 24), START, 7) == {}
