"""The service beside bare Flask and `mlflow models serve`, in turn on this machine.

Run by `nox -s bench -- serve`; needs wrk; exits 1 where a bar is missed. Each server has two
workers, and is asked over loopback by eight connections; a figure is the median of five rounds,
in each of which every server is asked once. `serve.py short` is for a first look: seconds under
load where the promise has five minutes.
"""

import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import polars as pl

from bikecast.cli.terminal import print_table
from bikecast.embedded import EmbeddedPostgres
from bikecast.history import HOUR
from bikecast.models.naive import SeasonalNaive
from bikecast.records import QUANTILE_COLUMNS, TARGETS, Issue, Station, System
from bikecast.registry import Registry, TrainingRun
from bikecast.store import FileSeen, Store, ensure_database

CITY = System("bench", "A made-up city", "America/New_York", "US-NY", simulated=True)
START = datetime(2018, 7, 16)
STATIONS, HOURS = 2_200, 168
WORKERS, THREADS, CONNECTIONS = 2, 4, 8
ROUNDS, SECONDS = 5, 8
SOAK = 300  # seconds

LEAST_OF_FLASK = 0.70  # of its requests per second
LEAST_TO_MLFLOW = 20.0
LONGEST_P99 = 10.0  # ms, at half of the most requests per second
LONGEST_BATCH = 60.0  # ms, of 1,000
LONGEST_START = 3.0  # seconds
MOST_MEMORY = 250.0  # MB of a worker, what it shares counted in parts
MOST_GROWTH = 0.03

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

WRK = """
local bodies, n = {{{bodies}}}, 0
wrk.method, wrk.path = "POST", "{path}"
wrk.headers["Content-Type"] = "application/json"
function request()
  n = n % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
function delay() return {delay} end
function done(summary, latency)
  local bad = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format("FOUND %f %f %d\\n",
    summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000, bad))
end
"""


@dataclass(frozen=True)
class Asked:
    """What wrk found.

    :param rate: requests per second; :param p99: ms; :param failed: answers that were no 2xx.
    """

    rate: float
    p99: float
    failed: int


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
    issue = Issue(CITY.system_id, datetime.now(UTC), START.replace(tzinfo=UTC), "naive", "1")
    store.save_issue(issue, frame())


def questions() -> list[str]:
    """Bodies for `/predict`: many stations, many hours."""
    rng = np.random.default_rng(2)
    return [
        json.dumps(
            {
                "station_id": station_id(int(rng.integers(STATIONS))),
                "timestamp": (START + int(rng.integers(HOURS)) * HOUR).isoformat(),
            }
        )
        for _ in range(500)
    ]


