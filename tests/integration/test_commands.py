"""The commands on a real database: import, train, promote, forecast, predict, go back."""

import json
import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from clock import Clock
from typer.testing import CliRunner

from bikecast.cli import app, models
from bikecast.cli.open import chosen_system, commit, opened
from bikecast.config import Settings, read_settings
from bikecast.errors import InputError, Refused, UnknownName
from bikecast.explanation import BALANCE, PRECISION
from bikecast.records import FORECAST_COLUMNS, TARGETS, Issue, System
from bikecast.serve.app import create_app
from bikecast.serve.current import CurrentTable
from bikecast.serve.source import StoreSource
from bikecast.store.schema import SCHEMA

pytestmark = pytest.mark.integration

END = datetime(2026, 6, 1)  # of the city in `files`


def test_from_files_to_a_prediction_and_back(run, files, tmp_path):
    """Every step of the documented way, in words and as JSON."""
    zone = ("--timezone", "America/New_York", "--holidays", "US-NY")
    assert f"schema {SCHEMA}" in run("db", "upgrade").stdout
    assert "release" in run("db", "status").stdout
    assert json.loads(run("db", "status", "--json").stdout)["pending"] == []
    assert run("db", "url").stdout.startswith("postgresql://")
    with pytest.raises(InputError, match="holds no system"):
        run("train")
    told = run("import", "stations", files["stations"], "--system", "a", *zone)
    assert "stations.csv" in told.stdout
    panel = run("import", "panel", files["panel"], "--system", "a", "--json")
    assert json.loads(panel.stdout)[0]["rows_used"] == 2 * 40 * 24
    run("import", "weather", files["weather"], "--system", "a", *zone)
    again = run("import", "weather", files["weather"], "--system", "a")
    assert "imported before" in again.stdout
    with pytest.raises(InputError, match="has holidays 'US-NY', not 'US-NJ'"):
        run("import", "panel", files["panel"], "--system", "a", "--holidays", "US-NJ")
    with pytest.raises(InputError, match="no forecast of a was issued yet"):
        run("predict", "SIM001")
    the_model_goes_into_production(run)
    the_forecast_can_be_asked(run)
    a_second_model_can_go_back(run, files, tmp_path)


def the_model_goes_into_production(run):
    """train, show, validate, promote."""
    trained = json.loads(run("train", "--json").stdout)
    assert trained["version"] == "1" and trained["aliases"] == ["challenger"]
    assert "challenger" in run("model", "list").stdout
    assert [v["version"] for v in json.loads(run("model", "list", "--json").stdout)] == ["1"]
    refused = run("model", "validate", "--rmse-threshold", "0.001")
    assert refused.exit_code == 1 and "does not pass" in refused.stdout
    with pytest.raises(Refused, match="rmse within the limit"):
        run("model", "promote", "--rmse-limit", "0.001")
    verdict = json.loads(run("model", "validate", "--json").stdout)
    assert verdict["passed"] and verdict["outcome"] == "promote"
    assert (verdict["version"], verdict["against"]) == ("1", "naive")
    assert {"name", "outcome", "detail", "figures"} <= verdict["checks"][0].keys()
    assert "passes the gate" in run("model", "promote").stdout
    assert json.loads(run("model", "show", "--json").stdout)["aliases"] == ["production"]
    assert "production" in run("model", "show").stdout


def the_forecast_can_be_asked(run):
    """forecast, predict."""
    assert "with" in run("forecast").stdout
    issue = json.loads(run("forecast", "--json").stdout)
    assert issue["system_id"] == "a" and not issue["simulated"]
    week = run("predict", "SIM001", "--hours", "3")
    assert "Station SIM001" in week.stdout
    asked = json.loads(run("predict", "SIM001", "--hours", "3", "--json").stdout)
    assert len(asked["hours"]) == 6
    the_forecast_is_explained(run, asked["hours"])
    the_forecast_is_asked_for_other_weather(run, asked["hours"])
    with pytest.raises(UnknownName, match="no station 'nowhere' in a"):
        run("predict", "nowhere")
    with pytest.raises(InputError, match="--hours is 169"):
        run("predict", "SIM001", "--hours", "169")


