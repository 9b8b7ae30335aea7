"""Everything behind the service falls, under load: forecasts go on, and it comes back by itself."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from fakes import NEW_YORK
from live import WORKERS, Live, issue, live, made_up_city, under_load, until
from postgres import OwnPostgres

from bikecast.store import Store
from bikecast.store.connection import transaction

pytestmark = pytest.mark.integration

SILENT = "the database does not answer"
DAY = 86_400
DEADLINE = 30  # seconds for what takes milliseconds
CONNECT = 20  # seconds until who connects gives up: many more than a start takes beside


@pytest.fixture(scope="module")
def filled(server: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The made-up city with a forecast."""
    return made_up_city(server.url, tmp_path_factory.mktemp("city"))


@pytest.fixture(scope="module")
def service(filled: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The service of the made-up city."""
    with live(filled.url, tmp_path_factory.mktemp("kept")) as service:
        yield service


def test_a_new_issue_is_taken_by_all_workers_under_load(service: Live, filled: Store) -> None:
    """Nobody sees an error, waits, or gets an older forecast after a newer one."""
    with under_load(service.url) as load:
        for _ in range(3):
            version = issue(filled)
            until(lambda: service.answers_from(version))  # noqa: B023
    assert load.cuts == 0 and load.slowest < DEADLINE
    for client in load.clients:
        changes = [new for old, new in pairwise(client.versions) if new != old]
        assert len(set(changes)) == len(changes) and client.versions[-1] == version


@contextmanager
def killed(server: OwnPostgres, store: Store) -> Iterator[None]:
    """Connections are refused."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: OwnPostgres, store: Store) -> Iterator[None]:
    """Who connects waits for an answer."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def locked(server: OwnPostgres, store: Store) -> Iterator[None]:
    """Who is connected waits for an answer."""
    with transaction(store.url) as connection:
        connection.cursor().execute("LOCK TABLE forecast_issue")
        yield


@pytest.mark.parametrize("fails", [killed, frozen, locked])
def test_forecasts_go_on_without_the_database_and_follow_it_again(
    service: Live, filled: Store, server: OwnPostgres, fails: Callable[..., object]
) -> None:
    """`/ready` says what fails; with the database back it is well, and takes the next issue."""
    until(service.is_well)
    with under_load(service.url) as load:
        with fails(server, filled):  # type: ignore[attr-defined]
            until(lambda: service.says(SILENT))
            asked = load.asked
            until(lambda: load.asked > asked + 100)
        until(service.is_well)
        version = issue(filled)
        until(lambda: service.answers_from(version))
    assert load.cuts == 0 and load.slowest < DEADLINE


def test_a_start_waits_for_a_database_that_hangs_only_once(
    service: Live, filled: Store, server: OwnPostgres
) -> None:
    """The command tries to connect; no worker waits, they serve what another one has kept."""
    version = issue(filled)
    until(lambda: service.answers_from(version))
    with frozen(server, filled):
        began = time.monotonic()
        with live(f"{filled.url}?connect_timeout={CONNECT}", service.folder) as started:
            assert time.monotonic() - began < 2 * CONNECT
            assert started.ask()["model"]["version"] == version
            assert started.says(SILENT)


def test_a_worker_that_is_killed_costs_its_own_connections_at_most(service: Live) -> None:
    """Never an error or another answer; its successor is there at once, and counts on."""
    before, counts = service.answered(), [0.0]
    with under_load(service.url, clients=6) as load:
        for kills in range(1, 4):
            old = service.workers()
            os.kill(old[0], signal.SIGKILL)
            until(lambda: len(set(service.workers()) - {old[0]}) == WORKERS)  # noqa: B023
            counts += [service.answered() for _ in range(10)]
            # A client that was cut asks again on another connection.
            assert load.cuts <= 6 * kills
    until(lambda: len(service.workers()) == WORKERS)
    assert counts == sorted(counts)
    # The one that was killed may have counted an answer that it did not give any more.
    assert load.asked <= service.answered() - before <= load.asked + load.cuts


MOVED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    FILE *file = which == CLOCK_REALTIME ? fopen(getenv("MOVED_BY"), "r") : NULL;
    long seconds = 0;
    if (file && fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
    if (file) fclose(file);
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return where ? *where = now.tv_sec : now.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose wall clock, and no other, is moved by what a file says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a clock that can be moved")
    (tmp_path / "moved.c").write_text(MOVED)
    library, moved = tmp_path / "moved.so", tmp_path / "moved"
    words = [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "moved.c"), "-ldl"]
    subprocess.run(words, check=True)
    moved.write_text("0")
    return {"LD_PRELOAD": str(library), "MOVED_BY": str(moved)}


def test_a_clock_that_jumps_changes_ages_and_nothing_else(
    filled: Store, tmp_path: Path, clock: dict[str, str]
) -> None:
    """A year ahead and a day back: forecasts go on and are followed, no worker ends."""
    moved = Path(clock["MOVED_BY"])
    now = datetime.now(ZoneInfo(NEW_YORK.timezone)).replace(tzinfo=None)
    hour = now.replace(minute=0, second=0, microsecond=0)
    version = issue(filled, hour)
    settings = clock | {"BIKECAST_STALE_AFTER": str(DAY)}
    with live(filled.url, tmp_path / "kept", settings=settings) as service:
        until(lambda: len(service.workers()) == WORKERS)
        workers = service.workers()
        assert service.answers_from(version) and service.ready()["status"] == "ok"
        with under_load(service.url) as load:
            moved.write_text(str(365 * DAY))
            until(lambda: service.says("the data are stale"))
            assert 364 * DAY < service.ask()["data_age_seconds"] < 366 * DAY
            version = issue(filled, hour)
            until(lambda: service.answers_from(version))
            moved.write_text(str(-DAY))
            until(service.is_well)
            told = service.ask()
            assert told["data_age_seconds"] == 0 and not told["stale"]
            version = issue(filled, hour)
            until(lambda: service.answers_from(version))
        assert load.cuts == 0 and load.slowest < DEADLINE
        assert service.workers() == workers
