"""Features: known at the origin, right in civil time, and right by hand."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from made_up import NEW_YORK, mutated_after, small_history, with_weather

from bikecast.features import (
    LEAST_LEVEL,
    LONGER,
    NAMES,
    features,
    level,
    pairs,
    weekly_hours,
    weekly_mean,
)
from bikecast.features.groups import GROUPS, membership
from bikecast.features.past import blend, kind_hours, past_of
from bikecast.history import History, WeatherArchive
from bikecast.records import WEATHER, Station

HISTORY = with_weather(small_history())


def column(found, name):
    """One feature of all pairs, stations and targets."""
    return found.values[..., NAMES.index(name)]


def counting(days: int, start: datetime = datetime(2018, 1, 1)) -> History:
    """One station whose flow is the number of the day, and of the hour in the second target."""
    hours = np.arange(days * 24)
    flows = np.stack([hours // 24, hours % 24], axis=1)[None].astype(np.float32)
    federal = replace(NEW_YORK, holidays="US")
    history = History(federal, (Station("one"),), start, flows, days * 24)
    flows[:, ~history.calendar(0, days * 24).exists] = np.nan
    return history


@pytest.mark.parametrize("horizon", [1, 24, 168, 336])
@pytest.mark.parametrize("origin", [24 * 24, 40 * 24 + 7, 52 * 24 + 23, 59 * 24 + 12])
def test_no_feature_knows_what_came_after_the_origin(origin, horizon):
    """Flows from the origin on and weather issued later are replaced; nothing moves."""
    asked = pairs(np.array([origin]), horizon)
    before = features(HISTORY, *asked)
    after = features(mutated_after(HISTORY, origin), *asked)
    assert np.array_equal(before.values, after.values, equal_nan=True)
    assert np.array_equal(before.level, after.level)


@pytest.mark.parametrize("horizon", [168, 336])
def test_later_origins_in_the_same_call_tell_earlier_ones_nothing(horizon):
    """Asked together, the pairs of the first origin are blind to what the last one knows."""
    first, last = 40 * 24 + 7, 55 * 24
    asked = pairs(np.array([first, last]), horizon)
    before = features(HISTORY, *asked)
    after = features(mutated_after(HISTORY, first), *asked)
    ours = asked[0] == first
    assert np.array_equal(before.values[ours], after.values[ours], equal_nan=True)
    assert np.array_equal(before.level[ours], after.level[ours])
    assert not np.array_equal(before.level[~ours], after.level[~ours])


@pytest.mark.parametrize("origin", [3 * 24, 40 * 24 + 7, 59 * 24 + 12])
def test_the_first_week_is_the_same_whether_the_second_is_asked_for_or_not(origin):
    """To the last bit, so that a table does not change by what is kept beside it."""
    one, two = (features(HISTORY, *pairs(np.array([origin]), n)) for n in (168, 336))
    assert np.array_equal(one.values, two.values[:168], equal_nan=True)
    assert np.array_equal(one.level, two.level[:168])


def test_the_second_week_by_hand():
    """Its hours are told of the last weeks that are known, and of their own day.

    Wednesday the 28th is 9 days ahead of Monday the 19th (day 49): of its weeks the last known is
    two weeks before (day 44), and its flow was 7 more a week later, so ``last_week`` is of day 44.
    """
    history = counting(70)
    origin = np.array([49 * 24])
    near, far = (features(history, origin, np.array([step * 24 + 8])) for step in (2, 9))
    weeks = np.log(np.mean([44, 37, 30, 23]) + LEAST_LEVEL)
    for found in (near, far):
        assert column(found, "log_week")[0, 0, 0] == pytest.approx(weeks)
        assert column(found, "last_week")[0, 0, 0] == pytest.approx(
            np.log(45 / (found.level[0, 0, 0] + 1)), abs=1e-5
        )
    assert np.array_equal(near.level, far.level)
    assert weekly_mean(history, origin, np.array([9 * 24 + 8]), 1)[0, 0, 0] == 44


def test_no_hour_is_further_ahead_than_models_have_learned():
    """In the second week the hours ahead stay at the last of the first; the calendar goes on."""
    origin = 45 * 24 + 3
    steps = np.array([0, 100, 167, 168, 335])
    found = features(HISTORY, np.full(5, origin), steps)
    assert column(found, "step")[:, 0, 0].tolist() == [0, 100, 167, 167, 167]
    calendar = HISTORY.calendar(0, origin + 336)
    for name in ("hour", "weekday", "workday", "holiday", "yearday"):
        told = column(found, name)[:, 0, 0]
        assert told.tolist() == getattr(calendar, name)[origin + steps].tolist()


def test_the_past_of_other_origins_serves_as_well():
    """Found once for all origins, even for those a month later, it gives the same features."""
    origins = np.array([40 * 24 + 7, 55 * 24])
    past = past_of(HISTORY, HISTORY.calendar(0, origins[1]), origins)
    first = pairs(origins[:1], 168)
    own, shared = features(HISTORY, *first), features(HISTORY, *first, past=past)
    assert np.array_equal(own.values, shared.values, equal_nan=True)
    assert np.array_equal(own.level, shared.level)


@pytest.mark.parametrize("stop", [3 * 24, 60 * 24 - 12])
def test_a_past_hour_was_expected_as_the_midnight_before_it_would_have(stop):
    """The running sums give the means of the same hour in weeks, and on days of its kind."""
    calendar, hours = HISTORY.calendar(0, HISTORY.known), np.arange(stop)
    past = past_of(HISTORY, calendar, np.array([stop]))
    assert np.array_equal(past.values[:-1], np.nan_to_num(past.seen[:-1])), "a fault was made up"
    week = past.mean(weekly_hours(hours, hours))
    kind = past.mean(kind_hours(calendar, hours, hours // 24 - 1))
    np.testing.assert_array_equal(past.expected[:-1], blend(week, kind))


def test_hindsight_is_seen_by_every_origin():
    """Observed weather that stands for a forecast is there for each hour, whoever asks."""
    grid = np.arange(70 * 24 * len(WEATHER), dtype=np.float32).reshape(-1, len(WEATHER))
    history = replace(HISTORY, weather=WeatherArchive(((0, grid),), hindsight=True))
    found = features(history, np.array([30 * 24, 9 * 24]), np.array([5, 30]))
    for i, hour in enumerate((30 * 24 + 5, 10 * 24 + 6)):
        assert [column(found, w)[i, 0, 0] for w in WEATHER] == list(grid[hour])


def test_the_level_by_hand():
    """Monday 2018-02-26, 8:00, from its midnight, by pencil.

    The flow is the day's number, and this is day 56: the four weeks before are days 49, 42, 35
    and 28, with mean 38.5. Friday is day 53, and Presidents' Day, Monday the 19th (day 49), is not
    a working day, so the last ten are 53, 52, 51, 50, 46, 45, 44, 43, 42, 39, with mean 46.5.
    """
    found = level(counting(56), np.array([56 * 24]), np.array([8]))
    assert found[0, 0, 0] == pytest.approx((38.5 + 46.5) / 2 + LEAST_LEVEL)
    assert found[0, 0, 1] == pytest.approx(8 + LEAST_LEVEL)


def test_the_level_uses_the_origins_own_day_where_it_has_ended():
    """From Tuesday noon, Wednesday's 8:00 knows Tuesday's 8:00, and its 13:00 only Monday's."""
    origin = np.full(2, 57 * 24 + 12)
    found = level(counting(60), origin, np.array([20, 25]))
    week = np.mean([51, 44, 37, 30])
    eight = np.mean([57, 56, 53, 52, 51, 50, 46, 45, 44, 43])
    one = np.mean([56, 53, 52, 51, 50, 46, 45, 44, 43, 42])
    wanted = [(week + eight) / 2 + LEAST_LEVEL, (week + one) / 2 + LEAST_LEVEL]
    assert found[:, 0, 0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("hour", "weeks_before"),
    [
        (datetime(2018, 3, 14, 8), [datetime(2018, 3, 7, 8), datetime(2018, 2, 28, 8)]),
        (datetime(2018, 11, 7, 8), [datetime(2018, 10, 31, 8), datetime(2018, 10, 24, 8)]),
    ],
    ids=["spring", "autumn"],
)
def test_lags_are_civil_on_either_side_of_a_clock_change(hour, weeks_before):
    """Wednesday 8:00 after the change looks at 8:00 of the Wednesdays before, summer or winter.

    Clocks changed in New York on 2018-03-11 and 2018-11-04; the second target is the hour of the
    day, so any slip by an hour would show.
    """
    history = counting(330)
    at = history.index(hour)
    assert [
        history.hour(int(h)) for h in weekly_hours(np.array([at]), np.array([at]), 2)[0]
    ] == weeks_before
    found = features(history, np.array([at - 8]), np.array([8]))
    assert found.level[0, 0, 1] == pytest.approx(8 + LEAST_LEVEL)
    assert column(found, "log_kind")[0, 0, 1] == pytest.approx(np.log(8 + LEAST_LEVEL))
    assert column(found, "last_week")[0, 0, 1] == pytest.approx(0, abs=0.01)


