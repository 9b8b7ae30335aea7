"""A real MLflow tracking server for the time of a ``with`` block."""

import os
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


@contextmanager
def tracking_server(
    store: str, folder: Path, host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    """Its URL, once it answers.

    :param store: the database of runs and versions.
    :param folder: where it keeps the files of models.
    :param port: a free one where none is given.
    """
    with socket.socket() as free:
        free.bind((host, 0))
        port = port or free.getsockname()[1]
    url = f"http://{host}:{port}"
    words = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    words += ["--workers", "1", "--host", host, "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words],
        env=os.environ | QUIET,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < until, "it does not start"
        try:
            if APART.get(f"{url}/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
