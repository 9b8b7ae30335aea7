"""The folder in which the workers of a service count side by side, for its metrics."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names it, as prometheus_client calls it."""
PREFIX: Final = "bikecast-metrics-"
STARTING: Final = 60
"""Seconds after which a service holds the lock of its folder, if it lives."""


@contextmanager
def counting() -> Iterator[None]:
    """A folder in which the workers count side by side, set before any of them is there.

    In memory where there is such a folder: what is mapped from a disk ends its process when that
    is full, and disks fill up sooner.
    """
    memory = Path("/dev/shm")  # nosec B108  # a folder of its own is made in it
    where = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(where)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=where) as folder:
        with (Path(folder) / "service.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.environ[FOLDER] = folder
            try:
                yield
            finally:
                del os.environ[FOLDER]


def _sweep(where: Path) -> None:
    """Remove what services that were killed have left: nobody holds its lock."""
    for lock in where.glob(f"{PREFIX}*/service.lock"):
        try:
            if time.time() - lock.stat().st_mtime < STARTING:
                continue
            with lock.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent)
        except OSError:
            continue  # another's, or in use
