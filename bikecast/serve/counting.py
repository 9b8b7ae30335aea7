"""Where the workers of a service count side by side, for its metrics."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from prometheus_client import values

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder, as prometheus_client calls it."""
PREFIX: Final = "bikecast-metrics-"
STARTING: Final = 60
"""Seconds after which a service holds the lock of its folder, if it lives."""
KINDS: Final = ("counter", "histogram")
FIRST_SIZE: Final = 1 << 16
"""Bytes; a place grows by itself."""


class Places:
    """One place to count for each worker; who comes after one that ended counts on in his.

    So nothing that was counted is lost, and workers that crash for years leave no more behind than
    those that run at once.

    :param folder: in which prometheus_client looks for what all of them counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def before_fork(self, server: Any, worker: Any) -> None:
        """Give a worker that is about to be there the lowest place that no living one has."""
        taken = {other.place for other in server.WORKERS.values()}
        worker.place = min(set(range(len(taken) + 1)) - taken)
        for kind in KINDS:
            file = self.folder / f"{kind}_{worker.place}.db"
            if not file.exists():
                self._make(file)

    def after_fork(self, server: Any, worker: Any) -> None:
        """Let all that this worker counts from now on go to its place."""
        values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
            lambda: worker.place
        )

    def _make(self, file: Path) -> None:
        """In memory of its own: a page of a file that its full disk cannot hold ends its process.

        That memory belongs to no file system, /dev/shm neither; the folder has but a link to it.
        """
        if sys.platform == "linux":
            memory = os.memfd_create(file.name)
            self._open.callback(os.close, memory)
            file.symlink_to(f"/proc/{os.getpid()}/fd/{memory}")
        else:
            file.touch()
        os.truncate(file, FIRST_SIZE)


@contextmanager
def counting() -> Iterator[Places]:
    """A folder of places, named for prometheus_client before any worker is there."""
    memory = Path("/dev/shm")  # nosec B108  # a folder of its own is made in it
    where = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(where)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=where) as folder:
        with (Path(folder) / "service.lock").open("wb") as lock, Places(Path(folder)) as places:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.environ[FOLDER] = folder
            try:
                yield places
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
