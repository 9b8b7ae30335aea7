"""The service beside bare Flask and `mlflow models serve`, in turn on this machine.

Run by `nox -s bench -- serve`; needs wrk; exits 1 where a bar is missed. Each server has two
workers, and is asked over loopback by eight connections; a figure is the median of five rounds,
in each of which every server is asked once. Ours requires a key, counts limits and logs each
request, but where the table says otherwise. Before the others start, five new forecasts are stored
while ours is asked. `serve.py short` is for a first look: seconds under load where the promise has
five minutes.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from servers import (
    HOURS,
    START,
    STATIONS,
    WORKERS,
    bare,
    fill,
    made_key,
    memory,
    mlflow,
    ours,
    started,
    station_id,
    trained,
)
from swaps import Swap, swaps
from wrk import CONNECTIONS, SECONDS, Asked, Questions

from bikecast.cli.terminal import print_table
from bikecast.embedded import EmbeddedPostgres
from bikecast.history import HOUR
from bikecast.store import Store

ROUNDS = 5
SOAK = 300  # seconds

LEAST_OF_FLASK = 0.70  # of its requests per second
LEAST_OPEN = 0.85  # without keys, limits and logs
LEAST_WHAT_IF = 0.40
LEAST_TO_MLFLOW = 20.0
LONGEST_P99 = 10.0  # ms, at half of the most requests per second
LONGEST_BATCH = 60.0  # ms, of 1,000
LONGEST_START = 3.0  # seconds
MOST_MEMORY = 250.0  # MB of a worker, what it shares counted in parts
MOST_GROWTH = 0.03
LONGEST_SWAP = 5.0  # seconds from the commit of an issue to the last answer from the one before
SLOWEST = 50.0  # ms, of any request meanwhile


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


def what_ifs(asked: Questions) -> list[str]:
    """Bodies with weather of their own, each station once in each worker already."""
    rng = np.random.default_rng(3)
    with asked.client() as client:
        first = datetime.fromisoformat(client.get("/model").json()["table"]["first"])
        ids = [s["station_id"] for s in client.get("/stations").json()["stations"]]

    def one(station: str) -> str:
        when = first + timedelta(hours=int(rng.integers(24)))
        weather = {"temperature": round(rng.uniform(5, 30), 1), "precipitation": 1.5}
        return json.dumps(
            {"station_id": station, "timestamp": when.isoformat(), "weather": weather}
        )

    for _ in range(10):  # each on a connection of its own: one of the workers takes it
        for station in ids:
            with asked.client() as client:
                client.post("/predict", content=one(station)).raise_for_status()
    return [one(str(station)) for station in rng.choice(ids, 500)]


def batch_ms(asked: Questions) -> float:
    """The median time of a batch of 1,000."""
    bodies = [json.loads(body) for body in (questions() * 2)[:1000]]
    took = []
    with asked.client() as client:
        for _ in range(20):
            began = time.monotonic()
            answer = client.post("/predict/batch", json={"predictions": bodies})
            took.append((time.monotonic() - began) * 1000)
            assert answer.status_code == 200
    return median(took)


def measured(stack: ExitStack, soak: int) -> tuple[dict[str, list[Asked]], dict[str, Any]]:
    """Start all servers, and ask them in turn: what each round found, and single figures."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    database = stack.enter_context(EmbeddedPostgres(folder / "postgres")).url
    store = Store(database)
    fill(store)
    keyed = {"Authorization": f"Bearer {made_key(store)}"}
    service = ours(folder, database)
    guarded = Questions(service.url, questions(), headers=keyed)
    with started(service, folder) as (process, first_start):
        # Before the others start, whose workers would share the work and the memory.
        swapped = swaps(store, guarded, process)
        with guarded.client() as client:
            body = client.post("/predict", content=guarded.bodies[0]).raise_for_status()
    process, start = stack.enter_context(started(service, folder))
    programs = {
        "bare Flask": bare(folder, body.text),
        "mlflow models serve": mlflow(folder, database),
        "unlogged": ours(folder, database, logged=False),
        "open": ours(folder, database, guarded=False, logged=False),
        "what-if": ours(folder, database, trained(folder, database)),
    }
    running = {n: stack.enter_context(started(p, folder))[0] for n, p in programs.items()}
    imagining = Questions(programs["what-if"].url, [], headers=keyed)
    asks = {
        "bare Flask": Questions(programs["bare Flask"].url, questions()),
        "mlflow models serve": Questions(
            programs["mlflow models serve"].url, panel_question(), "/invocations"
        ),
        "bikecast serve": guarded,
        "… without logs": Questions(programs["unlogged"].url, questions(), headers=keyed),
        "… without keys, limits, logs": Questions(programs["open"].url, questions()),
        "… asked for what-ifs": Questions(imagining.url, what_ifs(imagining), headers=keyed),
    }
    found: dict[str, list[Asked]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, asked in asks.items():
            found[name].append(asked.ask())
    half = guarded.ask(rate=median(a.rate for a in found["bikecast serve"]) / 2)
    batch, before = batch_ms(guarded), memory(process)
    soaked = guarded.ask(soak)
    return found, {
        "half": half,
        "batch": batch,
        "swaps": swapped,
        "first_start": first_start,
        "start": start,
        "memory": max(before, memory(running["what-if"]), *(s.memory for s in swapped)),
        "growth": memory(process) / before - 1,
        "failed": sum(a.failed for all_ in found.values() for a in all_)
        + half.failed
        + soaked.failed
        + sum(s.during.failed + s.without.failed for s in swapped),
    }


def print_swaps(found: list[Swap]) -> None:
    """Each new issue under load, beside as long a time without one."""
    rows = [
        [
            f"{swap.seconds:.1f}",
            f"{swap.memory:.0f}",
            *(f"{ms:.1f}" for ms in (swap.during.p99, swap.without.p99)),
            *(f"{ms:.1f}" for ms in (swap.during.slowest, swap.without.slowest)),
        ]
        for swap in found
    ]
    columns = ["in use after, s", "MB of a worker", "p99, ms", "without", "slowest, ms", "without"]
    print_table(f"New issues at {found[0].during.rate:.0f} requests/s", columns, rows)


def main(words: list[str]) -> None:
    """Measure, print, and hold against the bars."""
    if not shutil.which("wrk"):
        raise SystemExit("no wrk here: install it, as in `apt install wrk`")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with ExitStack() as stack:
        found, one = measured(stack, SECONDS if "short" in words else SOAK)
    rates = {name: median(a.rate for a in all_) for name, all_ in found.items()}
    rows = [
        [
            name,
            f"{rate:.0f}",
            f"{WORKERS / rate * 1e6:.0f}",
            f"{median(a.p99 for a in found[name]):.1f}",
        ]
        for name, rate in rates.items()
    ]
    columns = ["", "requests/s", "µs of a worker", "p99, ms"]
    print_table(f"{CONNECTIONS} connections, {WORKERS} workers", columns, rows)
    swapped = one["swaps"]
    print_swaps(swapped)
    ours_, _, open_, imagined = list(rates.values())[2:]
    flask, rival, half = rates["bare Flask"], rates["mlflow models serve"], one["half"]
    bars = [
        ("of bare Flask's requests/s", ours_ / flask, ">=", LEAST_OF_FLASK),
        ("of them without keys, limits, logs", open_ / flask, ">=", LEAST_OPEN),
        ("of them asked for what-ifs", imagined / flask, ">=", LEAST_WHAT_IF),
        ("times those of mlflow", ours_ / rival, ">=", LEAST_TO_MLFLOW),
        (f"p99 at {half.rate:.0f}/s, ms", half.p99, "<", LONGEST_P99),
        ("a batch of 1,000, ms", one["batch"], "<", LONGEST_BATCH),
        ("first start, seconds", one["first_start"], "<", LONGEST_START),
        ("start with a kept table, seconds", one["start"], "<", LONGEST_START),
        ("MB of a worker", one["memory"], "<", MOST_MEMORY),
        ("growth under load", one["growth"], "<", MOST_GROWTH),
        ("a new forecast in use, seconds", max(s.seconds for s in swapped), "<", LONGEST_SWAP),
        ("p99 meanwhile, ms", median(s.during.p99 for s in swapped), "<", LONGEST_P99),
        ("slowest meanwhile, ms", median(s.during.slowest for s in swapped), "<", SLOWEST),
        ("failed requests", one["failed"], "<", 1),
    ]
    held = [figure >= bar if sign == ">=" else figure < bar for _, figure, sign, bar in bars]
    for (what, figure, sign, bar), good in zip(bars, held, strict=True):
        print(f"{'held  ' if good else 'MISSED'}  {what}: {figure:.2f} {sign} {bar}")
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
