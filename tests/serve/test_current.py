"""The table in use, and how it is replaced."""

import logging
import threading
from datetime import datetime

import pytest
from fakes import FakeSource, forecast_rows, published

from bikecast.records import Issue
from bikecast.serve import current as module
from bikecast.serve.current import CurrentTable
from bikecast.serve.source import Published
from bikecast.serve.types import SchemaSeen


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


def test_a_source_that_hangs_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing has failed yet; when it goes on, all is well."""
    asked, goes_on = threading.Event(), threading.Event()

    class Hanging(FakeSource):
        def newest(self) -> Issue | None:
            asked.set()
            assert goes_on.wait(30)
            return super().newest()

    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.0)
    source = Hanging(published())
    current = CurrentTable(source)
    refreshing = threading.Thread(target=current.refresh)
    refreshing.start()
    assert asked.wait(30)
    assert not current.reachable and current.trouble == "the database does not answer"
    goes_on.set()
    refreshing.join(30)
    assert current.reachable and current.trouble is None


def test_the_schema_of_the_database_is_known_from_the_last_look() -> None:
    """Also before the first forecast, and while the database is away."""
    source = FakeSource()
    current = CurrentTable(source)
    assert current.schema["database"] is None
    current.refresh()
    assert current.schema["database"] is not None and current.table is None
    seen = current.schema
    source.broken = True
    current.refresh()
    assert current.schema == seen and not current.reachable


def test_a_schema_that_cannot_be_seen_keeps_no_forecast_from_riders(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who asks for the version is told that it is unknown; the log says why, once."""

    class Closed(FakeSource):
        def schema(self) -> SchemaSeen:
            raise PermissionError("permission denied for table alembic_version")

    current = CurrentTable(Closed(published()))
    with caplog.at_level(logging.WARNING, "bikecast"):
        current.refresh()
        current.refresh()
    assert current.table is not None and current.trouble is None
    assert current.schema["database"] is None
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "the schema of the database cannot be seen"
    ]


def test_a_source_that_hangs_while_it_loads_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After longer than it takes to say which forecast is the newest."""
    asked, goes_on = threading.Event(), threading.Event()

    class Hanging(FakeSource):
        def load(self, issue: Issue) -> Published:
            asked.set()
            assert goes_on.wait(30)
            return super().load(issue)

    monkeypatch.setattr(module, "LOADED_WITHIN", 0.0)
    current = CurrentTable(Hanging(published()))
    refreshing = threading.Thread(target=current.refresh)
    refreshing.start()
    assert asked.wait(30)
    assert current.trouble == "the database does not answer"
    goes_on.set()
    refreshing.join(30)
    assert current.trouble is None
