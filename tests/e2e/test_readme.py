"""Every line of every shell block of README.md is run for real, as it stands.

Lines of ``bikecast``, ``export`` and ``curl`` run here in their order, in a folder with the files
that they name. Those of ``inv`` run in ``test_release.py`` and ``test_services.py``, on real hosts.
The two of the first screen run in a fresh clone where all cases are asked for.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx
import polars as pl
import pytest
from city import HEADER
from lacking import lacking
from readme import README, readme_blocks, readme_lines

from bikecast.cli.cities import OPEN_METEO
from bikecast.embedded import EmbeddedPostgres
from bikecast.simulate import simulate_city
from bikecast.store import ensure_database
from bikecast.store.connection import fetch, transaction

pytestmark = pytest.mark.e2e

TOP = README.parent
HERE = ("bikecast", "export", "curl")
SERVICE = "http://127.0.0.1:8000"
FIRST_SCREEN = [
    "python -m pip install '.[all]' && bikecast demo",
    "python -m pip install nox && nox -s tests",
]
# Each of these is run in tests/e2e/test_release.py or test_services.py; those of training, which
# need an Airflow, in tests/ops/test_train_for_real.py and test_training.py.
READ_BY_RELEASES = [
    "inv train --env staging",
    "inv train --env staging --local",
    "inv env --env staging",
    "inv setup --env staging",
    "inv build push --env staging",
    "inv deploy --env staging",
    "inv status",
    "inv smoke",
    "inv rollback",
    "inv deploy --strategy canary --steps 5,25,50,100 --bake 60s",
    "inv canary-promote",
    "inv canary-abort",
    "inv releases",
    "inv rollback --to 0123456789ab",
    "inv logs --of proxy --lines 100",
    'inv exec "db status"',
    "inv unlock --yes",
    "inv deploy --dry",
    "inv up",
    "inv backup --to backups/monday",
    "inv restore backups/monday --yes",
    "inv down",
    "inv --list",
]

# A training of all models before that of the README would take a minute.
IN_PRODUCTION = """
from bikecast.cli.open import opened
from bikecast.config import read_settings
from bikecast.models import MODELS
from bikecast.registry import TrainingRun
from bikecast.train import SERVING_GRID, data_hash

with opened(read_settings()) as found:
    system = found.store.system(found.settings.system)
    history, model = found.store.history(system.system_id), MODELS["naive"]()
    model.fit(history, SERVING_GRID)
    days = history.start.isoformat(), history.as_of.isoformat()
    run = TrainingRun(system, "naive", {}, {}, *days, data_hash(history))
    found.registry.put_in_production(found.registry.register(model, run))
"""

# One takes a machine of its own, the other changes files.
BY_HAND = {"bench", "lock"}


def test_somebody_runs_every_line() -> None:
    """A line that is new in the README has to be run somewhere before it may stand there."""
    run = {*readme_lines("nox"), *READ_BY_RELEASES, *FIRST_SCREEN}
    run |= {line for program in HERE for line in readme_lines(program)}
    assert [line for line in readme_lines() if line not in run] == []


def test_the_lines_of_releases_are_those_that_are_run() -> None:
    """In the README's order; whoever changes one changes where it is run."""
    assert readme_lines("inv") == READ_BY_RELEASES


def test_the_first_screen_is_two_lines() -> None:
    """Each in a block of its own, before anything else."""
    assert [line for block in readme_blocks()[:2] for line in block] == FIRST_SCREEN


@pytest.mark.parametrize("line", readme_lines("nox"))
def test_every_session_is_one_that_ci_calls(line: str) -> None:
    """Or a hook calls before a commit, or people call by hand."""
    defined = re.findall(r"^def (\w+)\(session", (TOP / "noxfile.py").read_text(), re.MULTILINE)
    callers = [TOP / ".ci" / "run", *(TOP / ".github").glob("workflows/*.yml")]
    callers += TOP.glob(".pre-commit-config.yaml")
    calls = re.findall(r"nox -s ([\w ]+)", "\n".join(path.read_text() for path in callers))
    called = {name for names in calls for name in names.split()} | BY_HAND
    words = line.partition(" -- ")[0].split()
    sessions = words[2:] if words[1:2] == ["-s"] else ["lint", "typecheck", "tests"]
    assert words[:2] in (["nox"], ["nox", "-s"]) and sessions
    assert set(sessions) <= set(defined) and set(sessions) <= called


