"""The service where disks are full: a real one, of a few kilobytes, is filled to its last byte."""

import os
import signal
from pathlib import Path

import pytest
from asking import APART
from disks import fill
from fakes import NEW_YORK
from live import WORKERS, issue, live, made_up_city, under_load, until
from postgres import OwnPostgres

from bikecast.serve.kept import KeptTable, kept_folder
from bikecast.store import Store

pytestmark = pytest.mark.integration

ALONE = "the forecast is in memory alone: its disk takes nothing"

FULL = """
mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 1
cat /dev/zero > /dev/shm/filler 2> /dev/null
exec "$@"
"""


@pytest.fixture
def filled(server: OwnPostgres, tmp_path: Path) -> Store:
    """The made-up city with a forecast."""
    return made_up_city(server.url, tmp_path)


def kept(disk: Path, store: Store) -> str | None:
    """The version of the table that lies on the disk."""
    table = KeptTable(kept_folder(disk, store.place, NEW_YORK.system_id)).load()
    return table.issue.model_version if table else None


def test_a_full_disk_costs_nobody_a_forecast(filled: Store, disk: Path) -> None:
    """The service starts, takes new tables and says so; with room again they are kept."""
    with live(filled.url, disk, log=disk.with_name("log")) as service:
        until(lambda: service.says(ALONE))
        with under_load(service.url) as load:
            version = issue(filled)
            until(lambda: service.answers_from(version))
            assert kept(disk, filled) is None
            (disk / "filler").unlink()
            until(service.is_well)
        assert kept(disk, filled) == version
        with under_load(service.url) as later:
            fill(disk)
            version = issue(filled)
            until(lambda: service.answers_from(version) and service.says(ALONE))
        assert load.cuts == later.cuts == 0
    log = disk.with_name("log").read_text()
    assert "the forecast is in memory alone, a restart would lose it: [Errno 28]" in log
    assert "the forecast is kept on disk again" in log


def test_no_worker_ends_where_shared_memory_is_full_too(filled: Store, disk: Path) -> None:
    """What workers count needs no disk: a page that has no room would end them, one by one."""
    within = ("unshare", "--mount", "sh", "-c", FULL, "sh")
    with live(filled.url, disk, before=within, log=disk.with_name("log")) as service:
        until(lambda: len(service.workers()) == WORKERS)
        workers = service.workers()
        with under_load(service.url) as load:
            # Every route and status is another row, more than a page of them.
            for route in ("stations", "model", "version", "health", "openapi.json", "none"):
                for _ in range(10):
                    APART.get(f"{service.url}/{route}")
                    APART.post(f"{service.url}/{route}")
            version = issue(filled)
            until(lambda: service.answers_from(version))
        assert load.cuts == 0 and service.workers() == workers
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(set(service.workers()) - {workers[0]}) == WORKERS)
        assert service.answers_from(version)
        assert service.answered() >= load.asked
