"""Bring in a month of New York's size and hold the memory it takes against the promise.

Run by `nox -s bench`; exits 1 where the promise is broken.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

RIDES = 4_000_000
STATIONS = 2_100
MOST_MEMORY = 1.5  # GB, of the import without its database


def made_up_month(path: Path) -> None:
    """Rides of May 2024 between made-up stations, in the modern schema, sorted by start."""
    rng = np.random.default_rng(1)
    ids = pl.Series([f"{4000 + i // 10}.{i % 10:02d}" for i in range(STATIONS)])
    names = pl.Series([f"Street {i} & Avenue {i % 97}" for i in range(STATIONS)])
    lat, lon = (pl.Series(c + rng.uniform(0, 0.25, STATIONS)) for c in (40.6, -74.05))
    start = np.sort(rng.integers(0, 31 * 86_400, RIDES))
    took = rng.integers(60, 2_400, RIDES)
    columns = {"ride_id": [f"{n:016X}" for n in rng.integers(0, 2**63 - 1, RIDES)]}
    for name, seconds in (("started_at", start), ("ended_at", start + took)):
        moments = np.datetime64(datetime(2024, 5, 1), "ms") + seconds * np.timedelta64(1000, "ms")
        columns[name] = pl.Series(moments).dt.strftime("%Y-%m-%d %H:%M:%S")
    for end in ("start", "end"):
        at = rng.integers(0, STATIONS, RIDES)
        columns |= {f"{end}_station_id": ids.gather(at), f"{end}_station_name": names.gather(at)}
        columns |= {f"{end}_lat": lat.gather(at), f"{end}_lng": lon.gather(at)}
    pl.DataFrame(columns).write_csv(path)


def import_month(folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of the import of a month, on an embedded PostgreSQL."""
    path = folder / "month.csv"
    subprocess.run(
        [sys.executable, __file__, "--make", str(path)], check=True
    )  # in a process of its own: its memory is not the import's
    words = ["import", "trips", str(path), "--system", "month", "--timezone", "America/New_York"]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bikecast", *words, "--json"],
        env=os.environ | {"BIKECAST_DATA_DIR": str(folder / "home"), "BIKECAST_DATABASE_URL": ""},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0 and report[0]["rows_used"] == RIDES
    return time.monotonic() - began, used.ru_maxrss / 2**20


def main() -> int:
    """Print the machine and what was measured; 1 where the bar is missed."""
    if sys.argv[1:2] == ["--make"]:
        made_up_month(Path(sys.argv[2]))
        return 0
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        seconds, memory = import_month(Path(name))
    held = memory < MOST_MEMORY
    print(f"{RIDES:,} rides imported in {seconds:.0f} s with {memory:.2f} GB (< {MOST_MEMORY} GB)")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
