"""The servers that the bench of the service holds against each other, and what they serve."""

import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import numpy as np
import polars as pl

from bikecast.cli.cities import simulated
from bikecast.cli.models import issue_now
from bikecast.cli.open import opened
from bikecast.cli.terminal import Steps
from bikecast.config import Settings
from bikecast.history import HOUR
from bikecast.keys import new_key
from bikecast.models import MODELS
from bikecast.models.naive import SeasonalNaive
from bikecast.records import QUANTILE_COLUMNS, TARGETS, Issue, Station, System
from bikecast.registry import Registry, TrainingRun
from bikecast.store import FileSeen, Store, ensure_database
from bikecast.train import QUICK_ROWS, SERVING_GRID, data_hash

CITY = System("bench", "A made-up city", "America/New_York", "US-NY", simulated=True)
START = datetime(2018, 7, 16)
STATIONS, HOURS = 2_200, 168
WORKERS, THREADS = 2, 4
ANY_NUMBER = "1000000000"  # of requests a minute: limits count, and let all pass

BARE = """
import json
from flask import Flask, Response, request

app = Flask(__name__)
BODY = {body!r}

@app.post("/predict")
def predict():
    json.loads(request.get_data())
    return Response(BODY, mimetype="application/json")
"""


@dataclass(frozen=True)
class Program:
    """A server that can be started.

    :param ready: a path that answers once it is.
    """

    words: list[str]
    port: int
    ready: str
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def frame() -> pl.DataFrame:
    """A week of forecasts at all stations."""
    rng = np.random.default_rng(1)
    rows = STATIONS * HOURS * len(TARGETS)
    mean = rng.gamma(1, 4, rows)
    levels = np.sort(rng.poisson(mean[:, None], (rows, len(QUANTILE_COLUMNS))), axis=1)
    station, hour, target = np.unravel_index(np.arange(rows), (STATIONS, HOURS, len(TARGETS)))
    return pl.DataFrame(
        {
            "station_id": [station_id(i) for i in station.tolist()],
            "hour": [START + i * HOUR for i in hour.tolist()],
            "target": [TARGETS[i] for i in target.tolist()],
            "mean": mean.astype(np.float32),
            **{n: levels[:, i].astype(np.float32) for i, n in enumerate(QUANTILE_COLUMNS)},
        }
    )


def station_id(number: int) -> str:
    """As New York writes them."""
    return f"{number + 4000}.{number % 100:02}"


def fill(store: Store) -> None:
    """One system, and one forecast of it."""
    store.upgrade()
    store.add_system(CITY)
    stations = [Station(station_id(i), capacity=30) for i in range(STATIONS)]
    store.import_stations(
        CITY.system_id, FileSeen("made up", "-"), stations, len(stations), Counter()
    )
    store.save_issue(issued(), frame())


def issued() -> Issue:
    """A forecast that is issued now."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Issue(CITY.system_id, now, START.replace(tzinfo=UTC), "naive", "1")


def trained(folder: Path, database: str) -> System:
    """A made-up city of 24 stations with weather, and a forecast by the ensemble fitted to it."""
    steps = Steps()
    with opened(Settings(data_dir=folder / "data", database_url=database)) as found:
        system = simulated(found.store, steps, found.settings, date.today())
        history = found.store.history(system.system_id)
        model = MODELS["ensemble"]()
        model.fit(history, replace(SERVING_GRID, rows=QUICK_ROWS))
        days = history.start.isoformat(), history.as_of.isoformat()
        run = TrainingRun(system, "ensemble", {}, {}, *days, data_hash(history))
        found.registry.put_in_production(found.registry.register(model, run))
        issue_now(found, system.system_id)
    return system


def made_key(store: Store) -> str:
    """A key that is valid."""
    text, key = new_key("bench")
    store.keys.add(key, "bench")
    return text


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        port: int = asking.getsockname()[1]
        return port


@contextmanager
def started(program: Program, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A server in a process of its own, and the seconds until it was ready."""
    began = time.monotonic()
    told = folder / f"{program.port}.log"
    with told.open("wb") as log:
        process = subprocess.Popen(
            program.words,
            cwd=folder,
            env=os.environ | program.environment,
            stdout=log,
            stderr=log,
        )
        try:
            while not _answers(program.url + program.ready):
                if process.poll() is not None or time.monotonic() - began > 120:
                    raise SystemExit(f"{program.words[2]} does not start: {told.read_text()}")
                time.sleep(0.02)
            yield process, time.monotonic() - began
        finally:
            process.terminate()
            process.wait(30)


def memory(process: "subprocess.Popen[bytes]") -> float:
    """MB of the largest worker: PSS, so that what is shared counts in parts."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = []
    for pid in path.read_text().split():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert match
        found.append(int(match[1]) / 1000)
    return max(found)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code in (200, 405)
    except httpx.HTTPError:
        return False


def ours(
    folder: Path,
    database: str,
    system: System = CITY,
    *,
    guarded: bool = True,
    logged: bool = True,
) -> Program:
    """`bikecast serve` as it is installed.

    :param guarded: a key is required, and limits count; :param logged: each request is logged.
    """
    port = free_port()
    words = [sys.executable, "-m", "bikecast", "serve", "--bind", f"127.0.0.1:{port}"]
    settings = {
        "BIKECAST_DATABASE_URL": database,
        "BIKECAST_DATA_DIR": str(folder / "data"),
        "BIKECAST_SYSTEM": system.system_id,
        "BIKECAST_WORKERS": str(WORKERS),
    }
    if guarded:
        settings |= {
            "BIKECAST_REQUIRE_KEY": "true",
            "BIKECAST_KEY_LIMIT": ANY_NUMBER,
            "BIKECAST_ADDRESS_LIMIT": ANY_NUMBER,
        }
    if logged:
        settings["BIKECAST_LOG_FORMAT"] = "json"
    return Program(words, port, "/ready", settings)


def bare(folder: Path, body: str) -> Program:
    """Flask with nothing around it, under the same gunicorn."""
    (folder / "bare.py").write_text(BARE.format(body=body))
    port = free_port()
    worker = "bikecast.serve.hurry.PunctualWorker"
    options = ("--worker-class", worker, "--threads", str(THREADS), "--workers", str(WORKERS))
    words = [sys.executable, "-m", "gunicorn", *options, "--bind", f"127.0.0.1:{port}", "bare:app"]
    return Program(words, port, "/predict", {"PYTHONPATH": str(folder)})


def mlflow(folder: Path, database: str) -> Program:
    """MLflow's own server of a registered model."""
    uri = ensure_database(database, "mlflow")
    run = TrainingRun(CITY, "naive", {}, {}, "2018-06-01", "2018-07-16", "-")
    registry = Registry(uri, "bench", folder / "models")
    version = registry.register(SeasonalNaive(), run)
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    words += ["--model-uri", f"models:/bench/{version.version}", "--port", str(port)]
    words += ["--workers", str(WORKERS)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "1", "MLFLOW_TRACKING_URI": uri}
    # It starts uvicorn by its bare name.
    quiet["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return Program(words, port, "/ping", quiet)