def test_the_hour_that_spring_skips_is_left_out_of_means():
    """A week after the change, 2:00 has three known weeks, not four with a zero."""
    history = counting(90)
    at = history.index(datetime(2018, 3, 18, 2))
    assert np.isnan(history.flows[0, at - 168, 0])
    found = weekly_mean(history, np.array([at]), np.array([0]), 4)
    days = [(at - 168 * k) // 24 for k in (2, 3, 4)]
    assert found[0, 0, 0] == pytest.approx(np.mean(days))
    assert np.isnan(weekly_mean(history, np.array([at]), np.array([0]), 1)[0, 0, 0])


def test_recent_ratios_by_hand():
    """A city at double its level for the last three hours shows log((2x + 1) / (x + 1))."""
    flows = np.full((2, 50 * 24, 2), 4, np.float32)
    history = History(NEW_YORK, (Station("a"), Station("b")), datetime(2018, 1, 1), flows, 1200)
    flows[0, 40 * 24 - 3 : 40 * 24, 0] = 8
    found = features(history, np.array([40 * 24]), np.array([0]))
    assert column(found, "station_3h")[0, 0, 0] == pytest.approx(np.log(25 / 13), rel=1e-5)
    assert column(found, "station_3h")[0, 0, 1] == pytest.approx(0, abs=1e-6)
    assert column(found, "other_3h")[0, 0, 1] == pytest.approx(np.log(25 / 13), rel=1e-5)
    assert column(found, "system_3h")[0, 1, 0] == pytest.approx(np.log(37 / 25), rel=1e-5)
    assert column(found, "station_24h")[0, 0, 0] == pytest.approx(np.log(109 / 97), rel=1e-5)
    assert column(found, "log_size")[0, 0, 0] == pytest.approx(np.log(4.05), rel=1e-5)


def test_the_size_of_a_station_is_that_of_its_known_hours():
    """Hours that nobody knows make it no smaller; where a week is unknown, so is the size."""
    flows = np.full((2, 50 * 24, 2), 4, np.float32)
    history = History(NEW_YORK, (Station("a"), Station("b")), datetime(2018, 1, 1), flows, 1200)
    flows[0, 40 * 24 - 100 : 40 * 24] = np.nan
    flows[1, 40 * 24 - 168 : 40 * 24] = np.nan
    size = column(features(history, np.array([40 * 24]), np.array([0])), "log_size")[0]
    assert size[0] == pytest.approx(np.log(4.05), rel=1e-5) and np.isnan(size[1]).all()


def test_yesterday_is_unknown_where_it_has_not_ended():
    """The hour 24 hours before is a feature up to 23 hours ahead, and unknown behind that."""
    found = features(HISTORY, np.full(3, 40 * 24), np.array([0, 23, 24]))
    assert np.isfinite(column(found, "yesterday")[:2, 0]).all()
    assert np.isnan(column(found, "yesterday")[2]).all()


def test_the_calendar_of_a_public_holiday():
    """Presidents' Day is a holiday and no working day; its neighbours know of it."""
    history = counting(60)
    hours = np.array([history.index(datetime(2018, 2, d, 10)) for d in (18, 19, 20, 21)])
    found = features(history, hours, np.zeros(4, int))
    assert list(column(found, "holiday")[:, 0, 0]) == [0, 1, 0, 0]
    assert list(column(found, "workday")[:, 0, 0]) == [0, 0, 1, 1]
    assert list(column(found, "holiday_before")[:, 0, 0]) == [0, 0, 1, 0]
    assert list(column(found, "holiday_after")[:, 0, 0]) == [1, 0, 0, 0]
    assert list(column(found, "workday_before")[:, 0, 0]) == [0, 0, 0, 1]
    assert list(column(found, "workday_after")[:, 0, 0]) == [0, 1, 1, 1]


def test_the_day_of_the_year_is_there_only_on_demand():
    """A model fitted on less than a year asks for none and gets none."""
    asked = np.array([40 * 24]), np.array([3])
    # Day 40 after 1 February is 13 March.
    assert column(features(HISTORY, *asked), "yearday")[0, 0, 0] == 31 + 28 + 13
    assert np.isnan(column(features(HISTORY, *asked, time_of_year=False), "yearday")).all()


def test_capacity_where_it_is_known():
    """A station without a capacity has none; nothing is made up."""
    found = column(features(HISTORY, np.array([960]), np.array([0])), "capacity")[0, :, 0]
    assert np.isnan(found[0]) and list(found[1:]) == [21, 22]


def test_a_station_without_history_is_the_mean_station():
    """Its level is the system's profile of the hour; a busy newcomer is scaled up."""
    flows = np.full((3, 50 * 24, 2), 2, np.float32)
    flows[1] = np.nan
    flows[2] = np.nan
    flows[2, 40 * 24 - 6 : 40 * 24] = 8
    places = tuple(Station(s) for s in "abc")
    history = History(NEW_YORK, places, datetime(2018, 1, 1), flows, 1200)
    found = level(history, np.full(2, 40 * 24), np.array([3, 9]))
    assert found[:, 0] == pytest.approx(2 + LEAST_LEVEL)
    assert found[:, 1] == pytest.approx(2 + LEAST_LEVEL, rel=0.05)
    assert (found[:, 2] > 2.4).all() and (found[:, 2] < 8).all()


def test_nothing_is_known_at_the_first_hour():
    """The very first origin has features too, and a level that is positive."""
    found = features(HISTORY, np.array([0]), np.array([0]))
    assert found.level == pytest.approx(LEAST_LEVEL)
    assert found.values.shape == (1, 3, 2, len(NAMES))


def test_every_feature_is_explained_by_one_word():
    """None is forgotten, none counts twice, and no group is of features that there are not."""
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(NAMES)
    found = membership(["temperature", "hour", "humidity"])
    assert [list(GROUPS)[i] for i in found.argmax(axis=1)] == ["weather", "time of day", "weather"]
    assert (found.sum(axis=1) == 1).all()


def steady(rate=4, days=60):
    """Two stations with the same flow in every hour."""
    flows = np.full((2, days * 24, 2), rate, np.float32)
    places = Station("a"), Station("b")
    return History(NEW_YORK, places, datetime(2018, 1, 1), flows, days * 24)


def test_an_outage_is_no_demand():
    """Empty hours of a busy station are left out of its level from the fifteenth bike missed on."""
    history = steady()
    history.flows[0, 50 * 24 : 51 * 24] = 0
    found = level(history, np.full(2, 53 * 24), np.array([0, 9]))
    # Eight bikes an hour are missed: the first hour of the day still counts, as quiet ones do.
    assert found[1] == pytest.approx(4 + LEAST_LEVEL)
    assert found[0, 0, 0] < 4 and found[0, 1, 0] == pytest.approx(4 + LEAST_LEVEL)


def test_pickups_alone_tell_an_outage_where_nothing_else_is_counted():
    """Of a system that counts no returns too, empty hours of a busy station are not learned."""
    history = steady(rate=8)
    history.flows[0, 50 * 24 : 51 * 24] = 0
    history.flows[..., 1] = np.nan
    found = level(history, np.array([53 * 24]), np.array([9]))
    assert found[0, :, 0] == pytest.approx(8 + LEAST_LEVEL)


def test_one_flow_without_a_bike_is_no_outage_where_both_are_counted():
    """A station whose returns are unknown for a day may have had some."""
    history = steady(rate=8)
    history.flows[0, 50 * 24 : 51 * 24] = 0, np.nan
    found = level(history, np.array([53 * 24]), np.array([9]))
    assert found[0, 0, 0] < 8


def test_quiet_hours_are_no_outage():
    """At a station with a bike in four hours half an empty day is learned."""
    history = steady(rate=0.25)
    history.flows[0, 50 * 24 : 51 * 24 - 12] = 0
    found = level(history, np.array([53 * 24]), np.array([9]))
    assert (found[0, 0] < found[0, 1]).all()


def test_bikes_missed_since_the_last_one():
    """Three empty hours of eight expected bikes each are 24 bikes missed; a bike ends it."""
    history = steady()
    history.flows[0, 50 * 24 - 3 : 50 * 24] = 0
    found = column(features(history, np.array([50 * 24]), np.array([0])), "missed")
    assert found[0, 0] == pytest.approx(np.log(25), rel=1e-4)
    assert (found[0, 1] == 0).all()
    history.flows[0, 50 * 24 - 1] = 1
    assert (column(features(history, np.array([50 * 24]), np.array([0])), "missed") == 0).all()


def test_an_absurd_hour_is_cut():
    """9,999 bikes count as four times what was expected and fifteen more."""
    history = steady()
    history.flows[0, 50 * 24 + 8, 0] = 9_999
    found = level(history, np.array([57 * 24]), np.array([8]))
    cut = 4 * 4 + 15
    wanted = ((cut + 3 * 4) / 4 + (cut + 9 * 4) / 10) / 2
    assert found[0, 0, 0] == pytest.approx(wanted + LEAST_LEVEL, rel=1e-4)
    assert found[0, 1, 0] == pytest.approx(4 + LEAST_LEVEL)


def test_a_rainy_day_is_divided_out_of_usual_flows():
    """A day on which the whole city halves lowers plain means, and hardly the usual ones."""
    history = steady()
    history.flows[:, 53 * 24 : 54 * 24] = 2  # a Friday
    found = features(history, np.array([58 * 24]), np.array([9]))
    usual = column(found, "usual_kind10") + np.log(found.level)
    plain = column(found, "log_kind")
    assert (usual > plain).all() and usual == pytest.approx(np.log(4), abs=0.03)


def test_a_steady_city_has_no_longer_mean_that_differs():
    """Where all days are alike each longer mean is the level."""
    found = features(steady(), np.array([58 * 24]), np.array([9]))
    for name in LONGER:
        assert column(found, name) == pytest.approx(0, abs=1e-3)
    assert column(found, "share") == pytest.approx(0, abs=0.01)


def test_what_the_system_does_now_by_hand():
    """Two stations of four bikes an hour, of which one has eight pickups in the last hour."""
    history = steady()
    history.flows[0, 50 * 24 - 1, 0] = 8
    found = features(history, np.array([50 * 24]), np.array([0]))
    assert column(found, "system_1h")[0, 1] == pytest.approx([np.log(13 / 9), 0], abs=1e-5)
    assert column(found, "system_other_1h")[0, 1] == pytest.approx([0, np.log(13 / 9)], abs=1e-5)
    assert column(found, "system_before")[0, 0] == pytest.approx(0, abs=1e-6)
    assert column(found, "system_out")[0, 1] == pytest.approx(np.log(21 / 17), rel=1e-5)
    assert list(column(found, "net_3h")[0, :, 0]) == [-4, 0]


def test_the_system_now_is_unknown_later_in_the_day():
    """From the seventh hour on no model can tell days apart by what all stations had."""
    found = features(HISTORY, np.full(2, 40 * 24), np.array([5, 6]))
    for name in ("system_1h", "system_other_1h", "system_before", "system_out"):
        assert np.isfinite(column(found, name)[0]).all() and np.isnan(column(found, name)[1]).all()
