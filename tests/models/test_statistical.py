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
