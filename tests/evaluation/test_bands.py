"""A model's quantiles held against a negative binomial band around the same mean."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from bikecast.errors import InputError
from bikecast.evaluation import negative_binomial_pinball
from bikecast.history import build_history
from bikecast.records import QUANTILE_COLUMNS, QUANTILES, TARGETS, System

CITY = System("city")
FIRST = datetime(2018, 3, 1)
BEGIN = datetime(2018, 4, 1)  # of the predictions, 28 days before what is scored
START = BEGIN + timedelta(days=28)
ALPHA = 0.4
LEVELS = np.array(QUANTILES)


def nbinom(mean, alpha):
    """Exact quantiles."""
    size = 1 / np.asarray(alpha)
    return stats.nbinom.ppf(LEVELS, size, size / (size + np.asarray(mean)[:, None]))


@pytest.fixture(scope="module")
def city():
    """Four stations whose counts have one dispersion until 2018-05-27, and another after."""
    rng = np.random.default_rng(3)
    hours = [FIRST + timedelta(hours=h) for h in range(24 * 120)]
    mean = 3 + 2 * np.sin(np.arange(len(hours)) / 24 * 2 * np.pi) + np.arange(1, 5)[:, None] * 2
    late = np.array(hours) >= START + timedelta(days=28)
    size = 1 / np.where(late, 3 * ALPHA, ALPHA)
    flows = {t: rng.negative_binomial(size, size / (size + mean)) for t in TARGETS}
    ids = [f"s{i}" for i in range(4) for _ in hours]
    frame = pl.DataFrame(
        {"station_id": ids, "hour": hours * 4} | {t: flows[t].ravel() for t in TARGETS}
    )
    return build_history(frame, CITY), frame.with_columns(mean=mean.ravel().astype(np.float32))


def forecasts(frame, alpha, days=56):
    """Of the true means, a day ahead from every midnight, with the quantiles of this dispersion."""
    inside = pl.col("hour").is_between(BEGIN, START + timedelta(days=days), closed="left")
    rows = frame.filter(inside).select(
        pl.col("hour").dt.truncate("1d").alias("origin"), "station_id", "hour", "mean"
    )
    both = pl.concat(rows.with_columns(target=pl.lit(t)) for t in TARGETS)
    levels = nbinom(both["mean"].to_numpy(), alpha).astype(np.float32)
    return both.with_columns(
        pl.Series(name, levels[:, i]) for i, name in enumerate(QUANTILE_COLUMNS)
    )


def test_a_band_like_the_models_own_gains_nothing(city):
    """Where the quantiles are a negative binomial's, the fitted band is as good."""
    history, frame = city
    found = negative_binomial_pinball(forecasts(frame, ALPHA, days=28), history, START, 28)
    assert found["n"] == 4 * 2 * 24 * 28
    assert found["gain_percent"] == pytest.approx(0, abs=0.3)


def test_narrow_quantiles_are_worse_than_the_band(city):
    """Those of a tenth of the dispersion lose against it."""
    history, frame = city
    found = negative_binomial_pinball(forecasts(frame, ALPHA / 10, days=28), history, START, 28)
    assert found["pinball"] > found["pinball_nb"] and found["gain_percent"] < -3


def test_each_fold_has_the_dispersion_of_the_days_before_it(city):
    """The second fold's is that of the first fold's days, and not yet what comes later."""
    history, frame = city
    own = forecasts(frame, ALPHA)
    found = negative_binomial_pinball(own, history, START, 28)
    # Before both folds the counts have the one dispersion, so the fitted band is the model's own.
    assert found["n"] == 4 * 2 * 24 * 56
    assert found["gain_percent"] == pytest.approx(0, abs=0.3)
    # In folds of a week, the later ones know of the other.
    assert negative_binomial_pinball(own, history, START, 7)["gain_percent"] < -0.5


def test_the_days_before_the_window_must_have_been_forecast(city):
    """Without them there is nothing to fit; without days behind them nothing to score."""
    history, frame = city
    rows = forecasts(frame, ALPHA)
    with pytest.raises(InputError, match="28 days before 2018-04-29; begin the backtest 28 days"):
        late = rows.filter(pl.col("hour") >= BEGIN + timedelta(days=3))
        negative_binomial_pinball(late, history, START, 28)
    with pytest.raises(InputError, match="from 2018-04-29 on"):
        negative_binomial_pinball(rows.filter(pl.col("hour") < START), history, START, 28)
