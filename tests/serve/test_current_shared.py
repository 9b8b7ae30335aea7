"""The table that workers share on disk, and leave there for the next start."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fakes import PLACES, FakeSource, published

from bikecast.records import Issue
from bikecast.serve import current as module
from bikecast.serve.current import CurrentTable
from bikecast.serve.kept import KeptTable


def test_workers_share_what_one_of_them_loaded(tmp_path: Path) -> None:
    """The second finds it on disk, and has no copy of its own."""
    source = FakeSource(published())
    workers = [CurrentTable(source, KeptTable(tmp_path)) for _ in range(2)]
    for current in workers:
        current.refresh()
    assert source.loads == 1
    tables = [current.table for current in workers]
    assert all(table and isinstance(table.values.base, np.memmap) for table in tables)
    source.publish()
    for current in workers:
        current.refresh()
    assert source.loads == 2
    assert [current.table and current.table.issue.issue_id for current in workers] == [2, 2]


def test_what_a_worker_kept_before_the_source_was_gone_serves_all(tmp_path: Path) -> None:
    """One that had none yet, and one that had the older one; the source is followed again."""
    source = FakeSource(published())
    first, second = (CurrentTable(source, KeptTable(tmp_path)) for _ in range(2))
    first.refresh()
    source.broken = True
    second.refresh()
    assert second.table is not None and not second.reachable
    source.broken = False
    source.publish()
    first.refresh()
    source.broken = True
    second.refresh()
    assert second.table.issue.issue_id == 2 and not second.reachable
    source.broken = False
    second.refresh()
    assert second.reachable and second.trouble is None
    assert source.loads == 2


def test_while_one_loads_the_others_answer_from_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They look again a little later; who hangs at it does not keep them for ever."""
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    worker = CurrentTable(source, kept)
    worker.refresh()
    source.publish()
    hangs = kept.lock()
    assert hangs is not None
    with hangs:
        worker.refresh()
        assert worker.table is not None and worker.table.issue.issue_id == 1 and worker.reachable
        monkeypatch.setattr(module, "PATIENCE", 0.0)
        worker.refresh()
        assert worker.table.issue.issue_id == 2
    source.publish()
    worker.refresh()
    assert worker.table.issue.issue_id == 3 and isinstance(worker.table.values.base, np.memmap)


def test_patience_begins_anew_with_each_issue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited once is not impatient the next time, a day later."""
    clock = iter(range(0, 10**8, 86_400))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    worker, other = CurrentTable(source, kept), CurrentTable(source, kept)
    for loads in (1, 2):
        lock = kept.lock()
        assert lock is not None
        worker.refresh()
        lock.close()
        other.refresh()
        worker.refresh()
        assert source.loads == loads and worker.trouble is None
        assert worker.table is not None and isinstance(worker.table.values.base, np.memmap)
        source.publish()


def test_a_worker_that_began_later_tells_the_others_what_an_import_changed(tmp_path: Path) -> None:
    """Under the same issue: no two of them say different things for long."""
    source = FakeSource(published())
    first = CurrentTable(source, KeptTable(tmp_path))
    first.refresh()
    age(tmp_path, 60)
    first.refresh()
    assert source.current is not None
    source.current = replace(
        source.current, stations=tuple(replace(station, capacity=33) for station in PLACES)
    )
    CurrentTable(source, KeptTable(tmp_path)).refresh()
    first.refresh()
    assert first.table is not None and source.loads == 2
    assert {station.capacity for station in first.table.stations} == {33}


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_workers_do_not_chase_each_other_where_the_clock_jumps(tmp_path: Path, jump: float) -> None:
    """What was written in the past, or in the future, is as good."""
    source = FakeSource(published())
    workers = [CurrentTable(source, KeptTable(tmp_path)) for _ in range(2)]
    workers[0].refresh()
    age(tmp_path, -jump)
    for _ in range(3):
        for worker in workers:
            worker.refresh()
            assert worker.table is not None and isinstance(worker.table.values.base, np.memmap)
    assert source.loads == 1


def test_workers_that_cannot_map_do_not_chase_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loads an issue once, though each leaves another file."""
    without_mappings(tmp_path, monkeypatch)
    source = FakeSource(published())
    workers = [CurrentTable(source, KeptTable(tmp_path)) for _ in range(2)]
    for _ in range(3):
        for worker in workers:
            worker.refresh()
    assert source.loads == 2 and all(worker.table is not None for worker in workers)


