"""`inv train` with a real Airflow on PostgreSQL, a real MLflow, and the real service.

Only Docker is a stand-in: what `docker exec` runs is the real `bikecast`.
"""

import json
import os
import shlex
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from airflow_contract import starts_a_run_once
from live import live, until
from local_host import TEXT
from postgres import OwnPostgres
from real_airflow import AIRFLOW, PASSWORD, TOKENS_LAST, USERNAME, environment, running, settings
from tracking import tracking_server

from bikecast.collect import import_trips
from bikecast.ops import training
from bikecast.ops.airflow import Airflow, airflow_client
from bikecast.ops.environment import parse_environment
from bikecast.records import System
from bikecast.store import Store, ensure_database

pytestmark = pytest.mark.integration

SYSTEM = System("jc", "Jersey City", "America/New_York", "US-NJ")
PROGRAM = Path(__file__).parents[1] / "small_bikecast.py"
NOWHERE = "http://127.0.0.1:9"  # where no MLflow answers


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Airflow's own environment."""
    folder = tmp_path_factory.getbasetemp()
    return environment(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture
def facts(programs, tmp_path):
    """What Airflow finds in the folder of DAGs, by DAG."""
    done = subprocess.run(
        [programs / "python", Path(__file__).parents[1] / "dag_facts.py"],
        env=settings(tmp_path) | {"DAGS": str(AIRFLOW / "dags")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_dags_are_whole(facts):
    """Each can be read, in no time, and its tasks have limits, tries and the commands they run."""
    assert facts["errors"] == {} and set(facts["dags"]) == {"model_training", "forecast_refresh"}
    assert facts["seconds"] < 10  # nothing is done while they are read; a worker reads them, too
    for name, dag in facts["dags"].items():
        assert (dag["catchup"], dag["runs_at_once"], dag["paused"]) == (False, 1, False), name
        assert 0 < dag["time_limit"] <= 3 * 3600 and dag["doc"]
        # Or whoever starts Airflow trains at once, to make up for last Sunday.
        assert dag["start"] == "None"
        assert all(t["retries"] >= 1 for t in dag["tasks"].values()), name
        # A first try of each is never cut off by the limit of the run.
        assert sum(t["time_limit"] for t in dag["tasks"].values()) < dag["time_limit"]
    train, refresh = facts["dags"]["model_training"], facts["dags"]["forecast_refresh"]
    assert train["schedule"] == "0 2 * * 0" and refresh["schedule"] == "17 * * * *"
    assert {n: t["after"] for n, t in train["tasks"].items()} == {
        "train": [],
        "validate": ["train"],
    }
    words = {n: t["words"] for n, t in (train["tasks"] | refresh["tasks"]).items()}
    assert words["train"] == ["train", "--json"] and words["forecast"] == ["forecast", "--json"]
    assert words["validate"][:3] == ["model", "validate", "--json"]


@dataclass
class Stage:
    """A city, its MLflow, and what tells `bikecast` of them."""

    folder: Path
    store: Store
    bikecast: dict[str, str]
    airflow_database: str

    def program(self, path, **more):
        """Write a `bikecast` for Airflow or a host: it fails, or hangs, while a file says so."""
        given = " ".join(f"{k}={shlex.quote(v)}" for k, v in (self.bikecast | more).items())
        path.write_text(
            f"#!/bin/sh\ncd {self.folder}\n"
            'case "$1" in train)\n'
            '  [ ! -e fails ] || set -- "$@" --system nowhere\n'
            "  while [ -e hangs ]; do sleep 0.1; done ;;\nesac\n"
            f'exec env {given} {sys.executable} {PROGRAM} "$@"\n'
        )
        path.chmod(0o755)
        return path


@pytest.fixture
def stage(shared_data, tmp_path):
    """Jersey City from February to May 2021, in a PostgreSQL that others reach, and an MLflow."""
    with ExitStack() as stack:
        server = stack.enter_context(OwnPostgres(tmp_path / "postgres"))
        name = uuid.uuid4().hex[:8]
        store = Store(ensure_database(server.url, f"city_{name}"))
        store.upgrade()
        store.add_system(SYSTEM)
        import_trips(store, "jc", sorted((shared_data / "trips_modern").glob("*.gz")))
        tracking = ensure_database(server.url, f"mlflow_{name}")
        url = stack.enter_context(tracking_server(tracking, tmp_path))
        told = {
            "BIKECAST_DATABASE_URL": store.url,
            "BIKECAST_MLFLOW_TRACKING_URI": url,
            "BIKECAST_SYSTEM": "jc",
            "BIKECAST_DATA_DIR": str(tmp_path / "data"),
            "BIKECAST_COMMIT": "0123456789ab",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
        }
        yield Stage(tmp_path, store, told, airflow_database(server, tmp_path))


def airflow_database(server, folder):
    """The database that the service airflow-setup makes, on this server; a second time it stays."""
    told = {"AIRFLOW_SECRETS": str(folder / "secrets"), "AIRFLOW_POSTGRES": "127.0.0.1"}
    told["PGPORT"] = str(sa.make_url(server.url).port)
    told["POSTGRES_PASSWORD_FILE"] = str(folder / "superuser")
    (folder / "superuser").write_text("not asked for here")
    urls = []
    for _ in range(2):
        words = [sys.executable, AIRFLOW / "setup.py"]
        done = subprocess.run(words, env=os.environ | told, capture_output=True, timeout=60)
        assert done.returncode == 0 and done.stdout + done.stderr == b"", done.stderr
        urls.append((folder / "secrets" / "database_url").read_text())
    assert urls[0] == urls[1] and (folder / "secrets").stat().st_mode & 0o77 == 0
    made = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    assert json.loads(made["passwords.json"]) == {"bikecast": made["password"]}
    assert len({made["password"], made["jwt"], made["database_password"]}) == 3
    return urls[0]


@contextmanager
def refreshing(stage):
    """What `forecast --every` does beside a service, on a host."""
    with (stage.folder / "refresher.log").open("wb") as log:
        process = subprocess.Popen(
            [stage.folder / "bikecast", "forecast", "--every", "2s"], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_from_a_trigger_to_a_service_with_the_new_model(
    programs, stage, hosts, play, monkeypatch, tmp_path
):
    """And before it gets there: each way in which it may fail, with nothing promoted by any."""
    monkeypatch.setattr(training, "PAUSE", 0.5)
    told = {"BIKECAST_PROGRAM": str(stage.program(tmp_path / "bikecast"))}
    # Whatever a clock starts would be waited for.
    told |= {f"BIKECAST_{name}_SCHEDULE": "none" for name in ("TRAINING", "FORECAST")}
    told["BIKECAST_COMMIT"] = stage.bikecast["BIKECAST_COMMIT"]
    home = tmp_path / "airflow"
    home.mkdir()
    with running(programs, home, stage.airflow_database, told) as airflow:

        def train(*words, **more):
            given = {"url": airflow.url, "username": USERNAME, "password": PASSWORD} | more
            lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in given.items())
            env = parse_environment(f"{TEXT}[airflow]\n{lines}\n", "staging.toml", "staging", {})
            return env, play(hosts, "train", *words, env=env)

        _, refused = train(password="falsch-geraten")
        assert refused.code == 3 and "refuses the login of 'bikecast'" in refused.err
        a_task_that_fails_shows_why(stage, train)
        name = a_run_that_hangs_is_named(stage, train)
        mlflow_down_at_promotion(stage, hosts, train, name)
        env = the_service_answers_with_the_new_model(stage, hosts, train, name)
        the_gate_says_no(stage, train)
        with airflow_client() as client:
            the_run_says_where_the_model_is_from(Airflow(env.airflow, client), name)
            (stage.folder / "fails").touch()
            starts_a_run_once(Airflow(env.airflow, client), "of-the-contract")
        assert PASSWORD not in airflow.log and stage.store.url not in airflow.log
    _, gone = train()
    assert gone.code == 3 and "Airflow does not answer on" in gone.err


def versions(stage):
    """The versions that are registered, and their aliases."""
    asked = [stage.folder / "bikecast", "model", "list", "--json"]
    found = json.loads(subprocess.run(asked, capture_output=True, check=True, timeout=120).stdout)
    return {each["version"]: each["aliases"] for each in found}


def a_task_that_fails_shows_why(stage, train):
    """The words of `bikecast` itself, out of Airflow's log; it is not tried again in vain."""
    (stage.folder / "fails").touch()
    _, done = train()
    (stage.folder / "fails").unlink()
    assert done.code == 3 and "no system 'nowhere'" in done.err, done.err
    assert "failed: its task train failed; nothing was promoted" in done.err


def a_run_that_hangs_is_named(stage, train):
    """Its name; it goes on until somebody lets it."""
    (stage.folder / "hangs").touch()
    _, done = train(time_limit=TOKENS_LAST + 5)
    assert done.code == 3 and "is not over after 10 s" in done.err, done.err
    assert "train running" in done.err and versions(stage) == {}
    return done.err.rpartition("--run ")[2].split("`")[0]


def mlflow_down_at_promotion(stage, hosts, train, name):
    """The same run is taken up again, past several tokens; its version passes and stays out."""
    for host in hosts:
        stage.program(host.docker / "bikecast", BIKECAST_MLFLOW_TRACKING_URI=NOWHERE)
    threading.Timer(TOKENS_LAST, (stage.folder / "hangs").unlink).start()
    _, done = train("--run", name)
    assert (
        done.code == 3 and "version 1 passes the gate, and was not promoted" in done.err
    ), done.err
    assert f"then `inv train --env staging --run {name}`" in done.err
    assert versions(stage) == {"1": ["challenger"]}


def the_service_answers_with_the_new_model(stage, hosts, train, name):
    """Once MLflow is back, the command that was told; within a minute, without a restart."""
    for host in hosts:
        stage.program(host.docker / "bikecast")
    with refreshing(stage):
        env, done = train("--run", name)
        assert done.code == 0 and "version 1 is in production: MAE " in done.out, done.err
        assert versions(stage) == {"1": ["production"]}
        settings = {"BIKECAST_SYSTEM": "jc"}
        with live(stage.store.url, stage.folder / "kept", settings=settings) as service:
            until(lambda: service.ready().get("status") == "ok", 60)
            told = httpx.get(f"{service.url}/model").json()
    assert told["version"] == "1"
    return env


def the_gate_says_no(stage, train):
    """The same data once more are no gain: exit code 1, and what is in production stays."""
    _, done = train()
    assert done.code == 1, done.err
    assert "version 2 does not pass the gate and stays out of production: data newer" in done.err
    assert versions(stage) == {"1": ["production"], "2": ["challenger"]}


def the_run_says_where_the_model_is_from(airflow, name):
    """In its note, which people see beside it."""
    note = airflow._ask("GET", f"/dagRuns/{name}")["note"]
    assert note.startswith("started by ")
    for line in ("version: 1", "verdict: promote", "data until: 2021-0", "commit: 0123456789ab"):
        assert f"\n- {line}" in note