def the_forecast_is_explained(run, plain):
    """predict --explain, and the same over HTTP by a service."""
    told = run("predict", "SIM001", "--hours", "3", "--explain").stdout
    assert "the level times its factors is the mean" in told
    hours = json.loads(run("predict", "SIM001", "--hours", "3", "--explain", "--json").stdout)[
        "hours"
    ]
    whys = [row.pop("explanation") for row in hours]
    assert sorted(hours, key=str) == sorted(plain, key=str)
    for row, why in zip(hours, whys, strict=True):
        product = why["level"] * math.prod(f["factor"] for f in why["factors"])
        assert product == pytest.approx(row["mean"], rel=PRECISION)
        # Pickups and returns of a day are reconciled after the model, by half at most.
        balance = [f["factor"] for f in why["factors"] if f["group"] == BALANCE]
        assert all(0.5 <= factor <= 1.5 for factor in balance)
    with opened(read_settings()) as database:
        current = CurrentTable(StoreSource(database.store, "a"))
        current.refresh()
        client = create_app(current, database.settings).test_client()
        answer = client.get("/stations/SIM001/forecast?hours=3&explain=true").json
    found = [hour["explanation"][target] for hour in answer["forecast"] for target in TARGETS]
    # The balance leads to the mean as it is shown, which has three decimals over HTTP.
    assert [of_the_model(why) for why in found] == [of_the_model(why) for why in whys]


def the_forecast_is_asked_for_other_weather(run, plain):
    """predict --at and --weather, and the same over HTTP by a service."""
    at = f"{plain[2]['hour'].replace(' ', 'T')}"
    later = json.loads(run("predict", "SIM001", "--at", at, "--hours", "2", "--json").stdout)
    assert later["hours"] == sorted(plain[2:], key=lambda row: (row["hour"], row["target"]))
    words = ("--at", at, "--weather", "temperature=1", "--weather", "precipitation=8")
    assert "temperature 1, precipitation 8" in run("predict", "SIM001", *words).stdout
    found = json.loads(run("predict", "SIM001", *words, "--json").stdout)
    given = {"temperature": 1, "precipitation": 8}
    with opened(read_settings()) as database:
        current = CurrentTable(StoreSource(database.store, "a"))
        current.refresh()
        client = create_app(current, database.settings).test_client()
        asked = {"station_id": "SIM001", "timestamp": at}
        answer = client.post("/predict", json=asked | {"weather": given}).json
        table = client.post("/predict", json=asked).json
    assert found["what_if"] is True and found["weather"] == answer["weather"]
    for row in found["hours"]:
        assert [row[k] for k in ("mean", "q10", "q90")] == list(answer[row["target"]].values())
        assert list(row["forecast"].values()) == list(table[row["target"]].values())
    the_forecast_is_asked_for_its_second_week(run, plain)
    with pytest.raises(InputError, match="leave --hours and --explain out"):
        run("predict", "SIM001", *words, "--explain")
    with pytest.raises(InputError, match="--at: timestamp 'soon' is not RFC 3339"):
        run("predict", "SIM001", "--at", "soon")


