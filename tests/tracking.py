"""A real MLflow tracking server for the time of a ``with`` block, and one that a test may kill."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from asking import APART

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class OwnMlflow:
    """A tracking server for the time of a ``with`` block.

    :param store: the database of runs and versions.
    :param folder: where it keeps the files of models.
    :param port: a free one where none is given.
    """

    def __init__(self, store: str, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        with socket.socket() as free:
            free.bind((host, 0))
            port = port or free.getsockname()[1]
        self.url = f"http://{host}:{port}"
        self._words = ["--backend-store-uri", store, "--workers", "1"]
        self._words += ["--artifacts-destination", str(folder / "artifacts")]
        self._words += ["--host", host, "--port", str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "OwnMlflow":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; waits until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *self._words],
            env=os.environ | QUIET,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _wait_for(self._process, self.url)

    def kill(self) -> None:
        """SIGKILL it and all that it has started."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)

    def freeze(self) -> None:
        """SIGSTOP it, and all: who connects, or asks, waits."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


@contextmanager
def tracking_server(
    store: str, folder: Path, host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    """Its URL, once it answers; what is asked for is as above."""
    with OwnMlflow(store, folder, host, port) as server:
        yield server.url


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < until, "it does not start"
        try:
            if APART.get(f"{url}/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
