"""The made-up city looks like one, and is the same every time."""

from datetime import datetime

import polars as pl

from bikecast.simulate import simulate_city

END = datetime(2018, 4, 1)


def test_the_same_seed_makes_the_same_city():
    """Everything follows from the arguments."""
    one, two = (simulate_city(7, END, days=40, stations=5) for _ in range(2))
    assert one.panel.equals(two.panel) and one.weather.equals(two.weather)
    assert one.stations == two.stations
    assert not one.panel.equals(simulate_city(8, END, days=40, stations=5).panel)


def test_it_says_that_it_is_simulated():
    """The system is marked, and every station's name begins with the word."""
    city = simulate_city(7, END, days=30, stations=5)
    assert city.system.simulated
    assert all(s.name.startswith("Simulated: ") and s.capacity for s in city.stations)


def test_commuters_weekends_and_rain_are_there():
    """Work days peak in the morning, and more is ridden in dry hours than in wet ones."""
    city = simulate_city(7, END, days=90, stations=24)
    by_hour = (
        city.panel.filter(pl.col("hour").dt.weekday() <= 5)
        .group_by(pl.col("hour").dt.hour())
        .agg(pl.col("pickups").mean())
        .sort("hour")["pickups"]
    )
    assert by_hour[8] > 2 * by_hour[4]


def test_the_hour_that_spring_skips_has_no_rows():
    """2018-03-11 02:00 did not exist, and every other hour is there."""
    city = simulate_city(7, END, days=30, stations=2)
    assert datetime(2018, 3, 11, 2) not in city.panel["hour"].to_list()
    assert len(city.panel) == 2 * (30 * 24 - 1) and len(city.weather) == 30 * 24 - 1
