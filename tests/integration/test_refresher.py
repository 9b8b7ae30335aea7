"""`bikecast forecast --every`, whose MLflow is a real server that goes and comes back."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from clock import Clock, Enough
from disks import grow, growing_disk, shrink
from fakes import NEW_YORK
from live import live, made_up_city, until
from postgres import OwnPostgres
from tracking import OwnMlflow, tracking_server
from typer.testing import CliRunner

from bikecast.cli import app, models
from bikecast.collect import import_panel
from bikecast.errors import DiskFull, Unavailable
from bikecast.forecast import issue_forecast
from bikecast.history import build_history
from bikecast.models import MODELS
from bikecast.models.base import Explainable, Grid
from bikecast.production import Production, made
from bikecast.registry import Registry, TrainingRun
from bikecast.store import Store, ensure_database

pytestmark = pytest.mark.integration

GONE = "MLflow does not answer"


@pytest.fixture
def filled(server: OwnPostgres, tmp_path: Path) -> Store:
    """See :func:`fill`."""
    return fill(server, tmp_path)


def fill(server: OwnPostgres, tmp_path: Path) -> Store:
    """The made-up city with three weeks of hours, and a forecast of before."""
    store = made_up_city(server.url, tmp_path)
    panel().write_parquet(tmp_path / "panel.parquet")
    import_panel(store, NEW_YORK.system_id, [tmp_path / "panel.parquet"])
    return store


def panel(start: datetime = datetime(2018, 5, 1), days: int = 21) -> pl.DataFrame:
    """A station whose pickups follow the hour of the day."""
    hours = [start + timedelta(hours=i) for i in range(24 * days)]
    flows = {"pickups": [h.hour for h in hours], "returns": [23 - h.hour for h in hours]}
    return pl.DataFrame({"station_id": ["A.10"] * len(hours), "hour": hours, **flows})


def fitted() -> Explainable:
    """A naive forecaster of the panel."""
    forecaster = MODELS["naive"]()
    forecaster.fit(build_history(panel(), NEW_YORK), Grid(24))
    return forecaster


def training() -> TrainingRun:
    """What is written down of its training."""
    scores = {"naive": {"mae": 1.0}}
    return TrainingRun(NEW_YORK, "naive", {}, scores, "2018-05-01", "2018-05-22", "")


def promote_a_model(registry: Registry) -> None:
    """Put a naive one in production."""
    registry.put_in_production(registry.register(fitted(), training()))


@contextmanager
def refreshing(every: str, settings: dict[str, str], log: Path) -> Iterator[None]:
    """A refresher in a process of its own, which is still there at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "bikecast", "forecast", "--every", every],
            env=os.environ | settings,
            stdout=file,
            stderr=file,
        )
        try:
            yield
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(60)


