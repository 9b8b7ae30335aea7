"""Timestamps of requests, around both changes of the clocks of New York in 2018.

On 11 March 2018 local time went from 01:59:59-05:00 to 03:00:00-04:00, on 4 November from
01:59:59-04:00 back to 01:00:00-05:00.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.serve.problems import Problem
from bikecast.serve.times import civil_hour, moment

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    "text, hour",
    [
        ("2018-03-11T01:59:59-05:00", datetime(2018, 3, 11, 1)),
        ("2018-03-11T07:00:00Z", datetime(2018, 3, 11, 3)),
        ("2018-03-11T02:30:00-05:00", datetime(2018, 3, 11, 3)),
        ("2018-03-11T03:00:00", datetime(2018, 3, 11, 3)),
        ("2018-11-04T05:30:00Z", datetime(2018, 11, 4, 1)),
        ("2018-11-04T06:30:00Z", datetime(2018, 11, 4, 1)),
        ("2018-11-04T01:30:00-04:00", datetime(2018, 11, 4, 1)),
        ("2018-11-04T01:30:00-05:00", datetime(2018, 11, 4, 1)),
        ("2018-11-04T07:00:00Z", datetime(2018, 11, 4, 2)),
        ("2018-11-04T02:00:00", datetime(2018, 11, 4, 2)),
        ("2018-11-04t00:59:59.123456789", datetime(2018, 11, 4, 0)),
        ("2018-07-16 08:15", datetime(2018, 7, 16, 8)),
        ("2018-07-16T18:45:00+05:45", datetime(2018, 7, 16, 9)),
    ],
)
def test_a_moment_belongs_to_the_civil_hour_that_contains_it(text: str, hour: datetime) -> None:
    """Known by hand on both DST days; the repeated hour is one, whatever its offset."""
    assert civil_hour(text, NEW_YORK) == hour


def test_a_local_time_that_occurs_twice_is_refused_naming_both_moments() -> None:
    """In the hour that autumn repeats only an offset says which moment is meant."""
    with pytest.raises(Problem) as caught:
        civil_hour("2018-11-04T01:30:00", NEW_YORK)
    assert caught.value.kind.slug == "ambiguous-timestamp"
    assert "2018-11-04T01:30:00-04:00 or 2018-11-04T01:30:00-05:00" in caught.value.detail


@pytest.mark.parametrize("text", ["2018-03-11T02:00:00", "2018-03-11T02:59:59"])
def test_a_local_time_that_spring_skips_is_refused(text: str) -> None:
    """The clocks never show it."""
    with pytest.raises(Problem, match="invalid-timestamp") as caught:
        civil_hour(text, NEW_YORK)
    assert "skipped by the clocks of America/New_York" in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2018-07-16",
        "2018-W29-1T08:00",
        "20180716T080000",
        "2018-07-16T24:00:00",
        "2018-02-30T08:00:00Z",
        "0000-01-01T00:00:00Z",
        "2018-07-16T08:00:60Z",
        "2018-07-16T08:00:00+25:00",
        "2018-07-16T08:00:00Z ",
        "٢٠١٨-07-16T08:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_rfc_3339_moment_is_refused(text: str) -> None:
    """Neither other ISO 8601 forms nor days and hours that do not exist."""
    with pytest.raises(Problem, match="invalid-timestamp"):
        civil_hour(text, NEW_YORK)


@given(st.text(max_size=40) | st.datetimes().map(lambda moment: moment.isoformat()))
def test_any_text_is_a_whole_hour_or_a_problem(text: str) -> None:
    """Nothing else comes out, in a zone with changes of the clock."""
    try:
        hour = civil_hour(text, NEW_YORK)
    except Problem as problem:
        assert problem.kind.status == 400
    else:
        assert (hour.minute, hour.second, hour.microsecond, hour.tzinfo) == (0, 0, 0, None)


@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)),
    st.sampled_from(
        ["America/New_York", "Asia/Kolkata", "Europe/London", "UTC", "Pacific/Auckland"]
    ),
)
def test_a_moment_with_an_offset_is_never_refused(moment: datetime, zone: str) -> None:
    """Every moment of time has a civil hour, and the zone's clocks show it then."""
    there = ZoneInfo(zone)
    shown = moment.replace(tzinfo=UTC).astimezone(there)
    hour = civil_hour(moment.isoformat() + "Z", there)
    assert hour == shown.replace(minute=0, second=0, microsecond=0, tzinfo=None)


def test_a_moment_keeps_its_minutes_and_has_a_zone():
    """Local where no offset is given; the hours of a change are refused as for a forecast."""
    zone = ZoneInfo("America/New_York")
    local = moment("2018-07-16T08:15:30", zone)
    assert local.isoformat() == "2018-07-16T08:15:30-04:00"
    assert moment("2018-07-16T12:15:30Z", zone) == local
    with pytest.raises(Problem, match="occurs twice"):
        moment("2018-11-04T01:30", zone)
    with pytest.raises(Problem, match="is not RFC 3339"):
        moment("yesterday", zone)
