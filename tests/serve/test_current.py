"""The table in use, and how it is replaced."""

import logging
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeSource, forecast_rows, published

from bikecast.serve.current import CurrentTable
from bikecast.serve.kept import KeptTable


def test_a_newer_issue_replaces_the_table_and_the_same_one_is_not_loaded_twice() -> None:
    """Asking is cheap; loading happens once per issue."""
    source = FakeSource(published())
    current = CurrentTable(source)
    current.refresh()
    current.refresh()
    assert source.loads == 1
    source.publish(frame=forecast_rows(datetime(2018, 7, 16), first_mean=9.0))
    current.refresh()
    assert current.table is not None and current.table.issue.issue_id == 2
    assert current.table.values[0, 0, 0, 0] == 9.0


def test_the_old_table_stays_when_the_source_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """One line per outage, one when it ends."""
    source = FakeSource(published())
    current = CurrentTable(source)
    current.refresh()
    with caplog.at_level(logging.WARNING, "bikecast"):
        source.broken = True
        for _ in range(3):
            current.refresh()
        assert current.table is not None and not current.reachable
        assert [r.getMessage() for r in caplog.records] == [
            "no newer forecast can be had: nobody answers"
        ]
        source.broken = False
        current.refresh()
    assert current.reachable
    assert len(caplog.records) == 2


def test_a_table_that_cannot_be_built_does_not_replace_the_old_one() -> None:
    """An issue without a row is as bad as no answer."""
    source = FakeSource(published())
    current = CurrentTable(source)
    current.refresh()
    source.publish(frame=forecast_rows(datetime(2018, 7, 16), hours=0))
    current.refresh()
    assert current.table is not None and current.table.issue.issue_id == 1


def test_without_any_issue_there_is_no_table() -> None:
    """That is no outage."""
    current = CurrentTable(FakeSource())
    current.refresh()
    assert current.table is None and current.reachable


def test_following_has_the_table_at_once_and_takes_the_next_one_by_itself() -> None:
    """The first refresh is waited for."""
    source = FakeSource(published())
    current = CurrentTable(source)
    stop = current.follow(every=0.01)
    assert current.table is not None
    source.publish()
    ticks = threading.Event()
    while current.table.issue.issue_id == 1:
        ticks.wait(0.01)
    stop.set()
    assert current.table.issue.issue_id == 2


def test_workers_share_what_one_of_them_loaded(tmp_path: Path) -> None:
    """The second finds it on disk, and has no copy of its own."""
    source = FakeSource(published())
    workers = [CurrentTable(source, KeptTable(tmp_path)) for _ in range(2)]
    for current in workers:
        current.refresh()
    assert source.loads == 1
    tables = [current.table for current in workers]
    assert all(table and isinstance(table.values, np.memmap) for table in tables)
    source.publish()
    for current in workers:
        current.refresh()
    assert source.loads == 2
    assert [current.table and current.table.issue.issue_id for current in workers] == [2, 2]


def test_while_one_loads_the_others_answer_from_the_old_table(tmp_path: Path) -> None:
    """They do not wait, and look again a little later."""
    source, kept = FakeSource(published()), KeptTable(tmp_path)
    current = CurrentTable(source, kept)
    current.refresh()
    source.publish()
    with KeptTable(tmp_path).alone(wait=False):
        current.refresh()
    assert current.table is not None and current.table.issue.issue_id == 1 and current.reachable
    current.refresh()
    assert current.table.issue.issue_id == 2


def test_a_start_without_the_source_has_the_last_table(tmp_path: Path) -> None:
    """As after a reboot while the database is down."""
    CurrentTable(FakeSource(published()), KeptTable(tmp_path)).refresh()
    current = CurrentTable(FakeSource(broken=True), KeptTable(tmp_path))
    current.follow(every=60).set()
    assert current.table is not None and current.table.issue == published().issue


def test_what_was_kept_of_others_is_not_taken(tmp_path: Path) -> None:
    """Another system's, or another database's, whose issues count from 1 as well."""
    CurrentTable(FakeSource(published()), KeptTable(tmp_path)).refresh()
    elsewhere = CurrentTable(FakeSource(broken=True, system_id="elsewhere"), KeptTable(tmp_path))
    elsewhere.follow(every=60).set()
    assert elsewhere.table is None
    made = published()
    later = replace(made.issue, issued_at=made.issue.issued_at + timedelta(hours=1))
    current = CurrentTable(FakeSource(replace(made, issue=later)), KeptTable(tmp_path))
    current.follow(every=60).set()
    while current.table is None or current.table.issue != later:
        threading.Event().wait(0.01)


@pytest.mark.parametrize("harm", ["no folder", "no table"])
def test_a_disk_that_keeps_nothing_costs_nobody_his_forecast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """One line says so; a table that is none is replaced."""
    folder = tmp_path / "kept"
    if harm == "no folder":
        folder.touch()
    else:
        folder.mkdir()
        (folder / "forecast-1.table").write_text("none")
    source = FakeSource(published())
    current = CurrentTable(source, KeptTable(folder))
    with caplog.at_level(logging.WARNING, "bikecast"):
        current.refresh()
        source.publish()
        current.refresh()
    assert current.table is not None and current.table.issue.issue_id == 2
    assert len(caplog.records) == 1 and "in memory alone" in caplog.text
    assert isinstance(current.table.values, np.memmap) == (harm == "no table")