def test_trouble_is_told_in_words(tmp_path: Path) -> None:
    """What is wrong beside the age of the data, and nothing where nothing is."""
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    worker = CurrentTable(source, kept)
    worker.refresh()
    assert worker.trouble is None
    source.publish()
    lock = kept.lock()
    assert lock is not None
    with lock:
        worker.refresh()
    assert worker.trouble == "a newer forecast is being loaded"
    worker.refresh()
    assert worker.trouble is None
    source.broken = True
    worker.refresh()
    assert worker.trouble == "the database does not answer"
    empty = CurrentTable(FakeSource(), kept)
    empty.follow(every=60).set()
    assert empty.table is not None and empty.trouble == "the database has no forecast"


def test_a_start_waits_for_the_worker_that_loads(tmp_path: Path) -> None:
    """It has nothing to answer from until then."""
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    loads = kept.lock()
    assert loads is not None
    threading.Timer(0.5, loads.close).start()
    second = CurrentTable(source, kept)
    second.follow(every=60).set()
    assert loads.closed and second.table is not None


def test_what_another_worker_loads_is_looked_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that all have it as soon as it is there; with nothing to wait for, looks are seldom."""
    asked: list[int] = []

    class Counting(FakeSource):
        def newest(self) -> Issue | None:
            asked.append(1)
            return super().newest()

    monkeypatch.setattr(module, "SOON", 0.01)
    source, kept = Counting(published()), KeptTable(tmp_path)
    worker = CurrentTable(source, kept)
    stop, deadline = worker.follow(every=1), time.monotonic() + 30
    source.publish()
    loads = kept.lock()
    assert loads is not None and len(asked) < 10 and worker.table is not None
    with loads:
        while len(asked) < 100:
            assert time.monotonic() < deadline
            stop.wait(0.01)
    while worker.table.issue.issue_id == 1:
        stop.wait(0.01)
    stop.set()


@pytest.mark.parametrize("nothing", [False, True])
def test_what_is_gone_again_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing: bool
) -> None:
    """The newest forecast can be deleted while another worker loads it; for the next, patience
    begins anew."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    worker = CurrentTable(source, kept)
    worker.refresh()
    before, loaded = source.current, source.loads
    source.publish()
    loads = kept.lock()
    assert loads is not None
    with loads:
        worker.refresh()
        source.current = None if nothing else before
        worker.refresh()
        time.sleep(0.6)
        source.current = before
        source.publish()
        worker.refresh()
        assert source.loads == loaded


def test_a_start_brings_in_what_an_import_changed(tmp_path: Path) -> None:
    """Stations change under the same issue: what an earlier process kept of it is not enough."""
    source = FakeSource(published())
    CurrentTable(source, KeptTable(tmp_path)).refresh()
    assert source.current is not None
    renamed = tuple(replace(station, capacity=33) for station in PLACES)
    source.current = replace(source.current, stations=renamed)
    age(tmp_path, 60)
    started, beside = (CurrentTable(source, KeptTable(tmp_path)) for _ in range(2))
    for worker in (started, beside):
        worker.follow(every=60).set()
        assert worker.table is not None
        assert {station.capacity for station in worker.table.stations} == {33}
    assert source.loads == 2


def age(folder: Path, seconds: float) -> None:
    """Let what is kept have been written a while ago."""
    for file in folder.glob("*.table"):
        then = file.stat().st_mtime - seconds
        os.utime(file, (then, then))


def test_a_start_without_the_source_has_the_last_table(tmp_path: Path) -> None:
    """As after a reboot while the database is down."""
    CurrentTable(FakeSource(published()), KeptTable(tmp_path)).refresh()
    started = CurrentTable(FakeSource(broken=True), KeptTable(tmp_path))
    started.follow(every=60).set()
    assert started.table is not None and started.table.issue == published().issue
    assert not started.reachable