def the_forecast_is_asked_for_its_second_week(run, plain):
    """predict --at behind the table and across its end, and the same over HTTP by a service."""
    start = datetime.fromisoformat(plain[0]["hour"])
    far = f"{start + timedelta(hours=170):%Y-%m-%dT%H:%M}"
    across = ("--at", f"{start + timedelta(hours=166):%Y-%m-%dT%H:%M}", "--hours", "6")
    told = run("predict", "SIM001", *across)
    assert "it is the second week, which the table does not have" in told.stdout
    assert "missing" not in told.stderr
    hours = json.loads(run("predict", "SIM001", *across, "--json", "--explain").stdout)["hours"]
    assert [row.get("second_week", False) for row in hours] == [False] * 4 + [True] * 8
    assert all(row["explanation"]["level"] > 0 for row in hours)
    what_if = ("--at", far, "--weather", "temperature=1", "--weather", "precipitation=8")
    found = json.loads(run("predict", "SIM001", *what_if, "--json").stdout)
    assert found["second_week"] is found["what_if"] is True
    with opened(read_settings()) as database:
        current = CurrentTable(StoreSource(database.store, "a"))
        current.refresh()
        client = create_app(current, database.settings).test_client()
        asked = {"station_id": "SIM001", "timestamp": far}
        answer = client.post("/predict", json=asked).json
        other = client.post("/predict", json=asked | {"weather": found["weather"]}).json
    assert answer["second_week"] is True and answer["horizon_hours"] == 171
    own = [row for row in hours if row["hour"] == str(datetime.fromisoformat(far))]
    for row, beside in zip(own, found["hours"], strict=True):
        values = list(answer[row["target"]].values())
        assert [row[k] for k in ("mean", "q10", "q90")] == values
        assert list(beside["forecast"].values()) == values
        assert beside["mean"] == other[row["target"]]["mean"]
    last = f"{start + timedelta(hours=334):%Y-%m-%dT%H:%M}"
    cut = run("predict", "SIM001", "--at", last, "--hours", "5")
    assert "missing: 3 of 5 h are not forecast" in cut.stderr
    with pytest.raises(InputError, match="outside the forecast"):
        run("predict", "SIM001", "--at", f"{start + timedelta(hours=336):%Y-%m-%dT%H:%M}")


def of_the_model(why):
    """An explanation up to what the model said."""
    return why | {"factors": [f for f in why["factors"] if f["group"] != BALANCE]}


def a_second_model_can_go_back(run, files, folder):
    """train --promote, where there are newer data; rollback."""
    with pytest.raises(Refused, match="data newer than the champion's"):
        run("train", "--promote")
    # Not the last week again, which naive would know by heart.
    hours, shift = pl.col("hour"), timedelta(days=35)
    earlier = hours.is_between(END - shift, END - timedelta(days=28), closed="left")
    week = pl.read_parquet(files["panel"]).filter(earlier).with_columns(hours + shift)
    week.write_parquet(folder / "week.parquet")
    run("import", "panel", folder / "week.parquet", "--system", "a")
    trained = run("train", "--promote")
    assert "version 3 passes the gate" in trained.stdout
    assert "version 1" in run("model", "rollback").stdout
    with pytest.raises(Refused, match="first in production"):
        run("model", "rollback", "--json")
    assert json.loads(run("model", "promote", "3", "--json").stdout)["passed"]
    assert json.loads(run("model", "rollback", "--json").stdout)["version"] == "1"


def test_a_system_that_counts_its_pickups_alone_goes_the_whole_way(run, files, tmp_path):
    """It is trained, issued, printed and served without a row of returns."""
    path = tmp_path / "pickups.parquet"
    pl.read_parquet(files["panel"]).with_columns(returns=None).write_parquet(path)
    run("import", "panel", path, "--system", "p", "--timezone", "America/New_York")
    run("train", "--promote")
    run("forecast")
    printed = run("predict", "SIM001", "--hours", "3").stdout
    assert "pickups" in printed and "returns" not in printed
    asked = json.loads(run("predict", "SIM001", "--hours", "3", "--explain", "--json").stdout)
    assert [row["target"] for row in asked["hours"]] == 3 * ["pickups"]
    with opened(read_settings()) as database:
        current = CurrentTable(StoreSource(database.store, "p"))
        current.refresh()
        client = create_app(current, database.settings).test_client()
        answer = client.get("/stations/SIM001/forecast?hours=3&explain=true").json
    assert len(answer["forecast"]) == 3
    for hour in answer["forecast"]:
        assert hour["pickups"] and hour["explanation"]["pickups"]
        assert hour["returns"] is None is hour["explanation"]["returns"]


