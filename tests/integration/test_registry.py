"""The registry on a real MLflow, whose tables are in a real PostgreSQL."""

import errno
import os
import sys
import tempfile
from datetime import datetime, timedelta

import mlflow
import polars as pl
import pytest
from evidence import made_evidence, made_rows
from tracking import tracking_server

from bikecast.errors import DiskFull, InputError, OtherRelease, Refused, Unavailable, UnknownName
from bikecast.history import build_history
from bikecast.models import MODELS, naive
from bikecast.models.base import Grid
from bikecast.promote import promote, validate
from bikecast.production import Production
from bikecast.records import System
from bikecast.registry import PRODUCTION, Registry, TrainingRun

pytestmark = pytest.mark.integration

CITY = System("city", timezone="America/New_York")
GOOD = {"mae": 1.0, "rmse": 2.0}
NAIVE = {"mae": 2.0, "rmse": 4.0}


def panel(days=21):
    """A station whose pickups follow the hour of the day."""
    start = datetime(2018, 5, 1)
    hours = [start + timedelta(hours=i) for i in range(24 * days)]
    return pl.DataFrame(
        {
            "station_id": ["a"] * len(hours),
            "hour": hours,
            "pickups": [float(h.hour) for h in hours],
            "returns": [float(23 - h.hour) for h in hours],
        }
    )


def run(system=CITY, model="naive", champion="", evidence=None, **scores):
    """What is written down about a training with these scores, and evidence that passes.

    :param champion: the version that was in production then.
    """
    return TrainingRun(
        system,
        model,
        {"seed": 1},
        scores or {"naive": NAIVE},
        "2018-05-01",
        "2018-05-22",
        "abc",
        evidence=evidence or made_evidence(model, champion=champion),
    )


def fitted(name="naive"):
    """A fitted forecaster of the panel."""
    forecaster = MODELS[name]()
    forecaster.fit(build_history(panel(), CITY), Grid(24))
    return forecaster


@pytest.fixture
def registry(mlflow_url, tmp_path):
    """An empty registry."""
    return Registry(mlflow_url, "bike-demand-forecaster", tmp_path / "models")


def test_from_challenger_to_production_and_back(registry, production):
    """A registered version is a challenger; the gate lets it in; rollback brings its elder back."""
    assert registry.versions() == [] and registry.find(PRODUCTION) is None
    first = registry.register(fitted(), run(model="mean4w", mean4w=GOOD, naive=NAIVE))
    assert first.aliases == ("challenger",) and first.data_hash == "abc"
    assert first.scores["mean4w"] == GOOD
    assert promote(production).passed
    with pytest.raises(Refused, match="first in production"):
        production.rollback()
    again = {"mean4w": GOOD, "naive": NAIVE}
    second = registry.register(fitted(), run(model="mean4w", champion=first.version, **again))
    promote(production, second.version)
    assert registry.get(PRODUCTION).version == second.version
    assert registry.get(PRODUCTION).previous == first.version
    assert production.rollback().version == first.version
    assert registry.get(PRODUCTION).version == first.version
    assert [v.version for v in registry.versions()] == [second.version, first.version]


def test_what_is_in_production_is_promoted_again_in_peace(registry, production):
    """Beside naive alone it would be refused, which is not what it was promoted for."""
    scores = {"mean4w": GOOD, "naive": NAIVE}
    first = registry.put_in_production(registry.register(fitted(), run(model="mean4w", **scores)))
    evidence = made_evidence("mean4w", champion=first.version)
    evidence.facts.scores["mean4w"] = {"rmse": 2.4, "net_flow_mae": 1.0}
    second = registry.register(fitted(), run(model="mean4w", evidence=evidence, **scores))
    assert promote(production, second.version).passed
    assert promote(production, second.version).version.version == second.version
    assert validate(registry, second.version).outcome == "reject"


def test_the_way_back_needs_no_file_that_cannot_be_had(registry, production, tmp_path):
    """The way forward does: a model that nobody can load is not put into production."""
    scores = {"mean4w": GOOD, "naive": NAIVE}
    first = registry.put_in_production(registry.register(fitted(), run(model="mean4w", **scores)))
    registry.put_in_production(registry.register(fitted(), run(model="mean4w", **scores)))
    third = registry.register(fitted(), run(model="mean4w", **scores))
    (tmp_path / "models").rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        promote(production, third.version)
    assert production.rollback().version == first.version


def test_a_loaded_model_leaves_no_way_to_import_from_its_folder(registry, monkeypatch):
    """Whoever made it again, once it is gone, would be imported from first."""
    before = list(sys.path)
    version = registry.register(fitted(), run())
    registry.load(version)
    assert sys.path == before
    with monkeypatch.context() as patch:
        patch.delattr(naive, "SeasonalNaive")
        with pytest.raises(OtherRelease):
            registry.load(version)
    assert sys.path == before


def found_before(patch, disk):
    """Temporary files went there before it was full."""
    patch.setattr(tempfile, "tempdir", str(disk))


