"""Calibration tells right quantiles from wrong ones, and says where they are wrong."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bikecast.evaluation.calibration import EDGES, calibration, pit_shares
from bikecast.records import QUANTILE_COLUMNS, QUANTILES

LEVELS = np.array(QUANTILES)
WIDTHS = np.diff(EDGES)


def exact(mean, alpha):
    """Quantiles of a negative binomial, or of its limit without dispersion, the Poisson."""
    if not alpha:
        return stats.poisson.ppf(LEVELS, mean[:, None])
    size = 1 / alpha
    return stats.nbinom.ppf(LEVELS, size, (size / (size + mean))[:, None])


def drawn(mean, alpha, seed):
    """Counts of a negative binomial."""
    size = 1 / alpha
    return np.random.default_rng(seed).negative_binomial(size, size / (size + mean)).astype(float)


def scored(mean, actual, levels):
    """Rows as the scores have them: every hour of many days, forecast from each midnight."""
    hour = np.arange(len(mean)) % 24
    first = datetime(2018, 5, 1)
    return pl.DataFrame(
        {
            "mean": mean,
            "actual": actual,
            "hour": [first + timedelta(hours=h) for h in range(len(mean))],
            "horizon": hour + 1,
            **{name: levels[:, i] for i, name in enumerate(QUANTILE_COLUMNS)},
        }
    )


def made_up(alpha_of_quantiles, n=24_000, lowest=0.05):
    """Counts with a dispersion of 0.3, with quantiles of another one."""
    mean = np.random.default_rng(1).gamma(1.2, 6, n) + lowest
    return scored(mean, drawn(mean, 0.3, 2), exact(mean, alpha_of_quantiles))


def test_exact_quantiles_are_calibrated():
    """In every group at once, though hardly any observed share equals its level."""
    found = calibration(made_up(0.3))
    assert found["calibrated"] and found["largest_miss"] == 0 and found["worst"] == []
    assert found["cells"][0]["part"] == "all"
    assert any(cell["up_to"] - cell["below"] > 0.05 for cell in found["cells"])


def test_too_narrow_quantiles_are_not():
    """Poisson bands around overdispersed counts miss, most where many bikes are forecast."""
    found = calibration(made_up(0))
    assert not found["calibrated"] and found["largest_miss"] > 0.1
    worst = found["worst"][0]
    assert worst["miss"] == found["largest_miss"]
    assert (worst["group"], worst["part"]) == ("forecast", "high")


def test_too_wide_quantiles_are_not():
    """A band that nothing ever leaves is no good either."""
    assert not calibration(made_up(2.0))["calibrated"]


def test_a_group_that_is_wrong_is_found_though_the_whole_is_right():
    """Quantiles of every sixth hour shifted up and down: only the blocks of the day tell."""
    rows = made_up(0.3)
    night, morning = pl.col("hour").dt.hour() < 6, pl.col("hour").dt.hour().is_between(6, 11)
    factor = pl.when(night).then(0.8).when(morning).then(1.25).otherwise(1)
    found = calibration(rows.with_columns(pl.col(c) * factor for c in QUANTILE_COLUMNS))
    assert {(c["group"], c["part"]) for c in found["worst"]} <= {
        ("hour of the day", "0–5"),
        ("hour of the day", "6–11"),
        ("hours ahead", "1"),
    }
    assert all(c["miss"] == 0 for c in found["cells"] if c["group"] == "overall")


def test_the_cells_by_hand():
    """Two of four counts lie below the median and three at most at it: right within 0.5 … 0.75."""
    levels = np.tile([0.0, 0, 1, 4, 9, 9, 9], (4, 1))
    rows = scored(np.array([1.0, 2, 3, 4]), np.array([2.0, 3, 4, 9]), levels)
    cells = {c["level"]: c for c in calibration(rows)["cells"] if c["group"] == "overall"}
    median = cells[0.5]
    assert (median["below"], median["up_to"], median["miss"], median["n"]) == (0.5, 0.75, 0, 4)
    lowest = cells[0.05]
    assert (lowest["below"], lowest["up_to"]) == (0, 0)
    assert lowest["miss"] == pytest.approx(0.05 - 0.015)


def test_only_distances_that_were_forecast_have_cells():
    """1 and 24 hours ahead in a day's forecast, no 72 and no 168."""
    cells = calibration(made_up(0.3, n=240))["cells"]
    assert {c["part"] for c in cells if c["group"] == "hours ahead"} == {"1", "24"}
    sizes = {(c["group"], c["part"]): c["n"] for c in cells}
    assert [n for (group, _), n in sizes.items() if group == "forecast"] == [80] * 3
    assert [n for (group, _), n in sizes.items() if group == "hour of the day"] == [60] * 4


def test_forecasts_that_are_all_alike_have_one_tercile():
    """A part without a row is left out."""
    rows = scored(np.full(48, 2.0), np.full(48, 2.0), np.tile(np.arange(7.0), (48, 1)))
    cells = calibration(rows)["cells"]
    assert {c["n"] for c in cells if c["group"] == "forecast"} == {48}


@settings(deadline=None, max_examples=10)
@given(st.floats(4, 60), st.floats(0.05, 1), st.integers(0, 2**32 - 1))
def test_the_pit_of_exact_quantiles_is_flat(mean, alpha, seed):
    """As far as quantiles alone can tell; the tolerance grows with the share of one count."""
    means = np.random.default_rng(seed).gamma(2, mean / 2, 10_000) + 0.5
    levels = exact(means, alpha)
    density = pit_shares(drawn(means, alpha, seed), levels) / WIDTHS
    assert density == pytest.approx(np.ones(8), abs=0.3)


def test_the_pit_of_narrow_quantiles_is_a_bowl():
    """Too much below the lowest level and above the highest, too little between."""
    rows = made_up(0, lowest=5)
    levels = rows.select(QUANTILE_COLUMNS).to_numpy()
    density = pit_shares(rows["actual"].to_numpy(), levels) / WIDTHS
    assert density[0] > 2 and density[-1] > 2 and density[3:5].max() < 0.9


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.floats(0, 9), min_size=7, max_size=7),
)
def test_the_pit_shares_add_up(actual, levels):
    """Every count is in the histogram once, tied or not, whatever the quantiles."""
    ordered = np.tile(sorted(levels), (len(actual), 1))
    shares = pit_shares(np.array(actual, float), ordered)
    assert len(shares) == 8 and min(shares) >= 0 and sum(shares) == pytest.approx(1)


def test_the_pit_by_hand():
    """Between two levels it is one bin; tied, from the middle of one bin to that of another."""
    levels = np.array([[1.0, 2, 4, 6, 6, 9, 12]])
    assert pit_shares(np.array([5.0]), levels) == [0, 0, 0, 1, 0, 0, 0, 0]
    assert pit_shares(np.array([20.0]), levels)[-1] == 1
    # 0.375 … 0.825, of which 0.125, 0.25 and 0.075 lie in the three bins.
    tied = pit_shares(np.array([6.0]), levels)
    assert tied == pytest.approx([0, 0, 0, 0.125 / 0.45, 0.25 / 0.45, 0.075 / 0.45, 0, 0])
