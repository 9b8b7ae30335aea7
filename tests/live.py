"""`bikecast serve` as it runs, and clients that ask it all the time."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from asking import APART
from fakes import NEW_YORK, PLACES, published, seen

from bikecast.collect import import_stations
from bikecast.store import Store, ensure_database

WORKERS = 2
QUESTION = json.dumps({"station_id": "A.10"})


def until(condition: Callable[[], bool], seconds: float = 30, every: float = 0.05) -> float:
    """Wait for something that must come; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "it did not come"
        time.sleep(every)
    return time.monotonic() - began


def made_up_city(url: str, folder: Path) -> Store:
    """A database of its own, on a server, with the made-up city and a forecast."""
    store = Store(ensure_database(url, f"city_{time.monotonic_ns()}"))
    store.upgrade()
    store.add_system(NEW_YORK)
    lines = [f"{s.station_id},{s.name},{s.lat or ''},{s.lon or ''},20" for s in PLACES]
    places = folder / "stations.csv"
    places.write_text("\n".join(["station_id,name,lat,lon,capacity", *lines, ""]))
    import_stations(store, NEW_YORK.system_id, [places])
    issue(store)
    return store


def issue(store: Store, start: datetime = datetime(2018, 7, 16)) -> str:
    """Issue another forecast; the version of the model that it says."""
    made, version = published(start), str(time.monotonic_ns())
    store.save_issue(replace(made.issue, model_version=version), made.frame, seen(made))
    return version


def children(pid: int) -> list[int]:
    """The processes that one has started, and not yet buried."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class Live:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def ask(self) -> Any:
        """An answer, on a connection of its own: any of the workers may give it."""
        response = APART.post(f"{self.url}/predict", content=QUESTION, headers=JSON, timeout=30)
        assert response.status_code == 200, response.text
        return response.json()

    def ready(self) -> Any:
        """What it says of itself."""
        return APART.get(f"{self.url}/ready", timeout=30).json()

    def says(self, reason: str) -> bool:
        """Whether it says so, whichever worker is asked."""
        told = [self.ready() for _ in range(5)]
        assert all("reasons" in one for one in told), told
        return all(reason in one["reasons"] for one in told)

    def is_well(self) -> bool:
        """Whether all is as it should be, whichever worker is asked."""
        return all(self.ready()["status"] == "ok" for _ in range(5))

    def answers_from(self, version: str) -> bool:
        """Whether all workers answer by that version of the model, as far as can be seen."""
        return all(self.ask()["model"]["version"] == version for _ in range(20))

    def workers(self) -> list[int]:
        """Its processes that answer."""
        return children(self.process.pid)

    def answered(self) -> float:
        """How many predictions were answered with 200, as it counts."""
        told = APART.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        counts = [line.split()[-1] for line in told if line.startswith(COUNTED)]
        return float(counts[0]) if counts else 0.0


JSON = {"Content-Type": "application/json"}
COUNTED = 'bikecast_requests_total{method="POST",route="/predict",status="200"}'


@contextmanager
def live(
    database_url: str,
    folder: Path,
    *,
    before: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
    log: Path | None = None,
    tree: Path | None = None,
) -> Iterator[Live]:
    """The service of the made-up city on a free port, with data that are never stale.

    :param folder: of what it keeps.
    :param before: words that run the command; :param settings: more of its environment.
    :param log: where to write what it says, beside the folder by default.
    :param tree: the release to run, this one by default.
    """
    environment = {
        "BIKECAST_DATABASE_URL": database_url,
        "BIKECAST_DATA_DIR": str(folder),
        "BIKECAST_SYSTEM": "made-up",
        "BIKECAST_STALE_AFTER": str(10**10),
        "BIKECAST_WORKERS": str(WORKERS),
    }
    log = log or folder.with_name(f"{folder.name}-{time.monotonic_ns()}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "bikecast", "serve", "--bind", "127.0.0.1:0"],
            env=os.environ | environment | dict(settings or {}),
            cwd=tree,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: " on http://" in log.read_text() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        url = log.read_text().partition(" on http://")[2].split()[0]
        service = Live(f"http://{url}", process, folder)
        until(lambda: APART.get(f"{service.url}/health").status_code == 200)
        yield service
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


@dataclass
class Client(threading.Thread):
    """Asks on one connection, again and again; on another one where that was cut."""

    url: str
    enough: threading.Event
    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    cuts: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Ask until it is enough."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        while not self.enough.wait(0.02):
            began = time.perf_counter()
            try:
                connection.request("POST", "/predict", QUESTION, JSON)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (ConnectionError, http.client.HTTPException) as error:
                self.cuts.append(error)
                connection.close()
                continue
            self.seconds.append(time.perf_counter() - began)
            self.statuses.append(response.status)
            self.versions.append(answer.get("model", {}).get("version"))
        connection.close()


@dataclass
class Load:
    """Several clients at once."""

    clients: list[Client]

    @property
    def asked(self) -> int:
        """How many answers came."""
        return sum(len(client.statuses) for client in self.clients)

    @property
    def statuses(self) -> set[int]:
        """All that were answered."""
        return {status for client in self.clients for status in client.statuses}

    @property
    def cuts(self) -> int:
        """How many requests had no answer."""
        return sum(len(client.cuts) for client in self.clients)

    @property
    def slowest(self) -> float:
        """The longest that anybody waited for an answer, in seconds."""
        return max(second for client in self.clients for second in client.seconds)


@contextmanager
def under_load(url: str, clients: int = 4) -> Iterator[Load]:
    """Ask a service during a ``with`` block, and until some more answers came after it.

    Each one must have been 200, but for connections that were cut.
    """
    enough = threading.Event()
    load = Load([Client(url, enough) for _ in range(clients)])
    for client in load.clients:
        client.start()
    try:
        yield load
        reached = load.asked + 20 * clients
        until(lambda: load.asked > reached)
    finally:
        enough.set()
        for client in load.clients:
            client.join(60)
    assert load.statuses == {200}
