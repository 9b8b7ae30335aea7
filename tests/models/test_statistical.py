"""The count regression's own promises; what all models promise is in test_contract."""

import numpy as np
import pytest

from bikecast.features import NAMES
from bikecast.models.rows import Rows
from bikecast.models.statistical import LEAST_DAYS, CountRegression

LEVEL = 4.0


def rows_with_holidays(days, seed=1):
    """Sixty days of an hour at 40 stations; on the first few the day before was a holiday."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(60), 40)
    values = rng.normal(0, 0.1, (len(day), len(NAMES))).astype(np.float32)
    for name in ("hour", "workday", "step", "returns", "holiday", "holiday_after"):
        values[:, NAMES.index(name)] = 0
    values[:, NAMES.index("holiday_before")] = day < days
    actual = rng.poisson(np.where(day < days, LEVEL / 2, LEVEL)).astype(np.float32)
    level = np.full(len(day), LEVEL, np.float32)
    return Rows(values, level, actual, np.zeros_like(day), day * 24)


@pytest.mark.parametrize("days, factor", [(LEAST_DAYS - 1, 1.0), (LEAST_DAYS, 0.5)])
def test_a_few_days_are_no_rule(days, factor):
    """What was seen on seven days moves no forecast; what was seen on eight does."""
    rows = rows_with_holidays(days)
    model = CountRegression()
    model.learn(rows, 60 * 24)
    ordinary = np.zeros((1, len(NAMES)), np.float32)
    after = ordinary.copy()
    after[0, NAMES.index("holiday_before")] = 1
    level = np.full(1, LEVEL, np.float32)
    found = model.means(after, level) / model.means(ordinary, level)
    assert found == pytest.approx(factor, rel=0.1)


def rows_with_rain(unknown, seed=1):
    """Sixty days at 40 stations, every third wet: half as many rides; some variables unknown."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(60), 40)
    values = np.zeros((len(day), len(NAMES)), np.float32)
    values[:, NAMES.index("temperature")] = rng.normal(15, 5, len(day))
    wet = day % 3 == 0
    values[:, NAMES.index("precipitation")] = 2 * wet
    values[:, [NAMES.index(name) for name in unknown]] = np.nan
    actual = rng.poisson(np.where(wet, LEVEL / 2, LEVEL)).astype(np.float32)
    return Rows(values, np.full(len(day), LEVEL, np.float32), actual, np.zeros_like(day), day * 24)


@pytest.mark.parametrize("unknown", [(), ("humidity",), ("humidity", "cloud_cover", "wind_day")])
def test_weather_speaks_where_a_variable_of_it_is_unknown(unknown):
    """Many services publish no humidity, which must not silence the rain."""
    rows = rows_with_rain(unknown)
    model = CountRegression()
    model.learn(rows, 60 * 24)
    dry, wet = rows.values[[40]], rows.values[[0]]
    wet[0, NAMES.index("temperature")] = dry[0, NAMES.index("temperature")]
    level = np.full(1, LEVEL, np.float32)
    assert model.means(wet, level) / model.means(dry, level) == pytest.approx(0.5, rel=0.1)


def test_unknown_weather_counts_as_its_mean():
    """Not as zero degrees: that would be a hard winter."""
    rows = rows_with_rain(())
    model = CountRegression()
    model.learn(rows, 60 * 24)
    unknown = rows.values[[40]]
    for name in ("temperature", "precipitation"):
        unknown[0, NAMES.index(name)] = np.nan
    level = np.full(1, LEVEL, np.float32)
    dry, wet = (model.means(rows.values[[i]], level) for i in (40, 0))
    assert wet < model.means(unknown, level) < dry
    assert np.isfinite(model.explain(unknown, level)).all()
