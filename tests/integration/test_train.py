"""Train, gate, forecast: the verbs on a real store and a real registry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from evidence import made_evidence

from bikecast.collect import import_panel, import_stations
from bikecast.errors import InputError, OtherRelease
from bikecast.features.inputs import pack as pack_inputs
from bikecast.forecast import issue_forecast, open_stations
from bikecast.models import MODELS, boosted, learned
from bikecast.models.base import Grid
from bikecast.models.portable import pack
from bikecast.production import Production
from bikecast.promote import promote, validate
from bikecast.records import KEPT_HORIZON, MAX_HORIZON, System
from bikecast.registry import PRODUCTION, Registry, TrainingRun
from bikecast.simulate import simulate_city
from bikecast.store.connection import fetch, transaction
from bikecast.train import CHAMPION, gate_window, is_trained, train

pytestmark = pytest.mark.integration

CITY = System("city", "A city", "America/New_York", "US-NY")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
END = datetime(2026, 6, 1)


def bring_in(store, folder, name, panel):
    """Import a panel from a file."""
    path = folder / f"{name}.parquet"
    panel.write_parquet(path)
    return import_panel(store, "city", [path])[0]


@pytest.fixture(scope="module")
def made():
    """Forty-two days of a city of three stations."""
    return simulate_city(7, END, days=42, stations=3)


@pytest.fixture
def city(store, made, tmp_path):
    """A store with the made-up city's hours."""
    store.add_system(CITY)
    bring_in(store, tmp_path, "panel", made.panel)
    return store


@pytest.fixture
def registry(mlflow_url, tmp_path):
    """An empty registry beside the store."""
    return Registry(mlflow_url, "bike-demand-forecaster", tmp_path / "models")


def test_train_promote_forecast_and_train_again(city, registry, production, made, tmp_path):
    """The best of all models becomes challenger, passes the gate and issues the table.

    Trained again on more days, it is held against the champion on hours the champion never saw.
    """
    seen = []
    version = train(
        city,
        registry,
        "city",
        commit="abc",
        progress=lambda done, total, detail: seen.append((done, total, detail)),
    )
    assert set(version.scores) == set(MODELS) and version.aliases == ("challenger",)
    assert version.model != "naive"
    best = min((m for m in MODELS if m != "naive"), key=lambda m: version.scores[m]["rmse"])
    assert version.model == best
    assert seen[-1] == (len(MODELS), len(MODELS) + 1, f"fit of {best}")
    run = registry.client.get_run(version.run_id)
    assert run.data.tags["git_commit"] == "abc"
    assert {f.path for f in registry.client.list_artifacts(version.run_id)} >= {
        "scores.json",
        "scores.png",
        "scores_detail.json",
        "card.html",
    }
    card = registry.card(version)
    assert len(card.detail["slices"]) == 15 and card.detail["stations"]["n"] == 3
    assert card.commit == "abc" and card.params["most_rows"] and card.features["weather"]
    assert not is_trained(city, registry, "city")
    promote(production)
    assert is_trained(city, registry, "city")
    table_is_as_designed(city, registry)
    trained_again_meets_the_champion(city, registry, made, tmp_path)