def test_the_refresher_issues_again_once_mlflow_is_back(
    server: OwnPostgres, filled: Store, tmp_path: Path
) -> None:
    """It says once what fails, and the service goes on meanwhile."""
    database, log = ensure_database(server.url, "mlflow_of_the_refresher"), tmp_path / "log"
    promote_a_model(Registry(database, "bike-demand-forecaster", tmp_path / "models"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "BIKECAST_DATABASE_URL": filled.url,
        "BIKECAST_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
    }
    with live(filled.url, tmp_path / "kept") as service:
        before = service.ask()["model"]["version"]
        with refreshing("1s", settings, log):
            until(lambda: GONE in log.read_text(), 120)
            assert service.answers_from(before)
            with tracking_server(database, tmp_path, port=port):
                until(lambda: service.answers_from("1"), 120)
    assert log.read_text().count(GONE) == 1


def begun(temporary: Path) -> bool:
    """Whether a version was looked up, and a folder made to load it into."""
    return any(temporary.iterdir())


def under_way(temporary: Path) -> bool:
    """Whether files of it are there."""
    return any(path.is_file() for path in temporary.rglob("*"))


@pytest.mark.parametrize(
    ("moment", "falls"), [(begun, OwnMlflow.freeze), (under_way, OwnMlflow.kill)]
)
def test_mlflow_that_falls_while_a_model_is_loaded_is_waited_for(
    server: OwnPostgres,
    filled: Store,
    tmp_path: Path,
    moment: Callable[[Path], bool],
    falls: Callable[[OwnMlflow], None],
) -> None:
    """Silent or gone: it says so, the service goes on, and once it is back the model is loaded."""
    database, log = ensure_database(server.url, f"mlflow_{tmp_path.name}"), tmp_path / "log"
    (temporary := tmp_path / "temporary").mkdir()
    with (
        OwnMlflow(database, tmp_path) as mlflow,
        live(filled.url, tmp_path / "kept") as service,
    ):
        before = service.ask()["model"]["version"]
        promote_a_model(Registry(mlflow.url, "bike-demand-forecaster"))
        settings = {
            "BIKECAST_DATABASE_URL": filled.url,
            "BIKECAST_MLFLOW_TRACKING_URI": mlflow.url,
            "TMPDIR": str(temporary),
            # Less patience than it has by itself, which a test would have to have as well.
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        with refreshing("1s", settings, log):
            until(lambda: moment(temporary), 120, every=0.001)
            falls(mlflow)
            until(lambda: GONE in log.read_text(), 120)
            assert service.answers_from(before)
            mlflow.kill()
            mlflow.start()
            until(lambda: service.answers_from("1"), 60)
    assert "Traceback" not in log.read_text()
    # Nor does what was loaded in part stay behind.
    assert not any(temporary.glob("*/*"))


def test_a_promotion_and_a_rollback_reach_riders_without_a_restart(
    server: OwnPostgres, filled: Store, tmp_path: Path
) -> None:
    """The refresher's next round is an hour away, and is not waited for."""
    database, log = ensure_database(server.url, "mlflow_of_a_promotion"), tmp_path / "log"
    with (
        live(filled.url, tmp_path / "kept") as service,
        tracking_server(database, tmp_path) as url,
    ):
        registry = Registry(url, "bike-demand-forecaster")
        production = Production(registry, filled.promotions(registry.name), "ann@laptop")
        promote_a_model(registry)
        settings = {"BIKECAST_DATABASE_URL": filled.url, "BIKECAST_MLFLOW_TRACKING_URI": url}
        with refreshing("1h", settings, log):
            until(lambda: service.answers_from("1"), 120)
            second = registry.register(fitted(), training())
            production.put(second, "a better one", registry.get("1"))
            until(lambda: service.answers_from("2"), 120)
            production.rollback("a worse one")
            until(lambda: service.answers_from("1"), 120)
            registry.client.set_registered_model_alias(registry.name, "production", "2")
            until(lambda: service.answers_from("2"), 120)
            until(lambda: production.book.all()[-1].kind == "noticed", 60)
    assert "error" not in log.read_text()
    moves = [(m.from_version, m.to_version) for m in made(production.book.all())]
    assert moves == [("", "1"), ("1", "2"), ("2", "1"), ("1", "2")]


NOW = datetime(2018, 5, 22, 12, tzinfo=UTC)


def test_neither_what_is_new_already_nor_what_cannot_be_had_costs_the_history(
    server: OwnPostgres, filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is long, and is read where there is something to forecast and a model to do it."""
    database = ensure_database(server.url, f"mlflow_{tmp_path.name}")
    registry = Registry(database, "bike-demand-forecaster", tmp_path / "models")
    promote_a_model(registry)
    issue = issue_forecast(filled, registry, NEW_YORK.system_id, NOW)
    monkeypatch.delattr(Store, "history")
    assert issue_forecast(filled, registry, NEW_YORK.system_id, NOW) == issue
    promote_a_model(registry)
    (tmp_path / "models").rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        issue_forecast(filled, registry, NEW_YORK.system_id, NOW)


def test_a_full_disk_is_looked_at_again_every_few_seconds(
    server: OwnPostgres,
    filled: Store,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told once. The model comes first: nothing is forecast while it finds no room."""
    database = ensure_database(server.url, f"mlflow_{tmp_path.name}")
    promote_a_model(Registry(database, "bike-demand-forecaster", tmp_path / "models"))
    clock = Clock(20)
    monkeypatch.setenv("BIKECAST_DATABASE_URL", filled.url)
    monkeypatch.setenv("BIKECAST_MLFLOW_TRACKING_URI", database)
    monkeypatch.setattr(models, "time", clock)
    monkeypatch.setattr(models, "issue_now", clock.marking(models.issue_now))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    # What the command sets must not outlast the test.
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")
    found = CliRunner().invoke(app, ["forecast", "--every", "10m"])
    assert isinstance(found.exception, Enough) and clock.marks == [0, 5, 10, 15]
    assert found.stderr.count("no room left") == 1


def test_what_was_forecast_is_stored_as_soon_as_the_database_has_room(tmp_path: Path) -> None:
    """It took long, and is not forecast anew for each try; who does not wait is told."""
    with growing_disk(tmp_path / "disk") as disk, OwnPostgres(disk) as server:
        store = fill(server, tmp_path)
        database = ensure_database(server.url, "mlflow")
        registry = Registry(database, "bike-demand-forecaster", tmp_path / "models")
        promote_a_model(registry)
        before = store.newest_issue(NEW_YORK.system_id)
        shrink(disk)
        with pytest.raises(DiskFull, match="no room left on the disk of"):
            issue_forecast(store, registry, NEW_YORK.system_id, NOW)
        asked: list[DiskFull] = []

        def room_later(error: DiskFull) -> bool:
            asked.append(error)
            if len(asked) == 2:
                grow(disk)
            return True

        issue = issue_forecast(store, registry, NEW_YORK.system_id, NOW, room_later)
        assert len(asked) == 2
        assert store.newest_issue(NEW_YORK.system_id) == issue != before