def ask(
    url: str, path: str, bodies: list[str], seconds: int = SECONDS, rate: float | None = None
) -> Asked:
    """Let wrk ask a server for a while; the same questions in turn on each connection.

    :param rate: requests per second that all connections together aim at; None: as fast as it goes.
    """
    delay = 0 if rate is None else round(CONNECTIONS / rate * 1000)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        quoted = ",".join(json.dumps(body) for body in bodies)
        script.write(WRK.format(bodies=quoted, path=path, delay=delay))
        script.flush()
        words = ("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s")
        done = subprocess.run(
            [*words, "-s", script.name, url], capture_output=True, text=True, check=True
        )
    found = re.search(r"FOUND (\S+) (\S+) (\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return Asked(float(found[1]), float(found[2]), int(found[3]))


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


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code in (200, 405)
    except httpx.HTTPError:
        return False


def ours(folder: Path, database: str) -> Program:
    """`bikecast serve` as it is installed."""
    port = free_port()
    words = [sys.executable, "-m", "bikecast", "serve", "--bind", f"127.0.0.1:{port}"]
    settings = {
        "BIKECAST_DATABASE_URL": database,
        "BIKECAST_DATA_DIR": str(folder / "data"),
        "BIKECAST_SYSTEM": CITY.system_id,
        "BIKECAST_WORKERS": str(WORKERS),
    }
    return Program(words, port, "/ready", settings)


def bare(folder: Path, body: str) -> Program:
    """Flask with nothing around it, under the same gunicorn."""
    (folder / "bare.py").write_text(BARE.format(body=body))
    port = free_port()
    options = ("--worker-class", "gthread", "--threads", str(THREADS), "--workers", str(WORKERS))
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


def panel_question() -> list[str]:
    """What MLflow's server is asked: a station's last two weeks, for an hour."""
    hours = [START - (i + 1) * HOUR for i in reversed(range(15 * 24))]
    rows = [[station_id(0), hour.isoformat(), 2.0, 3.0] for hour in hours]
    columns = ["station_id", "hour", "pickups", "returns"]
    return [
        json.dumps(
            {"dataframe_split": {"columns": columns, "data": rows}, "params": {"horizon": 1}}
        )
    ]


def memory(process: subprocess.Popen[bytes]) -> float:
    """MB of the largest worker: PSS, so that what is shared counts in parts."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = []
    for pid in path.read_text().split():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert match
        found.append(int(match[1]) / 1000)
    return max(found)


def batch_ms(url: str) -> float:
    """The median time of a batch of 1,000."""
    asked = [json.loads(body) for body in (questions() * 2)[:1000]]
    took = []
    with httpx.Client(base_url=url) as client:
        for _ in range(20):
            began = time.monotonic()
            answer = client.post("/predict/batch", json={"predictions": asked})
            took.append((time.monotonic() - began) * 1000)
            assert answer.status_code == 200
    return statistics.median(took)


def main(words: list[str]) -> None:
    """Measure, print, and hold against the bars."""
    if not shutil.which("wrk"):
        raise SystemExit("no wrk here: install it, as in `apt install wrk`")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres")).url
        fill(Store(database))
        service = ours(folder, database)
        with started(service, folder) as (_, first_start):
            body = httpx.post(service.url + "/predict", content=questions()[0]).text
        process, start = stack.enter_context(started(service, folder))
        flask, rival = bare(folder, body), mlflow(folder, database)
        for other in (flask, rival):
            stack.enter_context(started(other, folder))
        asks = {
            "bare Flask": (flask.url, "/predict", questions()),
            "mlflow models serve": (rival.url, "/invocations", panel_question()),
            "bikecast serve": (service.url, "/predict", questions()),
        }
        found: dict[str, list[Asked]] = {name: [] for name in asks}
        for _ in range(ROUNDS):
            for name, (at, path, bodies) in asks.items():
                found[name].append(ask(at, path, bodies))
        rates = {name: statistics.median(a.rate for a in all_) for name, all_ in found.items()}
        half = ask(service.url, "/predict", questions(), rate=rates["bikecast serve"] / 2)
        batch, before = batch_ms(service.url), memory(process)
        soaked = ask(service.url, "/predict", questions(), SECONDS if "short" in words else SOAK)
        growth = memory(process) / before - 1
    rows = [
        [name, f"{rates[name]:.0f}", f"{statistics.median(a.p99 for a in found[name]):.1f}"]
        for name in asks
    ]
    print_table("8 connections, 2 workers", ["", "requests/s", "p99, ms"], rows)
    failed = sum(a.failed for all_ in found.values() for a in all_) + half.failed + soaked.failed
    ratio = rates["bikecast serve"] / rates["bare Flask"]
    times = rates["bikecast serve"] / rates["mlflow models serve"]
    bars = [
        (f"of bare Flask's requests/s: {ratio:.2f}, {LEAST_OF_FLASK}", ratio >= LEAST_OF_FLASK),
        (f"times those of mlflow: {times:.0f}, {LEAST_TO_MLFLOW:.0f}", times >= LEAST_TO_MLFLOW),
        (f"p99 at {half.rate:.0f}/s, ms: {half.p99:.1f}, {LONGEST_P99}", half.p99 < LONGEST_P99),
        (f"a batch of 1,000, ms: {batch:.0f}, {LONGEST_BATCH:.0f}", batch < LONGEST_BATCH),
        (f"first start, seconds: {first_start:.1f}, {LONGEST_START}", first_start < LONGEST_START),
        (f"start with a kept table: {start:.1f}, {LONGEST_START}", start < LONGEST_START),
        (f"MB of a worker: {before:.0f}, {MOST_MEMORY:.0f}", before < MOST_MEMORY),
        (f"growth under load: {growth:.3f}, {MOST_GROWTH}", growth < MOST_GROWTH),
        (f"failed requests: {failed}, 0", failed == 0),
    ]
    for what, held in bars:
        print(f"{'held  ' if held else 'MISSED'}  {what}")
    sys.exit(0 if all(held for _, held in bars) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
