"""Bad input at the door of a backtest: counted, said, and no station's trouble but its own."""

import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from bikecast.cli import app
from bikecast.errors import InputError

FIRST, DAYS = datetime(2018, 3, 15), 45
START = datetime(2018, 4, 20)
STATIONS = [f"s{i}" for i in range(5)]
BLANK = pl.lit(None, pl.Int64).alias("returns")
HOUR, ID = pl.col("hour"), pl.col("station_id")


@pytest.fixture(scope="module")
def panel():
    """Forty-five days of five stations with commuters' peaks."""
    rng = np.random.default_rng(9)
    hours = [FIRST + timedelta(hours=h) for h in range(DAYS * 24)]
    clock = np.array([h.hour for h in hours])
    mean = 2 + 6 * np.exp(-((clock - 8) ** 2) / 8) + 7 * np.exp(-((clock - 18) ** 2) / 8)
    frames = [
        pl.DataFrame({"hour": hours, "pickups": rng.poisson(mean), "returns": rng.poisson(mean)})
        .with_columns(station_id=pl.lit(station))
        .select("station_id", "hour", "pickups", "returns")
        for station in STATIONS
    ]
    return pl.concat(frames)


def set_to(frame, value, first, last):
    """The pickups and returns of s2 in these hours."""
    there = (ID == "s2") & HOUR.is_between(first, last)
    both = (
        pl.when(there).then(value).otherwise(pl.col(c)).alias(c) for c in ("pickups", "returns")
    )
    return frame.with_columns(both)


def run(frame, folder, *words, model="glm"):
    """Backtest a week; the result, and each station's MAE."""
    path = folder / "p.parquet"
    frame.write_parquet(path)
    base = ["backtest", str(path), "--start", f"{START:%Y-%m-%d}", "--days", "7", "--json"]
    found = CliRunner().invoke(app, [*base, "--refit-days", "7", "--model", model, *words])
    if found.exit_code:
        return found, {}
    scores = json.loads(found.stdout)["models"][model]["by_station_id"]
    return found, {s["station_id"]: s["mae"] for s in scores}


@pytest.fixture(scope="module")
def good(panel, tmp_path_factory):
    """Each station's MAE without any trouble, of which nothing is said."""
    found, errors = run(panel, tmp_path_factory.mktemp("good"))
    assert found.exit_code == 0 and "skipped" not in found.stderr and "noted" not in found.stderr
    return errors


