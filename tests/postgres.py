"""A PostgreSQL that a test may kill, and freeze: the embedded one's programs, on a port."""

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from live import children, until

from bikecast.embedded import EmbeddedPostgres

GONE = ("Z", "X", "")
"""States of a process that holds nothing any more, buried or not."""


class OwnPostgres:
    """A server for the time of a ``with`` block.

    :param folder: its data folder.
    """

    def __init__(self, folder: Path) -> None:
        with EmbeddedPostgres(folder):
            """It makes the cluster, and a user for it where we are root."""
        self._data = folder / "postgres"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql+psycopg2://postgres@127.0.0.1:{self._port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "OwnPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; waits until it answers."""
        words = shlex.split((self._data / "postmaster.opts").read_text())
        words += ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self._port}", "-c", "fsync=off"]
        owner = self._data.stat()
        root = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        with (self._data.parent / "own.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, **(root if os.geteuid() == 0 else {})
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg2.connect(self.url.replace("+psycopg2", "")).close()
            except psycopg2.OperationalError:
                assert (
                    self._process.poll() is None and time.monotonic() < deadline
                ), "it does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL it and all that it has started; waits until they are gone."""
        killed = self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)
        # Who is left holds its port, and its memory.
        until(lambda: all(state(pid) in GONE for pid in killed))

    def freeze(self) -> None:
        """SIGSTOP it, and all: who connects, or asks, waits."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[int]:
        """Send it to all; the processes that they are."""
        assert self._process is not None
        if self._process.poll() is not None:
            return []
        pid = self._process.pid
        # While the one that makes others, and buries them, is stopped, they stay the same.
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state(pid) in ("T", *GONE))
        every = [*children(pid), pid]
        for each in every:
            os.kill(each, number)
        return every


def state(pid: int) -> str:
    """The letter of what a process does, as `ps` tells it; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def database_gone(url: str) -> Iterator[None]:
    """Close a database to everybody and end all connections to it."""
    name = sa.make_url(url).database
    admin = sa.create_engine(
        sa.make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": name},
        )
        try:
            yield
        finally:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    admin.dispose()
