"""The service as it runs: gunicorn with two workers, over the real store and over a fake."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from asking import APART
from fakes import NEW_YORK, FakeSource, doubling, first_week, forecast_rows, published, seen
from live import children
from postgres import database_gone

from bikecast.collect import import_stations
from bikecast.serve.source import StoreSource, TableSource
from bikecast.serve.table import build_table
from bikecast.store import SCHEMA, Store

pytestmark = pytest.mark.integration

TESTS = Path(__file__).parents[1]

OVER_STORE = """
import sys
from pathlib import Path
from bikecast.config import Settings
from bikecast.serve.server import serve
from bikecast.serve.source import StoreSource
from bikecast.store import Store

serve(
    Settings(bind="127.0.0.1:0", data_dir=Path(sys.argv[3])),
    lambda: StoreSource(Store(sys.argv[1]), sys.argv[2]),
    on_ready=lambda url: print(url, flush=True),
)
"""

INSIDE_A_BLOCK = """
import sys
from contextlib import contextmanager
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import FakeSource, published
from bikecast.config import Settings
from bikecast.serve.server import serve

@contextmanager
def database():
    yield
    print("closed", flush=True)

with database():
    ended_by = serve(
        Settings(bind="127.0.0.1:0", data_dir=Path(sys.argv[2])),
        lambda: FakeSource(published()),
        log_level="error",
        on_ready=lambda url: print(url, flush=True),
    )
print("left by", ended_by, flush=True)
"""

WITHOUT_A_SOURCE = """
from bikecast.config import Settings
from bikecast.errors import Unavailable
from bikecast.serve.server import serve

try:
    serve(Settings(bind="127.0.0.1:0"), lambda: 1 / 0)
except Unavailable as error:
    print(error)
"""


@dataclass
class Running:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    client: httpx.Client

    def predict(self, **question: object) -> Any:
        """The answer to one question."""
        return self.client.post("/predict", json=question).json()

    def stop(self) -> str:
        """End it as a supervisor does; what it still printed."""
        self.process.terminate()
        return self.process.communicate(timeout=30)[0]


@contextmanager
def running(program: str, *arguments: str) -> Iterator[Running]:
    """Run a program that prints the service's URL first."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Running(process, client)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        process.stdout.close()


