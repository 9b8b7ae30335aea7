"""How often the strict rule is wrong, and how often it sees what is there."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from bikecast.evaluation.gate.comparison import daily_losses, gain
from bikecast.evaluation.gate.judging import better

HOURS, STATIONS, WARM_UP = 24, 6, 10
COMMON = 0.88
DAILY, HOURLY = 0.2, 0.4


def remembering(rng, days, rho=0.5):
    """Noise with heavy tails that remembers the day before, of variance 1: [days]."""
    shocks = rng.standard_t(4, days + WARM_UP) / np.sqrt(2)
    out = np.zeros(days + WARM_UP)
    for i in range(1, len(out)):
        out[i] = rho * out[i - 1] + np.sqrt(1 - rho**2) * shocks[i]
    return out[WARM_UP:]


def off(rng, shape):
    """By which logarithm forecasts are off: each day as a whole, and each hour of it."""
    by_day = DAILY * remembering(rng, shape[0])
    return by_day[:, None, None] + HOURLY * rng.standard_normal(shape)


def pair(rng, days, challenger=1.0):
    """Rows of two forecasters that err alike, and by much on the same days.

    Each is off by a factor of its own every day and every hour, of which both share a part; an
    event now and then makes a day many times as hard.

    :param challenger: what the challenger's own errors are multiplied by.
    """
    shape = (days, HOURS, STATIONS)
    peaks = 1 + 6 * np.exp(-((np.arange(HOURS) - 17) ** 2) / 8)
    rate = np.broadcast_to(peaks[None, :, None] * np.geomspace(0.5, 3, STATIONS), shape)
    event = np.where(rng.random(days) < 0.05, 3.0, 1.0)[:, None, None]
    weather = np.exp(0.2 * remembering(rng, days))[:, None, None]
    mean = rate * event * weather
    actual = rng.negative_binomial(4, 4 / (4 + mean))
    shared = off(rng, shape)

    def forecast(scale):
        own = np.sqrt(COMMON) * shared + np.sqrt(1 - COMMON) * off(rng, shape)
        factor = scale * own
        return rate * weather * np.exp(factor - factor.var() / 2)

    start = datetime(2018, 3, 1)
    hours = [start + timedelta(hours=h) for h in range(days * HOURS)]
    return pl.DataFrame(
        {
            "hour": np.repeat(np.array(hours, "datetime64[us]"), STATIONS),
            "actual": actual.ravel().astype(np.float64),
            "challenger": forecast(challenger).ravel(),
            "champion": forecast(1.0).ravel(),
        }
    )


def promoted(rows):
    """What the strict rule says of a pair."""
    return better(gain(*daily_losses(rows, "challenger", "champion")))[0] == "promote"


@pytest.mark.parametrize("days", [7, 28])
def test_equal_pairs_are_seldom_told_apart(days):
    """400 pairs from four seeds: as many wrong promotions as 5 % allow, and no more."""
    wrong = sum(
        promoted(pair(rng, days))
        for rng in map(np.random.default_rng, range(4))
        for _ in range(100)
    )
    assert wrong <= binom.ppf(0.95, 400, 0.05)


SCALE = 0.78


def test_what_is_five_percent_better_is_seen():
    """In four of five windows of four weeks at least: a gate that always says no is no gate."""
    rng = np.random.default_rng(9)
    own, other = daily_losses(pair(rng, 5_000, SCALE), "challenger", "champion")
    assert 1 - own.sum() / other.sum() == pytest.approx(0.05, abs=0.005)
    assert sum(promoted(pair(rng, 28, SCALE)) for _ in range(100)) >= 80
