"""The folder in which workers count."""

import fcntl
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, values
from prometheus_client.multiprocess import MultiProcessCollector

from bikecast.serve import counting as module
from bikecast.serve.counting import FOLDER, PREFIX, STARTING, Places, counting


def left(memory: Path, name: str, age: float) -> Path:
    """A folder with its lock, as a service that was killed leaves it."""
    lock = memory / f"{PREFIX}{name}" / "service.lock"
    lock.parent.mkdir()
    lock.touch()
    then = lock.stat().st_mtime - age
    os.utime(lock, (then, then))
    return lock


def test_the_folder_is_named_while_the_service_runs() -> None:
    """And gone afterwards, also where the service fails."""
    with pytest.raises(RuntimeError), counting():
        folder = Path(os.environ[FOLDER])
        assert folder.is_dir()
        raise RuntimeError
    assert not folder.exists() and FOLDER not in os.environ


def test_what_killed_services_left_is_removed_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Not what a service uses, nor what one may be about to use."""
    old, used = left(tmp_path, "old", 2 * STARTING), left(tmp_path, "used", 2 * STARTING)
    young, foreign = left(tmp_path, "young", 0), tmp_path / "foreign"
    foreign.mkdir()
    with used.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        module._sweep(tmp_path)
    assert not old.parent.exists()
    assert used.exists() and young.exists() and foreign.exists()


class Worker:
    """As gunicorn has it: what it is given before the fork is found in it later."""

    place: int


class Server:
    """gunicorn's master, as far as it is asked."""

    def __init__(self) -> None:
        self.WORKERS: dict[int, Worker] = {}

    def start(self, pid: int, places: Places) -> Worker:
        """Another worker."""
        worker = Worker()
        places.before_fork(self, worker)
        self.WORKERS[pid] = worker
        return worker


def test_a_worker_takes_the_place_of_one_that_ended(tmp_path: Path) -> None:
    """No two that live have the same; however many end, there are no more than lived at once."""
    with Places(tmp_path) as places:
        server = Server()
        assert [server.start(pid, places).place for pid in range(3)] == [0, 1, 2]
        for pid in range(3, 100):
            del server.WORKERS[pid - 2]
            server.start(pid, places)
            assert sorted(w.place for w in server.WORKERS.values()) == [0, 1, 2]
        assert len(list(tmp_path.iterdir())) == 3 * 2


def test_who_takes_a_place_counts_on_in_it(tmp_path: Path, restored: None) -> None:
    """As if the one before were still there; a worker that has counted nothing yet is no error."""
    with Places(tmp_path) as places:
        server = Server()
        unused = server.start(1, places)
        assert unused.place == 0
        for pid in (2, 3):
            worker = server.start(pid, places)
            places.after_fork(server, worker)
            Counter("asked", "As often as this.", registry=CollectorRegistry()).inc(4)
            del server.WORKERS[pid]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
        assert registry.get_sample_value("asked_total") == 8


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests count, they count alone."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
