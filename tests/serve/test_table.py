"""The forecast table in memory."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from fakes import PLACES, forecast_rows, published

from bikecast.serve.problems import Problem
from bikecast.serve.table import build_table


def test_each_cell_of_the_frame_is_found_where_it_belongs() -> None:
    """Whatever the order of the rows."""
    made = published()
    table = build_table(replace(made, frame=made.frame.sample(fraction=1.0, shuffle=True, seed=1)))
    pickups, returns = table.flows(table.station("B"), table.step(datetime(2018, 7, 16, 5)))
    assert pickups == {"mean": 7.0, "lower": 3.5, "upper": 14.0}
    assert returns == {"mean": 7.5, "lower": 3.75, "upper": 15.0}


def test_a_former_id_leads_to_the_station_that_has_it_now() -> None:
    """And an alias of a station without a forecast leads nowhere."""
    table = build_table(published())
    assert table.station("old-A") == table.station("A.10")
    for unknown in ("old-gone", "never-used", "A.1", ""):
        with pytest.raises(Problem, match="unknown-station"):
            table.station(unknown)


def test_an_id_that_was_given_to_another_station_means_the_one_that_has_it_now() -> None:
    """A recycled id is no alias any more."""
    table = build_table(replace(published(), aliases={"B": "A.10"}))
    assert table.stations[table.station("B")].station_id == "B"


def test_stations_without_an_entry_are_there_with_their_id_alone() -> None:
    """A forecast is not withheld because nobody knows the place."""
    table = build_table(replace(published(), stations=PLACES[:1]))
    assert [(s.station_id, s.capacity) for s in table.stations] == [("A.10", 20), ("B", None)]


def test_hours_outside_are_refused_naming_the_range() -> None:
    """The hour before the first and the hour after the last."""
    table = build_table(published(hours=24))
    for hour in (datetime(2018, 7, 15, 23), datetime(2018, 7, 17, 0)):
        with pytest.raises(Problem, match="outside-forecast") as caught:
            table.step(hour)
        assert "from 2018-07-16T00:00:00-04:00 to 2018-07-16T23:00:00-04:00" in caught.value.detail


def test_the_hour_that_spring_skips_has_no_forecast_and_the_steps_go_on() -> None:
    """On 11 March 2018 there was no 02:00; 03:00 keeps the fourth place on the civil grid."""
    made = published(datetime(2018, 3, 11), hours=24)
    table = build_table(
        replace(made, frame=made.frame.filter(pl.col("hour") != datetime(2018, 3, 11, 2)))
    )
    three = table.step(datetime(2018, 3, 11, 3))
    assert (three, table.horizon(three)) == (3, 4)
    assert table.timestamps[1] == "2018-03-11T01:00:00-05:00"
    assert table.timestamps[3] == "2018-03-11T03:00:00-04:00"
    with pytest.raises(Problem, match="no-forecast"):
        table.flows(0, 2)


def test_in_autumn_the_repeated_hour_is_one_step() -> None:
    """On 4 November 2018 01:00 began at -04:00 and its row ends two hours later."""
    table = build_table(published(datetime(2018, 11, 4), hours=24))
    assert table.timestamps[:3] == (
        "2018-11-04T00:00:00-04:00",
        "2018-11-04T01:00:00-04:00",
        "2018-11-04T02:00:00-05:00",
    )
    assert [table.horizon(step) for step in range(3)] == [1, 2, 3]


def test_a_target_that_the_data_do_not_have_is_none() -> None:
    """A panel without returns is forecast without them."""
    made = published()
    table = build_table(replace(made, frame=made.frame.filter(pl.col("target") == "pickups")))
    pickups, returns = table.flows(0, 0)
    assert pickups is not None and returns is None
    assert table.empty_and_full(0, 0, bikes=3) is None


def test_chances_of_empty_and_full_follow_the_flows() -> None:
    """With as many pickups as returns both ends are possible; with none the stock stays."""
    table = build_table(published())
    chances = table.empty_and_full(0, 3, bikes=10)
    assert chances is not None and 0 < chances[0] < 1 and 0 < chances[1] < 1
    still = replace(table, values=np.zeros_like(table.values))
    assert still.empty_and_full(0, 3, bikes=10) == (0.0, 0.0)
    assert still.empty_and_full(0, 3, bikes=0) == (1.0, 0.0)
    assert still.empty_and_full(0, 3, bikes=20) == (0.0, 1.0)


def test_a_forecast_without_a_row_is_no_table() -> None:
    """The caller keeps the table it has."""
    with pytest.raises(ValueError, match="issue 1 has no row"):
        build_table(replace(published(), frame=forecast_rows(datetime(2018, 7, 16), hours=0)))


def test_hours_ahead_count_from_the_end_of_the_data() -> None:
    """Also where the first hour of the table comes later."""
    made = published()
    earlier = replace(made.issue, as_of=made.issue.as_of - timedelta(hours=2))
    assert build_table(replace(made, issue=earlier)).horizon(0) == 3