def test_two_systems_need_a_choice(run, store, files):
    """With several systems a command asks for --system and names them."""
    store.add_system(System("a"))
    store.add_system(System("b"))
    assert chosen_system(store, "b") == "b"
    with pytest.raises(InputError, match="several systems: a, b"):
        run("forecast")
    with pytest.raises(UnknownName, match="no system 'c'"):
        run("train", "--system", "c")
    with pytest.raises(InputError, match="its time zone is not known"):
        run("import", "trips", files["trips"], "--system", "c")


def test_a_system_can_be_put_right_until_its_first_import(run, store, files, tmp_path):
    """A mistyped zone or calendar is refused; a wrong one may be replaced before data are in."""
    words = ("import", "panel", tmp_path / "none.csv", "--system", "c", "--timezone")
    with pytest.raises(InputError, match="no time zone 'Mars/Base'"):
        run(*words, "Mars/Base")
    with pytest.raises(InputError, match="no holiday calendar 'QQ'"):
        run(*words, "America/Chicago", "--holidays", "QQ")
    assert store.systems() == []
    with pytest.raises(InputError, match="none.csv"):
        run(*words, "America/Chicago")
    assert store.systems() == []
    run("import", "panel", files["panel"], "--system", "c", "--timezone", "America/New_York")
    assert store.system("c").timezone == "America/New_York"
    with pytest.raises(InputError, match="has timezone 'America/New_York', not"):
        run(*words, "America/Chicago")


@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "a/b", "ü", "x" * 64, "a\nb"])
def test_a_system_id_is_letters_digits_and_little_else(run, files, store, name):
    """Anything else is refused before a file is looked at."""
    with pytest.raises(InputError, match="--system is .*letters, digits"):
        run("import", "panel", files["panel"], f"--system={name}", "--timezone", "UTC")
    assert store.systems() == []


def test_files_that_are_in_are_reported_though_another_is_refused(run, files, tmp_path):
    """In words and as JSON; the exit code is the refusal's."""
    words = ("import", "panel", files["panel"], tmp_path / "none.csv", "--system", "a")
    words += ("--timezone", "America/New_York", "--json")
    found = CliRunner().invoke(app, [str(w) for w in words])
    assert [r["rows_used"] for r in json.loads(found.stdout)] == [2 * 40 * 24]
    assert isinstance(found.exception, InputError)
    assert "1 refused, 1 other file(s) imported" in str(found.exception)


def test_a_station_that_the_newest_table_lacks_is_said_so(run, store, files):
    """It is known, but the table has no hours of it; exit code 2, as 404 over HTTP."""
    run("import", "panel", files["panel"], "--system", "a", "--timezone", "America/New_York")
    at = datetime(2026, 6, 1, 4, tzinfo=UTC)
    issue = Issue("a", at, at, "m", "1")
    rows = [("SIM001", END, target, *[1.0] * 8) for target in ("pickups", "returns")]
    store.save_issue(issue, pl.DataFrame(rows, schema=list(FORECAST_COLUMNS), orient="row"))
    told = run("predict", "SIM001")
    assert "Station SIM001" in told.stdout and "missing: 23 of 24 h are not" in told.stderr
    with pytest.raises(InputError, match="cannot be asked for its second week; issue it anew"):
        run("predict", "SIM001", "--at", f"{END + timedelta(hours=168):%Y-%m-%dT%H:%M}")
    with pytest.raises(InputError, match="older release cannot be explained; issue it anew"):
        run("predict", "SIM001", "--explain")
    with pytest.raises(InputError, match="cannot be asked for other weather; issue it anew"):
        run("predict", "SIM001", "--weather", "temperature=1")
    with pytest.raises(UnknownName, match="no forecast of station 'SIM002' in a: the newest"):
        run("predict", "SIM002")


