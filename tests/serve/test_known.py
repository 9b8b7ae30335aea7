"""The keys of a worker: as the database has them, and as they were."""

import fcntl
import logging
import stat
import time
from pathlib import Path

import pytest
from fakes import FakeSource

from bikecast.keys import ApiKey, new_key
from bikecast.serve.known import KeptKeys, KnownKeys

TEXT, KEY = new_key("planner")


@pytest.fixture
def source() -> FakeSource:
    """Has one key."""
    return FakeSource(valid=(KEY,))


def test_a_key_is_found_by_the_whole_of_it(source: FakeSource) -> None:
    """Not by its id, nor by a part of its secret."""
    keys = KnownKeys(source)
    assert not keys.known and keys.find(TEXT) is None
    keys.refresh()
    assert keys.known and keys.count == 1 and keys.find(TEXT) == KEY
    for wrong in ("", KEY.key_id, TEXT[:-1], TEXT + "x", TEXT[:-1] + "~", new_key("x")[0], "ÿ"):
        assert keys.find(wrong) is None
    other = TEXT[:-2] + ("AA" if TEXT[-2:] != "AA" else "BB")
    assert keys.find(other) is None, "the right id, another secret"


def test_a_revoked_key_is_forgotten_and_a_broken_source_is_not(
    source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once that keys cannot be had."""
    keys = KnownKeys(source)
    keys.refresh()
    source.broken = True
    with caplog.at_level(logging.WARNING):
        keys.refresh()
        keys.refresh()
    assert keys.find(TEXT) == KEY and caplog.text.count("the keys cannot be had") == 1
    source.broken, source.valid = False, ()
    keys.refresh()
    assert keys.known and keys.find(TEXT) is None


def test_keys_are_kept_for_the_next_start(source: FakeSource, tmp_path: Path) -> None:
    """Their hashes alone, for their owner alone; a revoked one is kept no more."""
    kept = KeptKeys(tmp_path / "new")
    KnownKeys(source, kept).refresh()
    (file,) = (tmp_path / "new").glob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert TEXT not in file.read_text() and KEY.sha256.hex() in file.read_text()
    before = file.stat().st_ino
    KnownKeys(source, kept).refresh()
    assert file.stat().st_ino == before, "the same again is not written again"
    source.broken = True
    keys = KnownKeys(source, kept)
    keys.restore()
    assert keys.find(TEXT) == KEY
    source.broken, source.valid = False, ()
    keys.refresh()
    assert kept.load() == ()


def test_while_another_worker_writes_nothing_is_waited_for(tmp_path: Path) -> None:
    """What it leaves is compared at the next refresh."""
    kept = KeptKeys(tmp_path)
    with (tmp_path / "keys.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept.keep((KEY,))
        assert kept.load() is None
    kept.keep((KEY,))
    assert kept.load() == (KEY,)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"name": "a"}]}', '{"keys": 7}'])
def test_what_is_no_file_of_keys_is_passed_over(
    source: FakeSource, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And replaced by the next."""
    kept = KeptKeys(tmp_path)
    kept.keep(())
    (file,) = tmp_path.glob("*.json")
    file.write_text(content)
    keys = KnownKeys(source, kept)
    with caplog.at_level(logging.WARNING):
        keys.restore()
    assert not keys.known and "of no use" in caplog.text
    keys.refresh()
    assert kept.load() == (KEY,)


def test_a_disk_that_cannot_be_written_is_told_once(
    source: FakeSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys are valid all the same."""
    (tmp_path / "file").touch()
    keys = KnownKeys(source, KeptKeys(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        keys.refresh()
        keys.refresh()
    assert keys.find(TEXT) == KEY and caplog.text.count("in memory alone") == 1


def test_a_thread_follows_the_source(source: FakeSource) -> None:
    """From the first on, which is waited for."""
    keys = KnownKeys(source)
    stop = keys.follow(every=0.01)
    try:
        assert keys.find(TEXT) == KEY
        source.valid = ()
        until_gone(keys, KEY)
    finally:
        stop.set()


def until_gone(keys: KnownKeys, key: ApiKey) -> None:
    """Wait until a key is not known any more."""
    deadline = time.monotonic() + 30
    while keys.find(TEXT):
        assert time.monotonic() < deadline
        time.sleep(0.01)