BEFORE = datetime(2018, 4, 17, 8), datetime(2018, 4, 17, 8)
DAYS_BEFORE = datetime(2018, 4, 12), datetime(2018, 4, 17)
CASES = {
    "a gap": (
        lambda f: f.filter(~((ID == "s2") & HOUR.is_between(*DAYS_BEFORE))),
        "noted: hours of a station without a row, unknown and not zero: 121",
    ),
    "given twice": (
        lambda f: pl.concat([f, f.filter((ID == "s2") & (HOUR >= START))]),
        "skipped: 216 station and hour given twice",
    ),
    "unsorted": (lambda f: f.sample(fraction=1, shuffle=True, seed=3), ""),
    "negative": (lambda f: set_to(f, -3, *BEFORE), "skipped: 1 negative"),
    "absurd": (lambda f: set_to(f, 9_999, *BEFORE), "skipped: 1 more than a bike a second"),
    "very many": (
        lambda f: set_to(f, 2_000, *BEFORE),
        "noted: counts cut to 4 times what was expected and 15 more: 2",
    ),
    "an outage": (
        lambda f: set_to(f, 0, *DAYS_BEFORE),
        "noted: hours of a station without a bike, taken as an outage: 11",
    ),
    "a station that begins": (
        lambda f: f.filter((ID != "s2") | (HOUR >= START + timedelta(days=3))),
        "noted: stations that begin inside the window: 1",
    ),
    "a station that ends": (
        lambda f: f.filter((ID != "s2") | (HOUR < START + timedelta(days=3))),
        "noted: stations that end inside the window: 1",
    ),
    "a station with one row": (
        lambda f: f.filter((ID != "s2") | (HOUR == START + timedelta(hours=8))),
        "noted: stations that end inside the window: 1",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_station_takes_no_other_down(case, panel, good, tmp_path):
    """What is wrong is said, and the others are forecast nearly as well as without it."""
    spoil, says = CASES[case]
    out = tmp_path / "predictions.parquet"
    found, errors = run(spoil(panel), tmp_path, "--out", str(out))
    assert found.exit_code == 0, found.output
    assert says in " ".join(found.stderr.split())
    for station in set(STATIONS) - {"s2"}:
        assert errors[station] == pytest.approx(good[station], rel=0.15), station
    # And it is forecast itself, every hour.
    rows = pl.read_parquet(out)
    assert set(rows.group_by("station_id").len()["len"]) == {7 * 24 * 2}
    assert not rows.select(pl.col("mean", "q05", "q95").is_nan().any()).row(0).count(True)


@pytest.mark.parametrize("model", ["naive", "mean4w"])
@pytest.mark.parametrize("case", CASES)
def test_plain_models_look_at_each_station_alone(case, model, panel, tmp_path):
    """Whatever happens to one, the others' errors are the very same."""
    clean, spoiled = (run(f, tmp_path, model=model)[1] for f in (panel, CASES[case][0](panel)))
    others = set(STATIONS) - {"s2"}
    assert {s: clean[s] for s in others} == {s: spoiled[s] for s in others}


def test_a_panel_that_is_too_short_is_refused(panel, tmp_path):
    """The days there are, the days needed, and what to do."""
    short = panel.filter(HOUR >= START - timedelta(days=10))
    found, _ = run(short, tmp_path)
    assert isinstance(found.exception, InputError)
    assert "needs 14 days of history, there are 10" in str(found.exception)
    assert run(short, tmp_path, model="naive")[0].exit_code == 0
    shorter = panel.filter(HOUR >= START - timedelta(days=3))
    assert isinstance(run(shorter, tmp_path, model="naive")[0].exception, InputError)


@pytest.mark.parametrize("spoil", [lambda f: f.drop("returns"), lambda f: f.with_columns(BLANK)])
def test_a_panel_of_pickups_alone_is_backtested_without_returns(spoil, panel, tmp_path):
    """No column of returns, or none of its numbers known: no row of them, no skipped one either."""
    out, page = tmp_path / "predictions.parquet", tmp_path / "page.html"
    words = ("--out", str(out), "--report", str(page))
    found, _ = run(spoil(panel), tmp_path, *words, model="ensemble")
    assert found.exit_code == 0 and "skipped" not in found.stderr, found.output
    rows = pl.read_parquet(out)
    assert set(rows["target"]) == {"pickups"} and len(rows) == 7 * 24 * len(STATIONS)
    scores = json.loads(found.stdout)["models"]["ensemble"]
    assert scores["overall"]["unscored"] == 0


@pytest.mark.parametrize("asked", [["all"], ["naive", "--model", "glm"]])
def test_a_model_that_needs_more_days_is_left_out_and_the_others_run(asked, panel, tmp_path):
    """Said on stderr, in the JSON and in the scores; the predictions are those of the others."""
    short = panel.filter(HOUR >= START - timedelta(days=10))
    scores, out = tmp_path / "scores.json", tmp_path / "predictions.parquet"
    words = ("--model", *asked, "--scores", str(scores), "--out", str(out))
    found, _ = run(short, tmp_path, *words, model="naive")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document == json.loads(scores.read_text())
    assert "glm" in document["left_out"] and "naive" in document["models"]
    assert not document["left_out"].keys() & document["models"].keys()
    for name, reason in document["left_out"].items():
        assert f"{name} needs 14 days of history, there are 10" in reason
        assert f"left out: {name}: {reason}" in " ".join(found.stderr.split())
    assert set(pl.read_parquet(out)["model"]) == document["models"].keys()


def test_where_no_model_can_run_each_says_why(panel, tmp_path):
    """What all say alike, such as of the window, is said once; exit code 2 either way."""
    short = panel.filter(HOUR >= START - timedelta(days=3))
    found, _ = run(short, tmp_path, "--model", "glm", model="naive")
    assert isinstance(found.exception, InputError)
    assert "naive needs 7 days" in str(found.exception)
    assert "glm needs 14 days" in str(found.exception)
    late, _ = run(panel.filter(HOUR < START), tmp_path, "--model", "all", model="naive")
    assert isinstance(late.exception, InputError)
    assert str(late.exception).count("is not inside the history") == 1


def test_a_window_of_which_nothing_is_known_is_refused(panel, tmp_path):
    """A gap of all stations over the whole of it: there is nothing to score."""
    end = START + timedelta(days=7)
    gap = panel.filter(~HOUR.is_between(START, end, closed="left"))
    found, _ = run(gap, tmp_path, model="naive")
    assert isinstance(found.exception, InputError)
    assert "no hour from 2018-04-20 on is known" in str(found.exception)


def test_a_day_without_weather_is_forecast_without_it(panel, good, tmp_path):
    """Its hours are counted; the forecasts are there."""
    hours = [FIRST + timedelta(hours=h) for h in range(DAYS * 24)]
    kept = [h for h in hours if h.date() != (START + timedelta(days=2)).date()]
    sky = tmp_path / "sky.csv"
    lines = "".join(f"{h:%Y-%m-%dT%H:%M},{10 + h.hour % 12},0,5,50,60\n" for h in kept)
    head = "time,temperature_2m,precipitation,wind_speed_10m,cloud_cover,relative_humidity_2m\n"
    sky.write_text(head + lines)
    found, errors = run(panel, tmp_path, "--weather", str(sky))
    assert found.exit_code == 0, found.output
    assert "noted: hours of the window without weather: 24" in " ".join(found.stderr.split())
    assert errors == pytest.approx(good, rel=0.1)


def test_hours_in_which_a_station_was_empty_are_not_learned(panel, tmp_path):
    """With its status a station that is empty every evening is forecast higher, which is said."""
    evening = (ID == "s2") & HOUR.dt.hour().is_between(17, 19)
    empty = panel.with_columns(pickups=pl.when(evening).then(0).otherwise(pl.col("pickups")))
    bikes = pl.when(evening).then(0).otherwise(5)
    snapshots = panel.select("station_id", time="hour", bikes=bikes)
    later = snapshots.with_columns(pl.col("time") + pl.duration(minutes=30))
    snapshots = pl.concat([snapshots, later])
    strange = snapshots.head(2).with_columns(station_id=pl.lit("elsewhere"))
    status = tmp_path / "status.parquet"
    pl.concat([snapshots, strange]).write_parquet(status)
    means = []
    for words in ((), ("--status", str(status))):
        out = tmp_path / "predictions.parquet"
        found, _ = run(empty, tmp_path, "--out", str(out), *words)
        assert found.exit_code == 0, found.output
        asked = pl.read_parquet(out).filter(evening, pl.col("target") == "pickups")
        means.append(asked["mean"].mean())
    assert means[0] < 1 and means[1] > 4
    said = " ".join(found.stderr.split())
    assert "skipped: 1 stations with a status that the panel does not have" in said
    assert (
        "noted: hours of a station without a bike, or a dock, to be had, not learned: 129" in said
    )