def looked_for(patch, disk):
    """Where temporary files may go is tried out now."""
    patch.setattr(tempfile, "tempdir", None)
    patch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(disk)])


@pytest.mark.parametrize("folder", [found_before, looked_for])
def test_no_room_for_a_model_is_not_an_mlflow_that_is_gone(
    registry, production, disk, monkeypatch, folder
):
    """It is said in the same words each time; the way back needs no room, the way forward does."""
    scores = {"mean4w": GOOD, "naive": NAIVE}
    first = registry.put_in_production(registry.register(fitted(), run(model="mean4w", **scores)))
    registry.put_in_production(registry.register(fitted(), run(model="mean4w", **scores)))
    third = registry.register(fitted(), run(model="mean4w", **scores))
    with monkeypatch.context() as patch:
        folder(patch, disk)
        said = set()
        for verb in (registry.load, registry.load, lambda v: promote(production, v.version)):
            with pytest.raises(DiskFull, match="no room left for the files.*TMPDIR") as error:
                verb(third)
            said.add(str(error.value))
        assert len(said) == 1
        assert production.rollback().version == first.version


def test_a_quota_is_a_full_disk(registry, monkeypatch):
    """Who may write no more here is not told that MLflow is gone."""
    version = registry.register(fitted(), run())

    def refuse(*_, **__):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(DiskFull, match="no room left"):
        registry.load(version)


@pytest.fixture
def server(mlflow_url, tmp_path):
    """The URL of a real tracking server."""
    with tracking_server(mlflow_url, tmp_path) as url:
        yield url


def test_a_server_does_what_a_database_does(server, store, tmp_path, monkeypatch):
    """Models go to it and come back over HTTP, by version and by alias, and leave no copy here."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    registry = Registry(server, "bike-demand-forecaster")
    production = Production(registry, store.promotions(registry.name), "ann@laptop")
    first = registry.register(fitted(), run(model="mean4w", mean4w=GOOD, naive=NAIVE))
    assert promote(production).passed
    assert registry.get(PRODUCTION).version == first.version
    assert type(registry.load(first)) is type(fitted())
    assert list((tmp_path / "temporary").iterdir()) == []
    with pytest.raises(Refused, match="first in production"):
        production.rollback()


def test_the_gate_keeps_a_worse_version_out(registry, production):
    """A version that does not beat naive is refused, and production stays as it was."""
    worse = made_evidence("mean4w", rows=made_rows(own=2.5, naive=2.0))
    registry.register(fitted(), run(model="mean4w", evidence=worse))
    assert validate(registry).outcome == "reject"
    with pytest.raises(Refused, match="errs less than naive"):
        promote(production)
    assert registry.find(PRODUCTION) is None


def test_a_loaded_forecaster_forecasts_what_it_did(registry):
    """What comes back from the registry is the fitted forecaster itself."""
    history = build_history(panel(), CITY)
    version = registry.register(fitted(), run())
    loaded = registry.load(version)
    import numpy as np

    origin = np.array([history.known])
    assert np.array_equal(
        loaded.predict(history, origin, 24).mean, fitted().predict(history, origin, 24).mean
    )


def test_any_mlflow_client_can_load_and_ask_it(registry):
    """The model is a pyfunc with a signature: a panel in, a forecast frame out."""
    version = registry.register(fitted(), run())
    model = mlflow.pyfunc.load_model(f"models:/{registry.name}/{version.version}")
    frame = model.predict(panel().to_pandas(), params={"horizon": 2})
    assert model.metadata.signature.inputs.input_names()[:2] == ["station_id", "hour"]
    assert len(frame) == 4
    assert frame["mean"][0] == 0.0  # midnight's pickups of every day


def test_a_training_run_says_what_it_learned_from(registry):
    """Range and hash of the data, commit, parameters and scores are written down."""
    version = registry.register(fitted(), run())
    logged = registry.client.get_run(version.run_id).data
    assert logged.tags["data_hash"] == "abc" and logged.tags["git_commit"] == "unknown"
    assert logged.tags["data_from"] == "2018-05-01" and logged.params["seed"] == "1"
    assert logged.metrics["naive.rmse"] == 4.0


def test_an_unknown_version_is_named(registry):
    """A number or alias that does not exist is said with the next step."""
    for which in ("7", "production"):
        with pytest.raises(UnknownName, match=which):
            registry.get(which)


def test_one_name_belongs_to_one_system(registry):
    """A second city must not train into the first one's model."""
    registry.check_owner("city")
    registry.register(fitted(), run())
    registry.check_owner("city")
    with pytest.raises(InputError, match="belongs to city, not elsewhere"):
        registry.check_owner("elsewhere")


def test_an_mlflow_that_is_gone_is_unavailable():
    """Where nothing listens, the error says what to check."""
    with pytest.raises(Unavailable, match="BIKECAST_MLFLOW_TRACKING_URI"):
        Registry("postgresql+psycopg2://nobody@127.0.0.1:9/none", "m").versions()