def test_stations_are_told_what_they_should_hold(run, store, files, tmp_path):
    """Those with a capacity, in words and as JSON; the others are counted."""
    run("import", "panel", files["panel"], "--system", "a", "--timezone", "America/New_York")
    with pytest.raises(InputError, match="no forecast of a was issued yet"):
        run("stock")
    at = datetime(2026, 6, 1, 4, tzinfo=UTC)
    rows = [
        (station, END + timedelta(hours=hour), target, *[mean] * 8)
        for station in ("SIM001", "SIM002")
        for hour in range(48)
        for target, mean in zip(TARGETS, (3.0, 1.0), strict=True)
    ]
    frame = pl.DataFrame(rows, schema=list(FORECAST_COLUMNS), orient="row")
    store.save_issue(Issue("a", at, at, "m", "1", simulated=True), frame)
    with pytest.raises(InputError, match="no station of a can be stocked: 2 without a known"):
        run("stock")
    docks = tmp_path / "docks.csv"
    docks.write_text("station_id,name,lat,lon,capacity\nSIM001,Dock St,40.71,-74.01,12\n")
    run("import", "stations", docks, "--system", "a")
    told = run("stock", "--at", "07:00", "--hours", "6")
    assert "simulated data" in told.stdout and "Stock at Mon 01 Jun 07:00" in told.stdout
    assert "SIM001 Dock St" in told.stdout and "SIM002" not in told.stdout
    assert "skipped: 1 without a known capacity" in told.stderr
    found = json.loads(run("stock", "SIM001", "--bikes", "SIM001=2", "--json").stdout)
    assert found["at"] == "2026-06-01T06:00:00-04:00" and found["simulated"]
    [first] = found["stations"]
    assert first["capacity"] == 12 and first["p_empty"] > 0.5 and first["avoided"] > 1
    with opened(read_settings()) as database:
        current = CurrentTable(StoreSource(database.store, "a"))
        current.refresh()
        client = create_app(current, database.settings).test_client()
        answer = client.get("/stations/SIM001/stock?bikes=2").json
    assert [answer[k] for k in ("best", "low", "high")] == [
        first[k] for k in ("best", "low", "high")
    ]
    assert answer["avoided"] == pytest.approx(first["avoided"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere",), "no station 'nowhere' in a"),
        (("SIM002",), "no forecast of station 'SIM002' in a: the newest"),
        (("--bikes", "nowhere=1"), "no station 'nowhere' in a"),
        (("--bikes", "SIM001"), "--bikes is 'SIM001'"),
        (("--hours", "0"), "--hours is 0; write 1 to 168"),
        (("--hours", "40"), "--hours: 40 from 2026-06-01T06:00:00-04:00 on end after"),
        (("--at", "noon"), "--at: timestamp 'noon' is not RFC 3339"),
        (("--at", "2026-06-09T00:00:00"), "--at: 2026-06-09T00:00:00 is outside the forecast"),
    ],
)
def test_a_stock_that_cannot_be_told_is_an_error_of_one_line(run, store, files, words, says):
    """Naming the option or the station, and the next step."""
    run("import", "panel", files["panel"], "--system", "a", "--timezone", "America/New_York")
    at = datetime(2026, 6, 1, 4, tzinfo=UTC)
    rows = [("SIM001", END + timedelta(hours=h), t, *[1.0] * 8) for h in range(30) for t in TARGETS]
    frame = pl.DataFrame(rows, schema=list(FORECAST_COLUMNS), orient="row")
    store.save_issue(Issue("a", at, at, "m", "1"), frame)
    with pytest.raises(InputError) as caught:
        run("stock", *words)
    assert says in str(caught.value)


def test_a_refresher_outlives_what_it_depends_on(run, store, monkeypatch):
    """`forecast --every` says what is wrong and tries again until it is stopped."""
    store.add_system(System("a"))
    clock = Clock(1_200, KeyboardInterrupt)
    monkeypatch.setattr(models, "time", clock)
    monkeypatch.setattr(models, "issue_now", clock.marking(models.issue_now))
    stopped = CliRunner().invoke(app, ["forecast", "--every", "10m"])
    assert clock.marks == [0, 600] and stopped.exit_code != 0


def test_the_commit_is_a_setting_or_the_checkouts(tmp_path):
    """An image knows its commit by setting; a checkout asks git."""
    assert commit(Settings(commit="abc")) == "abc"
    found = commit(Settings())
    assert found == "" or len(found) == 40