def test_what_was_kept_of_others_is_not_taken(tmp_path: Path) -> None:
    """Another system's, or another database's, whose issues count from 1 as well."""
    CurrentTable(FakeSource(published()), KeptTable(tmp_path)).refresh()
    elsewhere = CurrentTable(FakeSource(broken=True, system_id="elsewhere"), KeptTable(tmp_path))
    elsewhere.follow(every=60).set()
    assert elsewhere.table is None
    made = published()
    later = replace(made.issue, issued_at=made.issue.issued_at + timedelta(hours=1))
    again = CurrentTable(FakeSource(replace(made, issue=later)), KeptTable(tmp_path))
    again.follow(every=60).set()
    assert again.table is not None and again.table.issue == later and again.reachable


def without_locks(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network drives."""
    monkeypatch.setattr(fcntl, "flock", failing)


def without_a_folder(folder: Path, _: pytest.MonkeyPatch) -> None:
    """A file lies in its place."""
    folder.touch()


def full(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written."""
    monkeypatch.setattr(os, "fsync", failing)


def without_mappings(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written cannot be mapped."""
    monkeypatch.setattr(np, "memmap", failing)


def failing(*_: object) -> None:
    """Whatever the system says."""
    raise OSError("not here")


@pytest.mark.parametrize("harm", [without_locks, without_a_folder, full, without_mappings])
def test_a_disk_that_keeps_nothing_costs_nobody_his_forecast(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    """It is loaded once for each issue, and one line says so."""
    harm(tmp_path / "kept", monkeypatch)
    source = FakeSource(published())
    worker = CurrentTable(source, KeptTable(tmp_path / "kept"))
    with caplog.at_level(logging.WARNING, "bikecast"):
        for loads in (1, 2):
            worker.refresh()
            worker.refresh()
            assert worker.table is not None and worker.table.issue.issue_id == loads
            assert source.loads == loads and worker.reachable
            source.publish()
    (record,) = caplog.records
    assert record.getMessage().split(":")[0] == (OF_NO_USE if harm is without_mappings else ALONE)


OF_NO_USE = "what was kept of a forecast is of no use"
ALONE = "the forecast is in memory alone, a restart would lose it"


@pytest.mark.parametrize("content", ["none", "[1]", '{"issue": 1}'])
def test_a_kept_table_that_is_none_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    """Whatever it is, the thread that follows goes on."""
    (tmp_path / "forecast-1.table").write_text(content)
    worker = CurrentTable(FakeSource(published()), KeptTable(tmp_path))
    with caplog.at_level(logging.WARNING, "bikecast"):
        worker.follow(every=60).set()
    assert worker.table is not None and isinstance(worker.table.values.base, np.memmap)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [OF_NO_USE]


def test_what_found_no_room_is_kept_as_soon_as_there_is_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the next look, without loading it again; until then it says so. Workers share it again."""
    source = FakeSource(published())
    workers = [CurrentTable(source, KeptTable(tmp_path / "kept")) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        full(tmp_path, patch)
        for worker in workers * 2:
            worker.refresh()
            assert worker.trouble == "the forecast is in memory alone: its disk takes nothing"
    assert source.loads == 2
    caplog.clear()
    with caplog.at_level(logging.WARNING, "bikecast"):
        for worker in workers * 2:
            worker.refresh()
            assert worker.trouble is None
            assert worker.table is not None and isinstance(worker.table.values.base, np.memmap)
    assert source.loads == 2
    assert [r.getMessage() for r in caplog.records] == ["the forecast is kept on disk again"] * 2


def test_what_is_kept_late_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another worker has the lock, the table is in memory alone and nothing is loaded."""
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    worker = CurrentTable(source, kept)
    with pytest.MonkeyPatch.context() as patch:
        full(tmp_path, patch)
        worker.refresh()
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    lock = kept.lock()
    assert lock is not None
    with lock:
        worker.refresh()
    assert source.loads == 1 and worker.trouble is not None
    worker.refresh()
    assert source.loads == 1 and worker.trouble is None