def table_is_as_designed(city, registry):
    """A week for every station from the end of the data, issued once per model and data."""
    issue = issue_forecast(city, registry, "city", NOW)
    frame = city.forecast_frame(issue.issue_id)
    assert issue.as_of == datetime(2026, 6, 1, 4, tzinfo=UTC) and issue.issued_at == NOW
    assert frame["hour"].min() == END and frame["hour"].max() == END + timedelta(hours=167)
    assert len(frame) == 3 * MAX_HORIZON * 2
    again = issue_forecast(city, registry, "city", NOW + timedelta(hours=1))
    assert again == issue
    assert city.inputs(issue.issue_id, "SIM001").values.shape[:2] == (KEPT_HORIZON, 2)
    # As a release that kept no inputs has left it.
    with transaction(city.url) as connection:
        fetch(connection, "DELETE FROM forecast_inputs")
    anew = issue_forecast(city, registry, "city", NOW + timedelta(hours=1))
    assert anew.issue_id > issue.issue_id and city.has_inputs(anew.issue_id)
    # As one that kept the first week alone has left it.
    with transaction(city.url) as connection:
        for station in ("SIM001", "SIM002", "SIM003"):
            kept = city.inputs(anew.issue_id, station)
            one = replace(kept, values=kept.values[:168], level=kept.level[:168])
            query = """
                UPDATE forecast_inputs SET packed = %s FROM station s
                WHERE s.station_key = forecast_inputs.station_key AND s.station_id = %s
                """
            fetch(connection, query, (pack_inputs(one), station))
    again = issue_forecast(city, registry, "city", NOW + timedelta(hours=1))
    assert again.issue_id > anew.issue_id and city.has_inputs(again.issue_id)
    made_by = pack(registry.load(registry.get(PRODUCTION)))
    assert city.packed_model(anew.issue_id) == city.packed_model(issue.issue_id) == made_by


def trained_again_meets_the_champion(city, registry, made, tmp_path):
    """Five weeks later the champion is judged as it stands, and the data are new."""
    more = made.panel.with_columns(pl.col("hour") + timedelta(days=42))
    bring_in(city, tmp_path, "more", more)
    assert not is_trained(city, registry, "city")
    second = train(city, registry, "city")
    assert second.scores[CHAMPION]["rmse"] > 0
    # Its weights are older than the window; fitted afresh it would score otherwise.
    assert second.scores[CHAMPION] != second.scores[registry.get(PRODUCTION).model]
    verdict = validate(registry)
    assert verdict.against == registry.get(PRODUCTION).version and verdict.kept
    assert "rmse no worse than champion's" in [c.name for c in verdict.checks]


def test_a_champion_that_has_seen_the_window_is_stood_for_by_its_recipe(
    city, registry, production, made, tmp_path
):
    """A week of new data reaches into what it learned from: its scores are its recipe's."""
    promote(production, train(city, registry, "city").version)
    champion = registry.get(PRODUCTION)
    week = made.panel.filter(pl.col("hour") >= END - timedelta(days=7))
    bring_in(city, tmp_path, "week", week.with_columns(pl.col("hour") + timedelta(days=7)))
    second = train(city, registry, "city")
    assert second.scores[CHAMPION] == second.scores[champion.model]


def test_naive_is_registered_where_nothing_errs_less(
    store, registry, production, made, tmp_path, monkeypatch
):
    """A city whose weeks are all alike needs no other model, and naive may go into production."""
    store.add_system(CITY)
    week, hour = made.panel.filter(pl.col("hour") >= END - timedelta(days=7)), pl.col("hour")
    weeks = pl.concat([week.with_columns(hour - timedelta(days=7 * i)) for i in range(5)])
    bring_in(store, tmp_path, "weeks", weeks)
    monkeypatch.setattr("bikecast.train.MODELS", {m: MODELS[m] for m in ("naive", "mean4w")})
    version = train(store, registry, "city")
    assert version.model == "naive" and promote(production).passed


def test_as_many_rows_are_learned_from_as_asked(city, registry, monkeypatch):
    """`--quick` learns from fewer; the version says from how many."""
    monkeypatch.setattr("bikecast.train.ROWS", 3_000)
    monkeypatch.setattr("bikecast.train.QUICK_ROWS", 1_000)
    monkeypatch.setattr("bikecast.train.MODELS", {m: MODELS[m] for m in ("naive", "glm")})
    for quick, rows in ((False, "3000"), (True, "1000")):
        version = train(city, registry, "city", quick=quick)
        assert registry.client.get_run(version.run_id).data.params["most_rows"] == rows


def other_features(patch):
    """A release that knows other features."""
    patch.setattr(learned, "NAMES", learned.NAMES[::-1])


def other_code(patch):
    """A release that has none of the code of this one's trees."""
    patch.delattr(boosted, "Trees")


def other_meaning(patch):
    """A release where a part of a model bears the name that a model had."""
    patch.delattr(learned.LearnedForecaster, "predict")


