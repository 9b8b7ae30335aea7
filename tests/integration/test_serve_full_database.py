"""The service where the disk of its PostgreSQL is full: a real one, on a disk of just its size."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from asking import APART
from disks import grow, growing_disk, shrink
from live import issue, live, made_up_city, under_load, until
from postgres import OwnPostgres
from typer.testing import CliRunner

from bikecast.cli import app
from bikecast.errors import DiskFull, Unavailable
from bikecast.store import Store

pytestmark = pytest.mark.integration

TOKEN = "a-token-of-an-admin"  # nosec B105  # pragma: allowlist secret: made up


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[OwnPostgres]:
    """A server on a disk of its own."""
    with growing_disk(tmp_path / "disk") as disk, OwnPostgres(disk) as server:
        yield server


@pytest.fixture
def filled(cramped: OwnPostgres, tmp_path: Path) -> Store:
    """The made-up city with a forecast."""
    return made_up_city(cramped.url, tmp_path)


def refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `bikecast keys create` says."""
    monkeypatch.setenv("BIKECAST_DATABASE_URL", store.url)
    found = CliRunner().invoke(app, ["keys", "create", "planner"])
    assert isinstance(found.exception, DiskFull), found.output
    return str(found.exception)


def test_what_must_be_written_says_that_there_is_no_room(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only read goes on; with room again all does."""
    admin = {"Authorization": f"Bearer {TOKEN}"}
    settings = {"BIKECAST_ADMIN_TOKEN": TOKEN}
    log = tmp_path / "log"
    with live(filled.url, tmp_path / "kept", settings=settings, log=log) as service:
        until(service.is_well)
        with under_load(service.url) as load:
            shrink(tmp_path / "disk")
            with pytest.raises(DiskFull, match="no room left on the disk of .*; make room"):
                issue(filled)
            assert "no room left on the disk of" in refused(filled, monkeypatch)
            # An admin goes on; what he did is in the log alone.
            told = APART.post(f"{service.url}/model/reload", headers=admin, timeout=60)
            assert told.status_code == 200 and told.json()["audited"] is False
            assert service.is_well()
            grow(tmp_path / "disk")
            version = issue(filled)
            until(lambda: service.answers_from(version))
            told = APART.post(f"{service.url}/model/reload", headers=admin, timeout=60)
            assert told.json()["audited"] is True
        assert load.cuts == 0
    assert "not in the database's admin_act, no room left on the disk of" in log.read_text()
    assert "Traceback" not in log.read_text() and "INSERT" not in log.read_text()


def use_up_the_journal(server: OwnPostgres) -> None:
    """Begin file after file of it, until the server ends for want of room."""
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    with closing(connection), pytest.raises(psycopg2.OperationalError):
        connection.autocommit = True
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")


def test_a_server_that_ended_for_want_of_room_is_followed_again(
    filled: Store, cramped: OwnPostgres, tmp_path: Path
) -> None:
    """Its journal had no room: it is gone, and started again once there is some."""
    with live(filled.url, tmp_path / "kept") as service:
        until(service.is_well)
        with under_load(service.url) as load:
            shrink(tmp_path / "disk")
            use_up_the_journal(cramped)
            until(lambda: service.says("the database does not answer"))
            with pytest.raises(Unavailable, match="does not answer.*check"):
                issue(filled)
            asked = load.asked
            until(lambda: load.asked > asked + 100)
            grow(tmp_path / "disk")
            cramped.kill()  # where it has not ended already
            cramped.start()
            until(service.is_well)
            version = issue(filled)
            until(lambda: service.answers_from(version))
        assert load.cuts == 0
