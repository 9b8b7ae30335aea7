"""The worst days are found, and nothing is named as their reason but what the data show."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from bikecast.evaluation.days import errors_by_day, worst_days
from bikecast.history import History, WeatherArchive
from bikecast.records import QUANTILE_COLUMNS, TARGETS, WEATHER, Station, System

NEW_YORK = System("city", timezone="America/New_York", holidays="US-NY")
FIRST = datetime(2018, 5, 14)  # a Monday, two weeks before Memorial Day
DAYS = 21
USUAL = 6.0


@pytest.fixture
def city():
    """Eight stations where six bikes are forecast for every hour, and five or seven come."""
    flows = np.full((8, DAYS * 24, len(TARGETS)), USUAL - 1, np.float32)
    flows[:, ::2] = USUAL + 1
    stations = (Station("s0", "Central Station"), *(Station(f"s{i}") for i in range(1, 8)))
    return History(NEW_YORK, stations, FIRST, flows, DAYS * 24)


def hours(day):
    """Where a day of May is on the grid."""
    return slice((day - 14) * 24, (day - 13) * 24)


def changed(city, day, values, stations=slice(None)):
    """The same city with other flows on one day of May."""
    flows = city.flows.copy()
    flows[stations, hours(day)] = values
    return replace(city, flows=flows)


def forecasts(city):
    """Six bikes for every hour, from every midnight."""
    every = [FIRST + timedelta(hours=h) for h in range(DAYS * 24)]
    rows = [(s.station_id, h, t) for s in city.stations for h in every for t in TARGETS]
    schema = {"station_id": str, "hour": pl.Datetime("us"), "target": str}
    frame = pl.DataFrame(rows, schema, orient="row")
    levels = {name: pl.lit(USUAL) for name in ("mean", *QUANTILE_COLUMNS)}
    return frame.with_columns(origin=pl.col("hour").dt.truncate("1d"), **levels)


def worst(city):
    """The worst day."""
    return worst_days(forecasts(city), city, most=1)[0]


def test_the_worst_day_comes_first_with_its_figures(city):
    """Error, bias, and how many stations went the same way, by hand."""
    bad = changed(changed(city, 16, 2), 17, 3)
    found = worst_days(forecasts(bad), bad, most=2)
    assert [d.day for d in found] == [date(2018, 5, 16), date(2018, 5, 17)]
    first = found[0]
    assert (first.mae, first.bias, first.times_usual) == pytest.approx((4, 4, 4))
    assert (first.one_way, first.stations, first.reason) == (8, 8, "unknown")
    by_day = errors_by_day(forecasts(bad), bad)
    assert by_day["day"].is_sorted() and len(by_day) == DAYS
    assert by_day["mae"].to_list().count(1) == DAYS - 2


def test_a_holiday_and_the_days_beside_it_are_named(city):
    """Memorial Day is 2018-05-28; its weekend begins behind Friday, the 25th."""
    said = {day: worst(changed(city, day, 1)).reason for day in (24, 25, 26, 27, 28, 29)}
    assert said == {
        24: "unknown",
        25: "the day before the long weekend of a public holiday",
        26: "the long weekend of a public holiday",
        27: "the day before a public holiday",
        28: "a public holiday",
        29: "the day after a public holiday",
    }


def test_a_station_without_a_bike_for_long_is_an_outage(city):
    """The hours, the station's name and the bikes that were expected are said."""
    assert worst(changed(city, 16, 0, stations=0)).reason == (
        "an outage: no bike in up to 24 hours on end at station s0 (Central Station), "
        "where 288 were expected"
    )


def test_many_stations_without_a_bike_are_an_outage(city):
    """Then their number is said."""
    assert worst(changed(city, 16, 0, stations=slice(0, 6))).reason == (
        "an outage: no bike in up to 24 hours on end at 6 stations, where 1,728 were expected"
    )


def test_a_station_with_far_more_than_expected_has_an_event(city):
    """What came stands beside what was expected."""
    found = worst(changed(city, 16, 30, stations=3))
    assert found.reason == "an event at station s3: 1,440 bikes where 288 were expected"
    assert found.one_way < found.stations


def test_a_station_that_made_most_of_the_error_is_named(city):
    """Neither outage nor event: no more is said than that."""
    found = worst(changed(city, 16, 0.01, stations=3))
    assert found.reason == "station s3 alone made 46% of the error"


def with_sky(city, day, rain, warmth):
    """Twenty degrees and dry, but for one day."""
    values = np.zeros((DAYS * 24 + 168, len(WEATHER)), np.float32)
    values[:, WEATHER.index("temperature")] = 20
    values[hours(day), WEATHER.index("temperature")] = warmth
    values[hours(day), WEATHER.index("precipitation")] = rain
    return replace(city, weather=WeatherArchive(((0, values),), hindsight=True))


@pytest.mark.parametrize(
    ("came", "rain", "warmth", "reason"),
    [
        (1, 0.5, 20, "wet: 8 mm of rain by day, usually 0"),
        (1, 0, 12, "cold: 12 °C by day, usually 20"),
        (1, 0.5, 12, "wet: 8 mm of rain by day, usually 0; cold: 12 °C by day, usually 20"),
        (11, 0, 26, "warm: 26 °C by day, usually 20"),
        (1, 0.1, 18, "unknown"),
        (1, 0, 26, "unknown"),
        (11, 0.5, 20, "unknown"),
    ],
)
def test_weather_is_named_where_it_would_explain_the_error(city, came, rain, warmth, reason):
    """Fewer riders than forecast when it is wet or cold, more when it is warm; no other way."""
    assert worst(with_sky(changed(city, 16, came), 16, rain, warmth)).reason == reason


def test_weather_explains_no_day_on_which_stations_went_both_ways(city):
    """Rain falls on all of them."""
    mixed = changed(changed(city, 16, 1, stations=slice(0, 4)), 16, 10, stations=slice(4, 8))
    assert worst(with_sky(mixed, 16, 0.5, 20)).reason == "unknown"


def test_unknown_weather_explains_nothing(city):
    """A day without weather, and days around it without."""
    low = changed(city, 16, 1)
    assert worst(with_sky(low, 16, np.nan, 20)).reason == "unknown"
    nowhere = np.full((DAYS * 24, len(WEATHER)), np.nan, np.float32)
    nowhere[hours(16)] = 5
    assert worst(replace(low, weather=WeatherArchive(((0, nowhere),)))).reason == "unknown"
    assert worst(replace(low, weather=WeatherArchive(()))).reason == "unknown"


def test_hours_that_nobody_knows_are_no_error(city):
    """A day of which one station alone is known is judged by it."""
    gap = changed(changed(city, 16, np.nan), 16, 1, stations=2)
    assert (worst(gap).stations, worst(gap).mae) == (1, pytest.approx(5))
