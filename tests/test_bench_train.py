"""The bench of training repeats a panel faithfully, and fails where a bar is missed."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import small_history

from bench.train import DAYS, Cost, growth, misses, tiled

HISTORY = small_history(days=600)


@pytest.fixture
def sizes():
    """Two sizes that cost the same per station-hour, within all bars."""
    return [
        [Cost(what, n, seconds=n / 100, memory=n / 1_000) for what in ("features", "fit", "ahead")]
        for n in (300, 1_000)
    ]


def test_stations_are_repeated_and_the_last_months_are_those_of_a_year_before():
    """Whole weeks come first, so that weekdays stay; every station has a name of its own."""
    found = tiled(HISTORY, 7)
    assert found.flows.shape[:2] == (7, DAYS * 24) and found.known == DAYS * 24
    assert len({s.station_id for s in found.stations}) == 7
    weeks = HISTORY.known // 168 * 168
    np.testing.assert_array_equal(found.flows[3:5, :weeks], HISTORY.flows[:2, :weeks])
    later = found.flows[:3, weeks:]
    hours = slice(weeks - 364 * 24, weeks - 364 * 24 + later.shape[1])
    np.testing.assert_array_equal(later, HISTORY.flows[:, hours])


def test_what_grows_with_the_station_hours_alone_holds(sizes):
    """The same seconds and memory per station-hour are no growth."""
    assert growth(sizes[1][0], sizes[0][0]) == pytest.approx(1)
    assert misses(sizes) == []


@pytest.mark.parametrize("name", ["seconds", "memory"])
def test_growth_is_that_of_time_or_memory(sizes, name):
    """A fifth more per station-hour is missed, whichever of the two it is."""
    more = replace(sizes[1][0], **{name: 1.2 * getattr(sizes[1][0], name)})
    (missed,) = misses([sizes[0], [more, *sizes[1][1:]]])
    assert missed == "features of 1,000 stations grew by 1.20"


@pytest.mark.parametrize(
    ("place", "name", "value", "word"),
    [(1, "seconds", 1_801, "long"), (1, "memory", 16.5, "memory"), (2, "seconds", 21, "forecast")],
)
def test_the_largest_size_has_bars_of_its_own(sizes, place, name, value, word):
    """Training time, its memory, and the time of a forecast."""
    (size,) = sizes[1:]
    size[place] = replace(size[place], **{name: value})
    (missed,) = misses([size])
    assert word in missed
