"""Backtests see only what was known, and scores are what a hand would compute."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from bikecast.errors import InputError
from bikecast.evaluation import backtest, score_models, score_overall
from bikecast.history import WeatherArchive, build_history
from bikecast.models import MODELS
from bikecast.models.base import Grid, Prediction
from bikecast.records import QUANTILE_COLUMNS, System

CITY = System("city", timezone="America/New_York")
START = datetime(2018, 3, 1)


class Witness:
    """Forecasts a constant, and remembers what it was shown."""

    name = "witness"
    shown: list[tuple[int, list[int]]]

    def __init__(self):
        self.shown = []

    def fit(self, history, grid):
        """Remember how much was known."""
        self.known = history.known

    def predict(self, history, origins, horizon):
        """Two bikes in every hour."""
        self.shown.append((self.known, origins.tolist()))
        mean = np.full((len(origins), horizon, len(history.stations), 2), 2, np.float32)
        return Prediction(mean, np.repeat(mean[..., None], len(QUANTILE_COLUMNS), -1))


@pytest.fixture
def history():
    """Two stations and thirty days over the change of March 2018, with one unknown hour."""
    hours = [START + timedelta(hours=h) for h in range(24 * 30)]
    frame = pl.DataFrame(
        {
            "station_id": ["a"] * len(hours) + ["b"] * len(hours),
            "hour": hours * 2,
            "pickups": [1] * len(hours) + [4] * len(hours),
            "returns": [2] * 2 * len(hours),
        }
    ).filter(~((pl.col("hour") == datetime(2018, 3, 20, 5)) & (pl.col("station_id") == "a")))
    return build_history(frame, CITY)


def run(history, grid, days=4, refit_days=2, start=datetime(2018, 3, 20)):
    """A backtest with a witness."""
    witness = Witness()

    def make():
        return witness

    frame = backtest(history, make, start=start, days=days, grid=grid, refit_days=refit_days)
    return frame, witness


def test_each_hour_of_the_window_has_a_row_for_every_origin_that_reaches_it(history):
    """Two hours ahead every hour: each hour is forecast twice, 1 and 2 hours ahead."""
    frame, _ = run(history, Grid(2, 1))
    counts = frame.group_by("station_id", "hour", "target").len()
    assert len(counts) == 2 * 2 * 4 * 24 and (counts["len"] == 2).all()
    steps = (frame["hour"] - frame["origin"]).dt.total_hours()
    assert set(steps.to_list()) == {0, 1}
    assert frame["hour"].min() == datetime(2018, 3, 20)
    assert frame["origin"].min() == datetime(2018, 3, 19, 23)


def test_a_fold_is_fitted_before_its_first_origin(history):
    """No model has seen an hour at or after an origin that it forecasts from."""
    _, witness = run(history, Grid(48, 24))
    assert len({known for known, _ in witness.shown}) == 2
    for known, origins in witness.shown:
        assert known <= min(origins)


def test_the_hour_that_spring_skips_is_not_forecast(history):
    """2018-03-11 has 23 hours."""
    frame, _ = run(history, Grid(24, 24), days=1, start=datetime(2018, 3, 11))
    assert len(frame) == 2 * 2 * 23
    assert datetime(2018, 3, 11, 2) not in frame["hour"].to_list()


def test_observed_weather_marks_every_row(history):
    """What had the help of hindsight says so."""
    seen = replace(history, weather=WeatherArchive((), hindsight=True))
    assert run(seen, Grid(24, 24))[0]["hindsight"].all()
    assert "hindsight" not in run(history, Grid(24, 24))[0].columns


@pytest.mark.parametrize(
    ("grid", "days", "start", "says"),
    [
        (Grid(0, 24), 4, datetime(2018, 3, 20), "horizon is 0"),
        (Grid(169, 24), 4, datetime(2018, 3, 20), "horizon is 169"),
        (Grid(24, 5), 4, datetime(2018, 3, 20), "every 5 hours"),
        (Grid(24, 24), 0, datetime(2018, 3, 20), "start at 1"),
        (Grid(24, 24), 40, datetime(2018, 3, 20), "not inside the history"),
        (Grid(24, 24), 4, datetime(2017, 3, 20), "not inside the history"),
    ],
)
def test_a_window_or_grid_that_cannot_be_is_refused(history, grid, days, start, says):
    """The error says what is wrong and what to choose."""
    with pytest.raises(InputError, match=says):
        run(history, grid, days=days, start=start)


def test_scores_by_hand(history):
    """Two bikes forecast, one, four and two came: errors are 1, −2 and 0."""
    frame, _ = run(history, Grid(24, 24))
    found = score_overall(frame, history)
    n = 2 * 2 * 96 - 2  # the unknown hour of both targets is not scored
    assert found["n"] == n
    assert found["mae"] == pytest.approx((95 * 1 + 96 * 2) / n)
    assert found["rmse"] == pytest.approx(((95 * 1 + 96 * 4) / n) ** 0.5)
    assert found["bias"] == pytest.approx((95 - 192) / n)
    assert found["wape"] == pytest.approx((95 + 192) / (95 + 96 * 4 + 191 * 2))
    assert found["coverage_80"] == pytest.approx(191 / n)
    assert found["pinball"] == pytest.approx((95 + 192) / n / 2, rel=0.01)
    assert found["net_flow_mae"] == pytest.approx((3 * 24 + 23 + 4 * 48) / 8, rel=0.01)


def test_a_days_net_flow_is_of_one_forecast_of_the_day(history):
    """It takes what midnight said; hours of many origins are no forecast of a day."""
    daily, _ = run(history, Grid(24, 24))
    assert "net_flow_mae" not in score_overall(run(history, Grid(2, 1))[0], history)
    later = daily.with_columns(pl.col("origin") + timedelta(hours=6), mean=9 * pl.col("mean"))
    later = later.filter(pl.col("hour") >= pl.col("origin"))
    both = score_overall(pl.concat([daily, later]), history)
    assert both["net_flow_mae"] == score_overall(daily, history)["net_flow_mae"]


def test_without_a_week_before_the_window_there_is_no_scale(history):
    """MASE is left out, not made up."""
    frame, _ = run(history, Grid(24, 24), start=datetime(2018, 3, 8))
    assert "mase" not in score_overall(frame, history)


def test_skill_is_held_against_both_plain_models_in_every_split(history):
    """1 − MAE / MAE of the reference on the same rows; of the reference itself it is 0."""
    flows = history.flows.copy()
    flows[0] += np.random.default_rng(8).integers(0, 4, flows[0].shape)
    noisy = replace(history, flows=flows)
    grid, start = Grid(24, 24), datetime(2018, 3, 20)
    frames = [
        backtest(noisy, MODELS[m], start=start, days=4, grid=grid, refit_days=4).select(
            pl.lit(m).alias("model"), pl.all()
        )
        for m in ("naive", "mean4w")
    ]
    found = score_models(pl.concat(frames), noisy)
    naive, mean = found["naive"], found["mean4w"]
    assert naive["overall"]["skill"] == 0 == mean["overall"]["skill_mean4w"]
    pairs = [(mean["overall"], naive["overall"])]
    pairs += zip(mean["by_horizon"], naive["by_horizon"], strict=True)
    for ours, theirs in pairs:
        assert ours["skill"] == pytest.approx(1 - ours["mae"] / theirs["mae"])
        assert theirs["skill_mean4w"] == pytest.approx(1 - theirs["mae"] / ours["mae"])
    # The second station is forecast without any error, so nothing can be better.
    assert ["skill" in s for s in mean["by_station_id"]] == [True, False]


def test_models_are_scored_side_by_side(history):
    """Skill is held against naive on the same rows; each split has its own scores."""
    frames = []
    for name in ("naive", "mean4w"):
        frame = backtest(
            history,
            MODELS[name],
            start=datetime(2018, 3, 20),
            days=4,
            grid=Grid(24, 24),
            refit_days=4,
        )
        frames.append(frame.select(pl.lit(name).alias("model"), pl.all()))
    found = score_models(pl.concat(frames), history)
    assert found["naive"]["overall"]["mae"] == 0 == found["mean4w"]["overall"]["mae"]
    assert found["naive"]["overall"]["unscored"] == 2
    assert [r["horizon"] for r in found["naive"]["by_horizon"]] == list(range(1, 25))
    assert [r["station_id"] for r in found["mean4w"]["by_station_id"]] == ["a", "b"]
    assert [r["target"] for r in found["mean4w"]["by_target"]] == ["pickups", "returns"]


def test_naive_on_the_reference_days_is_what_others_report(shared_data):
    """The seasonal naive and the four-week mean have the published errors, to half a percent."""
    panel = pl.read_parquet(shared_data / "panel" / "nyc30_long_2017-01_2018-10-07.parquet")
    history = build_history(panel, System("ny", timezone="America/New_York", holidays="US-NY"))
    known = {"naive": (5.1115, 8.7801, 13.879), "mean4w": (4.1570, 7.1173, 11.485)}
    for name, expected in known.items():
        frame = backtest(
            history,
            MODELS[name],
            start=datetime(2018, 7, 16),
            days=84,
            grid=Grid(24, 24),
            refit_days=28,
        )
        found = score_overall(frame, history)
        figures = [found[k] for k in ("mae", "rmse", "net_flow_mae")]
        assert found["n"] == 120_960 and figures == pytest.approx(expected, rel=0.005)