def by_command(
    database_url: str, data_dir: Path, system: str = NEW_YORK.system_id, form: str = "text"
) -> subprocess.Popen[str]:
    """`bikecast serve` of the made-up city, with settings from the environment."""
    settings = {
        "BIKECAST_DATABASE_URL": database_url,
        "BIKECAST_DATA_DIR": str(data_dir),
        "BIKECAST_SYSTEM": system,
        "BIKECAST_LOG_FORMAT": form,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bikecast", "serve", "--bind", "127.0.0.1:0"],
        env=os.environ | settings,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """The made-up city with one forecast."""
    made = published()
    store.add_system(NEW_YORK)
    places = tmp_path / "stations.csv"
    places.write_text(
        "station_id,name,lat,lon,capacity\n"
        "A.10,First St,40.71,-74.01,20\nB,Second St,40.72,-74.02,\nnever-used,Third St,,,10\n"
    )
    import_stations(store, NEW_YORK.system_id, [places])
    store.save_issue(made.issue, made.frame, seen(made), doubling())
    return store


@pytest.fixture(params=["fake", "real"])
def either_source(request: pytest.FixtureRequest) -> TableSource:
    """The same forecast from the fake of the unit tests and from the store."""
    if request.param == "fake":
        return FakeSource(published())
    return StoreSource(request.getfixturevalue("filled"), NEW_YORK.system_id)


def test_fake_and_store_hand_out_the_same_table(either_source: TableSource) -> None:
    """Whatever the unit tests show of the fake holds for the store."""
    issue = either_source.newest()
    assert issue is not None
    table = build_table(either_source.load(issue))
    assert issue.as_of == published().issue.as_of
    assert (issue.model, issue.model_version) == ("naive", "3")
    assert [(s.station_id, s.name, s.capacity) for s in table.stations] == [
        ("A.10", "First St", 20),
        ("B", "Second St", None),
    ]
    assert table.timestamps[0] == table.as_of == "2018-07-16T00:00:00-04:00"
    assert table.values.shape == (2, 168, 2, 8)
    assert table.flows(1, 5)[0] == {"mean": 7.0, "lower": 3.5, "upper": 14.0}
    inputs = either_source.inputs(issue, "B")
    assert inputs is not None and inputs.values.shape == (336, 2, len(inputs.names))
    assert inputs.level[5].tolist() == [3.5, 3.75]
    assert either_source.inputs(issue, "never-used") is None
    assert either_source.packed_model(issue) == doubling()
    assert either_source.schema()["database"] == SCHEMA and either_source.schema()["revision"]


def test_before_the_first_issue_there_is_none(store: Store) -> None:
    """As with an empty fake."""
    store.add_system(NEW_YORK)
    assert StoreSource(store, NEW_YORK.system_id).newest() is None
    assert FakeSource().newest() is None


def test_a_new_issue_appears_without_a_restart(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """In every worker, within seconds."""
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        assert service.client.get("/ready").status_code == 200
        assert service.predict(station_id="A.10")["pickups"]["mean"] == 2.0
        issue = replace(
            published().issue,
            model_version="4",
            issued_at=published().issue.issued_at + timedelta(hours=1),
        )
        filled.save_issue(issue, forecast_rows(datetime(2018, 7, 16), first_mean=9.0))
        until(lambda: service.predict(station_id="A.10")["model"]["version"] == "4")
        assert service.predict(station_id="A.10")["pickups"]["mean"] == 9.0
        service.stop()
        assert service.process.returncode == 0


def test_whichever_worker_is_asked_tells_what_all_of_them_counted(tmp_path: Path) -> None:
    """Also of one that was killed; its successor counts on."""
    with running(INSIDE_A_BLOCK, str(TESTS), str(tmp_path)) as service:
        until(lambda: len(children(service.process.pid)) == 2)
        pids = children(service.process.pid)
        for _ in range(40):
            # Each on a connection of its own, so that both workers get some.
            APART.get(service.client.base_url.join("/stations"))
        assert {requests_of(service, "/stations") for _ in range(10)} == {40}
        os.kill(pids[0], signal.SIGKILL)
        until(
            lambda: len(children(service.process.pid)) == 2
            and pids[0] not in children(service.process.pid)
        )
        for _ in range(10):
            APART.get(service.client.base_url.join("/stations"))
        assert {requests_of(service, "/stations") for _ in range(10)} == {50}


def requests_of(service: Running, route: str) -> float:
    """What is told of a route's good answers."""
    told = APART.get(service.client.base_url.join("/metrics")).text
    (line,) = [
        line
        for line in told.splitlines()
        if line.startswith("bikecast_requests_total{") and f'route="{route}"' in line
    ]
    return float(line.split()[-1])


def test_it_goes_on_answering_when_the_database_is_gone(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """From the table it has, and says that it is degraded."""
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        before = service.predict(station_id="A.10")
        why = service.client.post("/predict?explain=true", json={"station_id": "A.10"}).json()
        assert why["explanation"]["pickups"]["factors"] == [{"group": "weather", "factor": 2.0}]
        with database_gone(database_url):
            until(lambda: "database" in str(service.client.get("/ready").json()["reasons"]))
            after = service.predict(station_id="A.10")
            why = service.client.post("/predict?explain=true", json={"station_id": "A.10"}).json()
        assert after["pickups"] == before["pickups"] == why["pickups"]
        assert why["explanation"] is None and "database" in why["explanation_reason"]
        until(lambda: "database" not in str(service.client.get("/ready").json()["reasons"]))


def test_what_ifs_come_from_what_is_stored(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """A station that was not asked for waits for the database; no look-up does."""
    warmer = {"temperature": 2}
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        found = service.predict(station_id="A.10", weather=warmer)
        assert found["what_if"] is True and found["pickups"]["mean"] == 4.0
        with database_gone(database_url):
            until(lambda: "database" in str(service.client.get("/ready").json()["reasons"]))
            gone = service.predict(station_id="B", weather=warmer)
            assert gone["type"] == "/problems/what-if-not-now" and "database" in gone["detail"]
            assert service.predict(station_id="B")["pickups"]["mean"] == 2.0
        until(lambda: "what_if" in service.predict(station_id="B", weather=warmer))


def test_the_second_week_comes_from_what_is_stored(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """Of a station that was asked for also while the database is gone; no look-up waits for it."""
    later = {"timestamp": "2018-07-23T05:00:00-04:00"}
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        found = service.predict(station_id="A.10", **later)
        assert found["second_week"] is True and found["horizon_hours"] == 174
        assert found["pickups"]["mean"] == 175.0
        warmer = service.predict(station_id="A.10", weather={"temperature": 2}, **later)
        assert warmer["what_if"] is warmer["second_week"] is True
        assert warmer["pickups"]["mean"] == 350.0
        with database_gone(database_url):
            until(lambda: "database" in str(service.client.get("/ready").json()["reasons"]))
            gone = service.predict(station_id="B", **later)
            assert gone["type"] == "/problems/what-if-not-now" and "database" in gone["detail"]
            assert service.predict(station_id="B")["pickups"]["mean"] == 2.0
        until(lambda: "second_week" in service.predict(station_id="B", **later))


def test_of_a_release_that_kept_one_week_there_is_no_second_one(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """Until the next issue, which is due at once: `bikecast forecast` takes the table for old."""
    made, later = published(), {"timestamp": "2018-07-23T05:00:00-04:00"}
    one = {station: first_week(inputs) for station, inputs in seen(made).items()}
    issue_id = filled.save_issue(made.issue, made.frame, one, doubling())
    assert not filled.has_inputs(issue_id)
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        refused = service.predict(station_id="B", **later)
        assert refused["status"] == 503 and "one week" in refused["detail"]
        assert service.predict(station_id="B", weather={"temperature": 2})["what_if"] is True
        assert filled.has_inputs(filled.save_issue(made.issue, made.frame, seen(made), doubling()))
        until(lambda: "second_week" in service.predict(station_id="B", **later))


@pytest.mark.parametrize("system", [NEW_YORK.system_id, ""])
def test_a_restart_without_the_database_serves_the_last_forecast(
    filled: Store, database_url: str, tmp_path: Path, system: str
) -> None:
    """It says so at the start and in `/ready`, and takes a newer one once the database is back."""
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        before = service.predict(station_id="A.10")
    process = None
    try:
        with database_gone(database_url):
            process = by_command(database_url, tmp_path, system)
            assert process.stderr is not None
            told = process.stderr.readline() + process.stderr.readline()
            assert "serving the forecast of made-up as of 2018-07-16T00:00:00-04:00 until" in told
            url = told.split()[-1]
            after = APART.post(f"{url}/predict", json={"station_id": "A.10"}).json()
            assert after["pickups"] == before["pickups"]
            assert "database" in str(APART.get(f"{url}/ready").json()["reasons"])
        until(lambda: "database" not in str(APART.get(f"{url}/ready").json()["reasons"]))
    finally:
        if process is not None:
            process.terminate()
            process.communicate(timeout=30)
    assert process.returncode == 143


def test_what_is_said_before_it_serves_is_in_the_log_as_well(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    """Machines read every line of it, from the first on to the last."""
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        service.predict(station_id="A.10")
    with database_gone(database_url):
        process = by_command(database_url, tmp_path, form="json")
        assert process.stderr is not None
        told = []
        while not told or "serving made-up on http" not in told[-1]:
            told.append(process.stderr.readline())
            assert told[-1], told
        process.terminate()
        told += process.communicate(timeout=30)[1].splitlines()
    said = [json.loads(line) for line in told]
    assert said[0]["level"] == "warning" and "until it answers" in said[0]["message"]
    assert process.returncode == 143


@pytest.mark.parametrize("harm", ["another system", "another database", "no table"])
def test_without_the_database_nothing_else_is_served(
    filled: Store, database_url: str, tmp_path: Path, harm: str
) -> None:
    """Not what is kept of another system or database, nor a file that is no table."""
    with running(OVER_STORE, database_url, NEW_YORK.system_id, str(tmp_path)) as service:
        service.predict(station_id="A.10")
    url, system = database_url, NEW_YORK.system_id
    if harm == "another system":
        system = "elsewhere"
    elif harm == "another database":
        url = sa.make_url(url).set(database="gone").render_as_string(hide_password=False)
    else:
        (kept,) = tmp_path.glob("served/*/*/*.table")
        kept.write_text("none")
    with database_gone(database_url):
        process = by_command(url, tmp_path, system)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 3 and "serving" not in told


def test_a_worker_that_ends_leaves_its_parents_database_alone(tmp_path: Path) -> None:
    """gunicorn forks inside the caller's block; only the caller itself may leave that."""
    with running(INSIDE_A_BLOCK, str(TESTS), str(tmp_path)) as service:
        assert service.predict(station_id="B")["station_id"] == "B"
        assert service.stop() == "closed\nleft by 15\n"
        assert service.process.returncode == 0


@pytest.mark.parametrize(
    ("stop", "code", "says"),
    [(signal.SIGINT, 130, "stopped"), (signal.SIGTERM, 143, "serving")],
)
def test_the_command_ends_with_the_signals_code(
    filled: Store, database_url: str, tmp_path: Path, stop: signal.Signals, code: int, says: str
) -> None:
    """Ctrl-C is 130 and SIGTERM 143, as of every other command; no worker is left."""
    process = by_command(database_url, tmp_path)
    assert process.stderr is not None
    told = process.stderr.readline()
    url = told.split()[-1]
    until(lambda: APART.get(f"{url}/health").status_code == 200)
    process.send_signal(stop)
    told += process.communicate(timeout=30)[1]
    assert process.returncode == code and told.splitlines()[-1].startswith(says), told
    with pytest.raises(httpx.ConnectError):
        APART.get(f"{url}/health")


def test_a_body_in_pieces_is_limited_too(tmp_path: Path) -> None:
    """Chunked requests have no length to be refused by; the limit holds while reading."""
    with running(INSIDE_A_BLOCK, str(TESTS), str(tmp_path)) as service:
        answer = service.client.post("/predict", content=(b" " * 100_000 for _ in range(11)))
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
        # gunicorn may hang up on a client of whose body it has not read all.
        small = APART.post(
            service.client.base_url.join("/predict"), content=iter([b'{"station_', b'id": "B"}'])
        )
        assert small.json()["station_id"] == "B"


def test_workers_that_cannot_start_end_the_service_with_one_error() -> None:
    """Not with a loop of restarts."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_SOURCE], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "the service on 127.0.0.1:0 could not run; read its log above\n"
    assert "ZeroDivisionError" in done.stderr
