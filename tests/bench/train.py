"""Train on ever more stations, and hold time and memory against the promise; then the rival.

Run by `nox -s bench -- train`; exits 1 where a bar is missed. `train.py 300 1000` measures other
sizes than those of the promise, without the rival. Every measurement has a process of its own, so
that its peak of memory is its own. What takes seconds is measured three times, and the fastest
counts: whatever else a machine does only ever adds.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bikecast.cli.terminal import print_table
from bikecast.history import History, build_history
from bikecast.models import MODELS
from bikecast.models.frames import forecast_frame
from bikecast.models.learned import SEED, YEAR_DAYS
from bikecast.models.rows import learning_rows
from bikecast.panels import read_panel
from bikecast.records import MAX_HORIZON, TARGETS, System
from bikecast.train import ROWS, SERVING_GRID

PANEL = "panel/nyc30_long_2017-01_2018-10-07.parquet"
NEW_YORK = System("new-york", timezone="America/New_York", holidays="US-NY")
MODEL = "ensemble"
RIVAL = Path(__file__).with_name("mlforecast_rival.py")
SIZES = (300, 1_000, 2_200)  # stations
DAYS = 730
YEAR = 364  # days until the same weekday of the next year
MOST_GROWTH = 1.15  # of what a million station-hours take, from one size to the next
LONGEST_TRAINING = 30 * 60.0  # seconds, for the largest size
MOST_MEMORY = 16.0  # GiB
LONGEST_FORECAST = 20.0  # seconds, for all stations, 168 hours and both targets
TIMES = 3


@dataclass(frozen=True)
class Cost:
    """What a piece of work took: seconds, and the peak of its process in GiB."""

    what: str
    stations: int
    seconds: float
    memory: float

    @property
    def million_hours(self) -> float:
        """Station-hours of the panel, in millions."""
        return self.stations * DAYS * 24 / 1e6


def panel_file() -> Path:
    """Where the panel is, if it is there."""
    default = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("BIKECAST_SHARED_DATA", default)) / PANEL


def read_history() -> History:
    """The panel as it is."""
    frame, _ = read_panel(panel_file(), datetime.now(), Counter())
    return build_history(frame, NEW_YORK)


def tiled(history: History, stations: int) -> History:
    """The panel's stations again and again, for two years: what they lack is the year before's."""
    weeks = history.known // 168 * 7
    day = np.arange(DAYS)
    day = np.where(day < weeks, day, day - YEAR)
    hours = (day[:, None] * 24 + np.arange(24)).ravel()
    place = np.arange(stations) % len(history.stations)
    names = tuple(
        replace(history.stations[k], station_id=f"{history.stations[k].station_id}-{i}")
        for i, k in enumerate(place)
    )
    return replace(history, stations=names, flows=history.flows[place][:, hours], known=len(hours))


def in_own_process(work: Callable[..., Any], *given: Any) -> Any:
    """The result of a function that runs in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def measure(what: str, stations: int, work: Callable[[History], Any]) -> tuple[Cost, Any]:
    """What the work costs on the tiled panel, which is read before, and its result."""
    history = tiled(read_history(), stations)
    began = time.monotonic()
    found = work(history)
    seconds = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Cost(what, stations, seconds, memory), found


def features(history: History) -> None:
    """The rows that training learns from."""
    year = history.known >= YEAR_DAYS * 24
    learning_rows(history, SERVING_GRID, ROWS, SEED, time_of_year=year)


def training(history: History) -> Any:
    """The model, fitted as it is for serving; finds its features anew."""
    model = MODELS[MODEL]()
    model.fit(history, replace(SERVING_GRID, rows=ROWS))
    return model


def forecasting(model: Any, history: History) -> None:
    """The forecast table of all stations, a week ahead."""
    origin = np.array([history.known])
    table = forecast_frame(model.predict(history, origin, MAX_HORIZON), history, origin)
    assert len(table) == MAX_HORIZON * len(history.stations) * len(TARGETS)


def fastest(what: str, stations: int, work: Callable[[History], Any]) -> Cost:
    """What the fastest of several measurements took."""
    found = [in_own_process(measure, what, stations, work)[0] for _ in range(TIMES)]
    return min(found, key=lambda cost: cost.seconds)


def costs(stations: int) -> list[Cost]:
    """Of features, training and forecasting, each measured alone."""
    first = fastest("features", stations, features)
    second, model = in_own_process(measure, "training", stations, training)
    third = fastest(f"{MAX_HORIZON} h ahead", stations, partial(forecasting, model))
    return [first, second, third]


def growth(cost: Cost, smaller: Cost) -> float:
    """Seconds or memory per million station-hours, whichever grew more, relative to before."""
    ratios = (getattr(cost, name) / getattr(smaller, name) for name in ("seconds", "memory"))
    return max(ratios) * smaller.million_hours / cost.million_hours


def print_costs(found: list[Cost]) -> None:
    """One line per size and kind of work."""
    print_table(
        f"{MODEL}, {DAYS} days; per million station-hours",
        ["", "stations", "seconds", "GiB", "seconds per million", "MiB per million"],
        [
            [c.what, f"{c.stations:,}", f"{c.seconds:.1f}", f"{c.memory:.2f}"]
            + [f"{c.seconds / c.million_hours:.2f}", f"{1024 * c.memory / c.million_hours:.0f}"]
            for c in found
        ],
    )


def misses(sizes: list[list[Cost]]) -> list[str]:
    """The bars that were missed, in words."""
    found = [
        f"{cost.what} of {cost.stations:,} stations grew by {growth(cost, smaller):.2f}"
        for before, after in zip(sizes, sizes[1:], strict=False)
        for smaller, cost in zip(before, after, strict=True)
        if growth(cost, smaller) > MOST_GROWTH
    ]
    _, trained, forecast = sizes[-1]
    bars = {
        "training takes too long": trained.seconds < LONGEST_TRAINING,
        "training takes too much memory": trained.memory < MOST_MEMORY,
        "a forecast takes too long": forecast.seconds < LONGEST_FORECAST,
    }
    return found + [what for what, held in bars.items() if not held]


def main() -> int:
    """Print the machine and what was measured; 1 where a bar is missed."""
    if not panel_file().exists():
        print(f"nothing was measured: no {panel_file()}; set BIKECAST_SHARED_DATA")
        return 0
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        flush=True,
    )
    sizes = [costs(stations) for stations in map(int, sys.argv[1:] or SIZES)]
    print_costs([cost for size in sizes for cost in size])
    missed = misses(sizes)
    for what in missed:
        print(f"missed: {what}")
    rival = 0 if sys.argv[1:] else subprocess.run([sys.executable, RIVAL]).returncode
    return 1 if missed else rival


if __name__ == "__main__":
    sys.exit(main())