@pytest.mark.parametrize("release", [other_features, other_code, other_meaning])
def test_a_champion_of_another_release_stops_no_training(
    city, registry, made, tmp_path, monkeypatch, release
):
    """Nothing is issued from it, with the reason; another can be trained, and its recipe judges."""
    history = city.history("city")
    ensemble = MODELS["ensemble"]()
    ensemble.fit(history, Grid(24, rows=2_000))
    run = TrainingRun(
        CITY, "ensemble", {}, {}, history.start.isoformat(), history.as_of.isoformat(), "hash"
    )
    registry.put_in_production(registry.register(ensemble, run))
    bring_in(city, tmp_path, "more", made.panel.with_columns(pl.col("hour") + timedelta(days=42)))
    only = {"naive": MODELS["naive"], "mean4w": MODELS["mean4w"], "ensemble": MODELS["mean4w"]}
    monkeypatch.setattr("bikecast.train.MODELS", only)
    with monkeypatch.context() as patch:
        release(patch)
        with pytest.raises(InputError, match="by (a|another) release.*train another"):
            issue_forecast(city, registry, "city", NOW)
        version = train(city, registry, "city")
    assert version.scores[CHAMPION] == version.scores["ensemble"]
    assert not registry.evidence(version).facts.champion_answers


@pytest.mark.parametrize("move", [promote, Production.rollback])
def test_a_version_of_another_release_does_not_reach_production(
    city, registry, production, monkeypatch, move
):
    """Neither forward nor back: no forecast could be issued from it."""
    model = MODELS["glm"]()
    model.fit(city.history("city"), Grid(24, rows=2_000))
    scores = {"glm": {"mae": 1.0, "rmse": 2.0}, "naive": {"mae": 2.0, "rmse": 3.0}}
    scores["champion"] = scores["glm"]
    run = TrainingRun(CITY, "glm", {}, scores, "2018-05-01", "2018-05-22", "hash")
    now = registry.put_in_production(registry.register(model, run))
    run = replace(run, evidence=made_evidence("glm", champion=now.version))
    if move is Production.rollback:
        now = registry.put_in_production(registry.register(model, run))
    else:
        registry.register(model, run)
    with monkeypatch.context() as patch:
        other_features(patch)
        with pytest.raises(OtherRelease, match="glm was trained by a release with other features"):
            move(production)
    assert registry.get(PRODUCTION).version == now.version
    assert move(production) and registry.get(PRODUCTION).version != now.version


def test_a_station_silent_for_four_weeks_is_taken_for_closed(city, made, tmp_path):
    """It has no row in the table; the others do."""
    extra = made.panel.filter(pl.col("hour") < END - timedelta(days=29)).filter(
        pl.col("station_id") == "SIM001"
    )
    bring_in(city, tmp_path, "closed", extra.with_columns(station_id=pl.lit("closed")))
    history = city.history("city")
    assert "closed" in {s.station_id for s in history.stations}
    assert open_stations(history) == ["SIM001", "SIM002", "SIM003"]
    later = replace(history, flows=np.full_like(history.flows, np.nan))
    assert open_stations(later) == []


def test_training_needs_four_weeks(store, made, tmp_path):
    """Less is refused before anything is computed; the window is a quarter of a short history."""
    store.add_system(CITY)
    short = made.panel.filter(pl.col("hour") >= END - timedelta(days=20))
    bring_in(store, tmp_path, "short", short)
    with pytest.raises(InputError, match="20 days of history, training needs 28"):
        gate_window(store.history("city"))
    bring_in(store, tmp_path, "panel", made.panel)
    assert gate_window(store.history("city")) == (END - timedelta(days=10), 10)


def test_places_of_stations_that_never_saw_a_bike_do_not_reach_the_table(city, tmp_path):
    """A stations file may name more than the panel; the history has those with hours."""
    path = tmp_path / "stations.csv"
    path.write_text("station_id,name,lat,lon,capacity\nnever-used,Nowhere,40.7,-74,10\n")
    import_stations(city, "city", [path])
    assert len(city.history("city").stations) == 3
