"""How the weather differs from that of the hours that the level is made of."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import small_history, with_weather

from bikecast.features import NAMES, features, pairs, sky_ahead
from bikecast.features.sky import COLUMNS, RELATIVE, weather_columns
from bikecast.history import WeatherArchive
from bikecast.records import WEATHER

PARTLY = with_weather(small_history(days=45))
"""Weather is known, but for some hours and variables."""
FAR = with_weather(small_history(days=45), ahead=400)
"""It is forecast for more than two weeks."""
for _, values in (*PARTLY.weather.vintages, *FAR.weather.vintages):
    values[np.random.default_rng(3).random(values.shape) < 0.1] = np.nan
SKY = slice(NAMES.index(COLUMNS[0]), NAMES.index(COLUMNS[-1]) + 1)
HOURS = 60 * 24
AT = 40 * 24 + 10
LAST_WEEKS = AT - 168 * np.arange(1, 4)


def sky(**variables):
    """Weather that is 0 everywhere but in the named variables: {hour: value}."""
    grid = np.zeros((HOURS, len(WEATHER)), np.float32)
    for name, values in variables.items():
        for hour, value in values.items():
            grid[hour, WEATHER.index(name)] = value
    return grid


def told(grid, level_hours=LAST_WEEKS, origin=AT - 10):
    """The columns of one hour, as numbers."""
    history = replace(small_history(), weather=WeatherArchive(((0, grid),), hindsight=True))
    found = weather_columns(history, np.array([origin]), np.array([AT]), level_hours[None])
    return {name: column.item() for name, column in found.items()}


def test_warmer_is_warmer_than_in_the_hours_of_the_level():
    """18 °C after 10, 12 and 20 are 4 more; a week that is not there does not count."""
    degrees = dict(zip(LAST_WEEKS, (10, 12, 20), strict=True))
    grid = sky(temperature={AT: 18, **degrees})
    assert told(grid)["temperature_change"] == pytest.approx(4)
    assert told(grid, np.array([LAST_WEEKS[1], -1]))["temperature_change"] == pytest.approx(6)
    assert told(grid)["temperature"] == 18


def test_rain_is_told_beside_that_of_the_level():
    """One of three weeks was wet; drizzle below 0.1 mm is not."""
    grid = sky(precipitation={AT: 2, LAST_WEEKS[0]: 1, LAST_WEEKS[1]: 0.05})
    found = told(grid)
    assert found["wet_usual"] == pytest.approx(1 / 3)
    assert found["wet_change"] == pytest.approx(2 / 3)


def test_rain_around_the_hour_is_summed():
    """Before, beside, after, and over the day from six to ten in the evening."""
    day = AT - 10
    rain = {AT - 7: 64, AT - 6: 1, AT - 1: 2, AT: 4, AT + 1: 8, AT + 3: 16, AT + 4: 32}
    found = told(sky(precipitation={**rain, day + 5: 128, day + 22: 256}))
    assert found["rain_before"] == 128 + 1 + 2
    assert found["rain_around"] == 2 + 4 + 8
    assert found["rain_after"] == 8 + 16
    assert found["rain_day"] == 2 + 4 + 8 + 16 + 32


def test_the_day_is_told_by_its_waking_hours():
    """Means from six to ten in the evening; degrees also beside the day before, as is its rain."""
    day = AT - 10
    waking = range(day + 6, day + 22)
    others = {day + 5: 320, day + 22: 320}
    grid = sky(
        temperature={**dict.fromkeys(waking, 20), **others, day - 24 + 6: 32, day - 24 + 5: 320},
        wind_speed={day + 6: 16, day + 21: 32, **others},
        cloud_cover={AT: 80, **others},
        precipitation={day - 24 + 6: 1, day - 24 + 21: 2, day - 24 + 22: 4},
    )
    found = told(grid)
    assert found["temperature_day"] == pytest.approx(20)
    assert found["wind_day"] == pytest.approx(3)
    assert found["cloud_day"] == pytest.approx(5)
    assert found["warmer_than_day_before"] == pytest.approx(18)
    assert found["rain_day_before"] == 3


def test_single_hours_are_told_by_name():
    """The next one, as services sum the rain of the hour before; a day ago, a week ago."""
    found = told(
        sky(
            precipitation={AT + 1: 1, AT - 24: 2, AT - 168: 4},
            temperature={AT: 20, AT - 168: 25},
        )
    )
    hours = (found[name] for name in ("rain_next", "rain_yesterday", "rain_last_week"))
    assert tuple(hours) == (1, 2, 4)
    assert found["warmer_than_last_week"] == pytest.approx(-5)


def test_the_sky_that_is_kept_tells_what_the_table_was_told():
    """Of every coming hour of two weeks, to the last bit; without any weather nothing."""
    for history in (FAR, PARTLY, small_history()):
        origin = history.known
        values = features(history, *pairs(np.array([origin]), 336)).values[:, 0, 0]
        above = sky_ahead(history, origin, 336)
        for step in range(336):
            found = above.columns(step, above.weather(step))
            assert np.array_equal(found, values[step, SKY], equal_nan=True)
    assert np.isnan(found).all()


def test_a_week_ago_is_the_week_that_the_flow_is_known_of():
    """Two weeks ago in the second week ahead."""
    grid = sky(
        precipitation={AT - 168: 4, AT - 336: 8}, temperature={AT: 20, AT - 168: 25, AT - 336: 32}
    )
    for ahead, rain, warmer in ((168, 4, -5), (169, 8, -12), (336, 8, -12)):
        found = told(grid, origin=AT - ahead + 1)
        assert (found["rain_last_week"], found["warmer_than_last_week"]) == (rain, warmer)


@pytest.mark.parametrize("step", [0, 5, 30, 167, 168, 300, 335])
@pytest.mark.parametrize("rain", [0.0, 7.5, np.nan])
def test_other_weather_tells_what_it_would_have_told(step, rain):
    """As if that of the one hour had been forecast so; that of other hours does not change."""
    origin, weather = FAR.known, np.array([31, rain, 4, 50, 60], np.float32)
    above = sky_ahead(FAR, origin, 336)
    before = above.hourly.copy()
    grid = FAR.weather.at(origin, np.arange(origin + 400))
    grid[origin + step] = weather
    other = replace(FAR, weather=WeatherArchive(((0, grid),)))
    told = features(other, *pairs(np.array([origin]), 336)).values[step, 0, 0, SKY]
    assert np.array_equal(above.columns(step, weather), told, equal_nan=True)
    assert np.array_equal(above.hourly, before, equal_nan=True)


def test_what_is_unknown_is_not_a_number():
    """Without weather, without that of the hour, without that of the level."""
    history = small_history()
    found = weather_columns(history, np.array([AT]), np.array([AT]), LAST_WEEKS[None])
    assert set(found) == {*WEATHER, *RELATIVE}
    assert all(np.isnan(column).all() for column in found.values())
    grid = sky()
    grid[AT] = np.nan
    known = {name for name, value in told(grid).items() if not np.isnan(value)}
    days = {f"{name}_day" for name in ("temperature", "wind", "cloud")} | {"warmer_than_day_before"}
    assert known == days | {"wet_usual", "rain_next", "rain_yesterday", "rain_last_week"}
    grid = sky()
    grid[LAST_WEEKS] = np.nan
    unknown = {name for name, value in told(grid).items() if np.isnan(value)}
    of_level = {"temperature_change", "cloud_change", "wet_usual", "wet_change"}
    assert unknown == of_level | {"rain_last_week", "warmer_than_last_week"}
