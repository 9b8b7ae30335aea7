"""The folder in which workers count."""

import fcntl
import os
from pathlib import Path

import pytest

from bikecast.serve import counting as module
from bikecast.serve.counting import FOLDER, PREFIX, STARTING, counting


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