class Shell:
    """A folder, an environment, and the lines that were run in them so far."""

    def __init__(self, folder: Path, environment: dict[str, str], database: "Server") -> None:
        self.folder = folder
        self.environment = environment
        self._database = database
        self._said: list[str] = []
        self._running: list[tuple[str, subprocess.Popen[str]]] = []
        self._block = 0

    def said(self, place: int) -> str:
        """What the line at a place printed; those before it are run first, each once."""
        while len(self._said) <= place:
            block, line = LINES[len(self._said)]
            if block != self._block:
                self.stop()
                self._block = block
            if line == "bikecast train --quick":
                # So there is a version that a rollback can go to, and more than it knows.
                self._run(f"{shlex.quote(sys.executable)} -c {shlex.quote(IN_PRODUCTION)}")
                self._run("bikecast import trips newer/ --system citibike-jc")
            self._said.append(self._one(line))
        return self._said[place]

    def _one(self, line: str) -> str:
        if line.startswith("export "):
            return self._export(line)
        if line.startswith("bikecast serve") or " --every" in line.replace("--every 24h", ""):
            return self._start(line)
        return self._run(line)

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _start(self, line: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.append((line, process))
        assert process.stdout is not None
        first = process.stdout.readline()
        if line.startswith("bikecast serve"):
            wait_until_ready(process)
        return first

    def _export(self, line: str) -> str:
        name, _, value = shlex.split(line)[1].partition("=")
        self.environment[name] = value
        if name == "BIKECAST_DATABASE_URL":
            # libpq takes the machine's address from here, so that the name may be an example.
            self.environment |= {"PGHOSTADDR": "127.0.0.1"}
            self.environment |= {"PGPORT": str(self._database.takes(urlsplit(value)))}
        return ""

    def stop(self) -> None:
        """Ctrl-C for all that is still running."""
        while self._running:
            line, process = self._running.pop()
            os.killpg(process.pid, signal.SIGINT)
            said = process.communicate(timeout=60)[0]
            assert process.returncode == 130 and said.endswith("stopped\n"), f"{line}: {said}"


LINES = [
    (i, line)
    for i, block in enumerate(readme_blocks())
    for line in block
    if line.split()[0] in HERE
]


class Server:
    """The embedded PostgreSQL, as a server that is reached over the network."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self._url = url
        self._stack = stack

    def takes(self, url: SplitResult) -> int:
        """Make the URL's user and database; the port on which they are found."""
        user, name = url.username, url.path.lstrip("/")
        with transaction(self._url) as connection:
            fetch(connection, f"CREATE ROLE {user} SUPERUSER LOGIN")
        ensure_database(self._url, name)
        with transaction(self._url) as connection:
            where = fetch(connection, "SHOW unix_socket_directories")[0][0]
        return self._stack.enter_context(forwarded(f"{where}/.s.PGSQL.5432"))


@contextmanager
def forwarded(path: str) -> Iterator[int]:
    """A TCP port behind which a unix socket answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener has been closed
                while True:
                    client, _ = listener.accept()
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(path)
                    threading.Thread(target=relay, args=(client, server), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def relay(client: socket.socket, server: socket.socket) -> None:
    """Both directions of a connection, until both have ended."""
    with client, server:
        back = threading.Thread(target=pass_on, args=(server, client), daemon=True)
        back.start()
        pass_on(client, server)
        back.join()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """All bytes of one connection into another, to the end."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def wait_until_ready(process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Ask the service until it has a table."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        with suppress(httpx.HTTPError):
            if httpx.get(f"{SERVICE}/ready").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("the service was not ready in time")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Where a reader is who has the files that the README names."""
    folder = tmp_path_factory.mktemp("reader")
    folder.chmod(0o755)
    write_files(folder)
    with ExitStack() as stack:
        # It stays up between the lines, which saves each of them a start.
        server = stack.enter_context(EmbeddedPostgres(folder / "home"))
        shell = Shell(folder, environment(folder / "home"), Server(server.url, stack))
        stack.callback(shell.stop)
        yield shell


def environment(home: Path, programs: Path = Path(sys.executable).parent) -> dict[str, str]:
    """A reader's: without settings, with the programs of an installation first."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("BIKECAST_", "PG"))}
    return own | {
        "BIKECAST_DATA_DIR": str(home),
        "PATH": f"{programs}{os.pathsep}{own['PATH']}",
    }


def write_files(folder: Path) -> None:
    """Three stations' hours of 2018, and the rides of the last sixty days of them."""
    city = simulate_city(11, datetime(2018, 10, 8), days=150, stations=3)
    ids = dict(zip((s.station_id for s in city.stations), ("JC115", "HB102", "JC066"), strict=True))
    panel = city.panel.with_columns(pl.col("station_id").replace(ids))
    panel.write_parquet(folder / "panel.parquet")
    panel.write_parquet(folder / "hours.parquet")
    stations = [replace(s, station_id=ids[s.station_id], capacity=20) for s in city.stations]
    pl.DataFrame([asdict(s) for s in stations]).write_csv(folder / "stations.csv")
    time = pl.col("hour").dt.strftime("%Y-%m-%dT%H:%M").alias("time")
    sky = city.weather.select(time, *(pl.col(o).alias(n) for o, n in OPEN_METEO.items()))
    sky.write_csv(folder / "open-meteo.csv")
    places = {s.station_id: f"{s.lat},{s.lon}" for s in stations}
    hour, days = pl.col("hour"), (datetime(2018, 8, 9), datetime(2018, 10, 6))
    for name, part in (
        ("trips/201808.csv", hour.is_between(*days, closed="left")),
        ("newer/201810.csv", hour >= days[1]),
    ):
        (folder / name).parent.mkdir()
        lines = [HEADER, *rides(panel.filter(part), places), ""]
        (folder / name).write_text("\n".join(lines))


def rides(panel: pl.DataFrame, places: dict[str, str]) -> Iterator[str]:
    """As many rides from each station as the panel says, to the next one."""
    following = dict(zip(places, [*list(places)[1:], *places], strict=False))
    for n, (station, hour, pickups, _) in enumerate(panel.iter_rows()):
        other = following[station]
        for i in range(pickups):
            start = hour + timedelta(seconds=20 * i)
            yield (
                f"R{n}-{i},bike,{start},{start + timedelta(minutes=9)},St {station},{station},"
                f"St {other},{other},{places[station]},{places[other]},member"
            )


@pytest.fixture(scope="module")
def port() -> None:
    """The port that the README serves on is free."""
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if asking.connect_ex(("127.0.0.1", 8000)) == 0:
            lacking("something else answers on 127.0.0.1:8000, where the README serves")


SHOWS = {
    "bikecast import trips": "201808.csv",
    "bikecast backtest": "ensemble",
    "bikecast train --quick": "challenger",
    "bikecast model promote": "passes the gate",
    "bikecast model rollback": "production",
    "bikecast model history": "rollback",
    "bikecast model show": "weak spot",
    "bikecast serve": "serving citibike-jc on http://127.0.0.1:8000",
    "bikecast predict": "Station JC115",
    "bikecast stock": "Stock at",
    "curl": '"station_id"',
    "bikecast db status": "release",
}


@pytest.mark.parametrize("place", range(len(LINES)), ids=[line[:60] for _, line in LINES])
def test_a_line_of_the_readme_does_what_it_says(shell: Shell, port: None, place: int) -> None:
    """It ends with 0, or runs until Ctrl-C; what it is there for is in its answer."""
    line = LINES[place][1]
    said = shell.said(place)
    for begins, shows in SHOWS.items():
        if line.startswith(begins):
            assert shows in said, said


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone with a fresh virtual environment in it."""
    if not (TOP / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout to clone")
    tmp_path.chmod(0o755)
    folder = tmp_path / "bikecast"
    subprocess.run(["git", "clone", "--quiet", str(TOP), str(folder)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
    return folder


@pytest.mark.full
def test_the_first_line_serves_forecasts(clone: Path, port: None) -> None:
    """From a fresh clone to forecasts over HTTP; Ctrl-C stops all of it."""
    process = subprocess.Popen(
        ["bash", "-c", FIRST_SCREEN[0]],
        cwd=clone,
        env=environment(clone.parent / "home", clone / ".venv" / "bin"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until_ready(process, 900)
        known = httpx.get(f"{SERVICE}/stations").json()["stations"]
        station = known[0]["station_id"]
        asked = httpx.post(f"{SERVICE}/predict", json={"station_id": station})
        assert asked.json()["station_id"] == station
    finally:
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.endswith("stopped\n"), said[-2000:]


@pytest.mark.full
def test_the_second_line_passes_all_tests(clone: Path) -> None:
    """On each Python that this machine has, from nothing but pip."""
    done = subprocess.run(
        ["bash", "-c", FIRST_SCREEN[1]],
        cwd=clone,
        env=environment(clone.parent / "home", clone / ".venv" / "bin"),
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "Session tests-3.11 was successful" in done.stderr
