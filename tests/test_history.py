"""The civil-time grid: every day has 24 rows, and nothing after a moment is known before it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.errors import InputError
from bikecast.history import (
    build_history,
    build_weather,
    censored_hours,
    check_zone,
    civil_hour_exists,
)
from bikecast.records import WEATHER, Station, System

NEW_YORK = System("ny", timezone="America/New_York", holidays="US-NY")


def panel(*rows):
    """A panel of (station, hour, pickups)."""
    return pl.DataFrame(
        rows, schema={"station_id": str, "hour": pl.Datetime("us"), "pickups": float}, orient="row"
    )


def test_the_hour_that_spring_skips_is_unknown():
    """2018-03-11 02:00 did not exist in New York: its row is there, its flows are not."""
    history = build_history(
        panel(*[("a", datetime(2018, 3, 11, h), 1.0) for h in range(24)]), NEW_YORK
    )
    unknown = np.isnan(history.flows[0, :, 0])
    assert unknown.tolist() == [h == 2 for h in range(24)]
    assert not history.calendar(0, 24).exists[2]


def test_the_hour_that_autumn_repeats_counts_both():
    """2018-11-04 01:00 came twice in New York: two rows of it are added up into one."""
    twice = datetime(2018, 11, 4, 1)
    history = build_history(panel(("a", twice, 3.0), ("a", twice, 4.0)), NEW_YORK)
    assert history.flows[0, 1, 0] == 7
    assert history.calendar(0, 24).exists.all()


def test_168_rows_back_is_the_same_hour_of_the_week_across_a_change():
    """The Sunday after the change looks back at the same clock time of the Sunday before."""
    history = build_history(panel(("a", datetime(2018, 3, 1), 1.0)), NEW_YORK)
    after = history.index(datetime(2018, 3, 14, 9))
    assert history.hour(after - 168) == datetime(2018, 3, 7, 9)


@given(st.integers(-10_000, 100_000))
def test_index_and_hour_are_inverse(index):
    """The grid has no hour that cannot be found again."""
    history = build_history(panel(("a", datetime(2018, 1, 1), 1.0)), NEW_YORK)
    assert history.index(history.hour(index)) == index


@given(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)))
def test_a_civil_hour_exists_where_utc_reaches_it(moment):
    """Every hour that a clock ever showed exists."""
    zone = ZoneInfo("America/New_York")
    shown = moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
    assert civil_hour_exists(shown, zone)


def test_until_hides_everything_from_the_origin_on():
    """What was known at a moment has no flow at or after it."""
    rows = [("a", datetime(2018, 5, 1) + timedelta(hours=h), 1.0) for h in range(48)]
    earlier = build_history(panel(*rows), NEW_YORK).until(30)
    assert earlier.known == 30 and earlier.as_of == datetime(2018, 5, 2, 6)
    assert np.isnan(earlier.flows[:, 30:]).all() and (earlier.flows[0, :30, 0] == 1).all()


def test_stations_keep_their_place_and_gaps_stay_unknown():
    """A station without an entry gets a bare one; an hour without a row is unknown, not zero."""
    frame = panel(("b", datetime(2018, 5, 1, 5), 2.0), ("a.10", datetime(2018, 5, 1, 3), 1.0))
    history = build_history(frame, NEW_YORK, [Station("b", "Second", capacity=9)])
    assert [s.station_id for s in history.stations] == ["a.10", "b"]
    assert history.stations[1].capacity == 9 and history.position == {"a.10": 0, "b": 1}
    assert np.isnan(history.flows[0, 5, 0]) and history.flows[1, 5, 0] == 2
    assert np.isnan(history.flows[..., 1]).all()  # no returns in the panel


def test_holidays_are_no_workdays():
    """The fourth of July is a holiday in New York, the fifth is a work day."""
    history = build_history(panel(("a", datetime(2018, 7, 4), 1.0)), NEW_YORK)
    calendar = history.calendar(0, 48)
    assert calendar.holiday[0] and not calendar.workday[0]
    assert not calendar.holiday[24] and calendar.workday[24]


def test_an_unknown_holiday_calendar_is_refused():
    """A code that no calendar has is bad input."""
    with pytest.raises(InputError, match="XX-YY"):
        build_history(panel(("a", datetime(2018, 7, 4), 1.0)), System("x", holidays="XX-YY"))


def test_an_empty_panel_is_refused():
    """There is no grid of nothing."""
    with pytest.raises(InputError, match="no hour"):
        build_history(panel(), NEW_YORK)


def weather(*rows):
    """A weather frame of (hour, issued at, temperature), in UTC."""
    return pl.DataFrame(
        [(h, i, t, None, None, None, None) for h, i, t in rows],
        schema={
            "hour": pl.Datetime("us", "UTC"),
            "issued_at": pl.Datetime("us", "UTC"),
            **dict.fromkeys(WEATHER, pl.Float64),
        },
        orient="row",
    )


def utc(*parts):
    """A moment in UTC."""
    return datetime(*parts, tzinfo=UTC)


def test_a_forecast_of_the_weather_is_seen_from_its_issue_on():
    """An origin sees the newest vintage issued by then, and none issued later."""
    start = datetime(2018, 5, 1)  # 04:00 UTC
    frame = weather(
        (utc(2018, 5, 1, 20), utc(2018, 5, 1, 4), 10.0),
        (utc(2018, 5, 1, 20), utc(2018, 5, 1, 10), 15.0),
    )
    archive = build_weather(frame, NEW_YORK, start, 48, hindsight=False)
    at = np.array([16])
    assert np.isnan(archive.at(-1, at)[0, 0])
    assert archive.at(0, at)[0, 0] == 10 and archive.at(5, at)[0, 0] == 10
    assert archive.at(6, at)[0, 0] == 15
    assert np.isnan(archive.at(6, np.array([-1, 99]))).all()


def test_observed_weather_needs_hindsight():
    """An observation is no forecast unless the caller asks for hindsight."""
    frame = weather((utc(2018, 5, 1, 20), None, 10.0))
    start = datetime(2018, 5, 1)
    at = np.array([16])
    assert np.isnan(build_weather(frame, NEW_YORK, start, 48, hindsight=False).at(0, at)).all()
    assert build_weather(frame, NEW_YORK, start, 48, hindsight=True).at(0, at)[0, 0] == 10


def test_what_was_foreseen_has_no_observation_of_the_hours_that_were_to_come():
    """Before them, observations stand for a forecast; from then on there are forecasts alone."""
    start, hours = datetime(2018, 5, 1), np.arange(4)
    observed = [(utc(2018, 5, 1, 4 + i), None, 10.0 + i) for i in range(4)]
    forecast = (utc(2018, 5, 1, 6), utc(2018, 5, 1, 5), 20.0)
    both = build_weather(weather(*observed, forecast), NEW_YORK, start, 48, hindsight=True)
    found = both.foreseen(2, 4)
    np.testing.assert_array_equal(found.at(1, hours)[:, 0], [10, 11, 20, np.nan])
    # What has come by a later origin is known there.
    np.testing.assert_array_equal(found.at(3, hours)[:, 0], [10, 11, 20, np.nan])
    np.testing.assert_array_equal(found.at(4, hours)[:, 0], [10, 11, 20, 13])
    np.testing.assert_array_equal(both.at(1, hours)[:, 0], [10, 11, 20, 13])


@pytest.mark.parametrize(
    "forecast",
    [
        (),
        # One of hours before, one of hours after, two that came too late.
        ((utc(2018, 5, 1, 5), utc(2018, 5, 1, 4), 20.0),),
        ((utc(2018, 5, 1, 8), utc(2018, 5, 1, 5), 20.0),),
        ((utc(2018, 5, 1, 7), utc(2018, 5, 1, 8), 20.0),),
        ((utc(2018, 5, 1, 6), utc(2018, 5, 1, 7), 20.0),),
    ],
)
def test_without_a_forecast_of_hours_nothing_of_their_weather_was_foreseen(forecast):
    """However much was observed of them."""
    observed = [(utc(2018, 5, 1, 4 + i), None, 10.0) for i in range(4)]
    frame = weather(*observed, *forecast)
    archive = build_weather(frame, NEW_YORK, datetime(2018, 5, 1), 48, hindsight=True)
    assert archive.foreseen(2, 4) is None


def test_the_repeated_hour_has_the_mean_of_its_two_weathers():
    """2018-11-04 01:00 in New York is 05:00 and 06:00 UTC."""
    frame = weather((utc(2018, 11, 4, 5), None, 10.0), (utc(2018, 11, 4, 6), None, 20.0))
    archive = build_weather(frame, NEW_YORK, datetime(2018, 11, 4), 24, hindsight=True)
    assert archive.at(0, np.array([1]))[0, 0] == 15


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc", "America"])
def test_a_time_zone_that_does_not_exist_is_refused(name):
    """And named, with an example of one."""
    with pytest.raises(InputError, match="no time zone .*America/New_York"):
        check_zone(name)


def test_an_hour_is_censored_from_half_of_its_snapshots_on():
    """Pickups without a bike, returns without a dock; one snapshot says too little of an hour."""
    noon = datetime(2018, 5, 1, 12)
    rows = [(s, noon + timedelta(hours=h), 1.0) for s in "ab" for h in range(4)]
    history = build_history(panel(*rows), NEW_YORK)
    status = pl.DataFrame(
        [
            ("a", noon, 4, 2, 0),
            ("a", noon + timedelta(hours=1), 4, 1, 4),
            ("a", noon + timedelta(hours=2), 1, 1, 0),
            ("a", noon - timedelta(days=1), 4, 4, 4),
            ("a", noon + timedelta(hours=4), 4, 4, 4),
            ("nowhere", noon, 4, 4, 4),
        ],
        schema=["station_id", "hour", "snapshots", "empty", "full"],
        orient="row",
    )
    found = censored_hours(status, history)
    assert np.argwhere(found).tolist() == [[0, 12, 0], [0, 13, 1]]
    watched = replace(history, censored=found)
    unknown = np.isnan(watched.uncensored.flows[..., 0])
    assert unknown.sum() == np.isnan(history.flows[..., 0]).sum() + 1 and unknown[0, 12]
    assert watched.flows is history.flows and history.uncensored is history
