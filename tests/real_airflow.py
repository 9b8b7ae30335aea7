"""A real Airflow in an environment of its own, on a real PostgreSQL, for the time of a test."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from asking import APART
from environments import make
from filelock import FileLock

AIRFLOW = Path(__file__).parents[1] / "deploy" / "airflow"
LOCK = AIRFLOW.parent / "locks" / "airflow.txt"
USERNAME, PASSWORD = "bikecast", "geheim-und-lang"  # pragma: allowlist secret: made up
TOKENS_LAST = 5  # seconds: less than a run takes
COMPONENTS = ("api-server", "scheduler", "dag-processor")
READY = 180.0  # seconds


def environment(shared: Path) -> Path:
    """The programs of an environment with what deploy/locks has for it; all workers share one.

    :param shared: a folder of this test session.
    """
    made = shared / "airflow-environment"
    with FileLock(shared / "airflow-environment.lock"):
        if not (made / "whole").exists():
            make(made, "--require-hashes", "--no-deps", "-r", str(LOCK))
            (made / "whole").touch()
    return made / "bin"


def settings(home: Path, database: str = "sqlite://") -> dict[str, str]:
    """What every component is told: those of deploy/compose.yaml, at this machine's places."""
    told = {
        "CORE__DAGS_FOLDER": str(AIRFLOW / "dags"),
        "CORE__PLUGINS_FOLDER": str(AIRFLOW / "plugins"),
        "CORE__LOAD_EXAMPLES": "false",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "2",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "API__WORKERS": "1",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
    }
    own = {
        k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "BIKECAST_", "PYTHON"))
    }
    return own | {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{k}": v for k, v in told.items()}


@dataclass
class Airflow:
    """A running one.

    :ivar log: what all its components say.
    """

    url: str
    folder: Path

    @property
    def log(self) -> str:
        """What its components said so far."""
        return "".join(p.read_text() for p in self.folder.glob("*.log"))


@contextmanager
def running(
    programs: Path, folder: Path, database: str, environ: Mapping[str, str]
) -> Iterator[Airflow]:
    """All components, ready to run; none is left behind.

    :param environ: more of their environment, which tasks have as well.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({USERNAME: PASSWORD}))
    environ = (
        settings(folder, database)
        | dict(environ)
        | {
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            # pragma: allowlist nextline secret: made up
            "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-alone-and-long-enough",
            "AIRFLOW__API_AUTH__JWT_EXPIRATION_TIME": str(TOKENS_LAST),
            "AIRFLOW__API_AUTH__JWT_LEEWAY": "0",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:op",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }
    )
    migrated = subprocess.run(
        [programs / "airflow", "db", "migrate"], env=environ, capture_output=True, text=True
    )
    assert migrated.returncode == 0, migrated.stderr[-2000:]
    with ExitStack() as stack:
        for name in COMPONENTS:
            stack.enter_context(component(programs, folder, name, environ))
        found = Airflow(f"http://127.0.0.1:{port}", folder)
        wait(found)
        yield found


@contextmanager
def component(
    programs: Path, folder: Path, name: str, environ: Mapping[str, str]
) -> Iterator[None]:
    """One of them, and all that it starts."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "airflow", name],
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait(20)


def wait(airflow: Airflow) -> None:
    """Until it answers, and knows the DAGs."""
    until = time.monotonic() + READY
    while time.monotonic() < until:
        with suppress(httpx.HTTPError, KeyError):
            who = {"username": USERNAME, "password": PASSWORD}
            token = APART.post(f"{airflow.url}/auth/token", json=who, timeout=10).json()
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            asked = f"{airflow.url}/api/v2/dags/model_training"
            if APART.get(asked, headers=headers, timeout=10).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"Airflow was not ready within {READY} s: {airflow.log[-3000:]}")
