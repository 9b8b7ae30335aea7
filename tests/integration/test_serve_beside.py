"""Two releases of the service on one database, as during a deploy: this one and an older one."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from asking import APART
from fakes import published
from lacking import lacking
from live import Live, issue, live, made_up_city, under_load, until
from postgres import OwnPostgres

from bikecast.store import Store

pytestmark = pytest.mark.integration

TOP = Path(__file__).parents[2]

ISSUE = """
import sys
from datetime import datetime
import polars as pl
from bikecast.records import Issue
from bikecast.store import Store

url, frame, system, issued_at, as_of, model, version = sys.argv[1:]
times = [datetime.fromisoformat(text) for text in (issued_at, as_of)]
Store(url).save_issue(Issue(system, *times, model, version), pl.read_parquet(frame))
"""


SCHEMA_2 = "migrations/versions/0002_inputs.py"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The tree of the last release of schema 1; it keeps no table on disk either."""
    found = git("log", "--diff-filter=A", "--format=%H", "--", SCHEMA_2)
    first = found.stdout.decode().split()
    if not first or git("cat-file", "-e", f"{first[-1]}^").returncode:
        lacking(f"no history here from before {SCHEMA_2}")
    tree = tmp_path / "older"
    tree.mkdir()
    packed = git("archive", f"{first[-1]}^", "bikecast", "migrations")
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    assert not (tree / SCHEMA_2).exists()
    return tree


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Ask the repository that the tests are in."""
    return subprocess.run(["git", "-C", str(TOP), *words], capture_output=True)


def test_two_releases_serve_side_by_side(server: OwnPostgres, older: Path, tmp_path: Path) -> None:
    """Whichever of them issues, both answer from it; the newer one explains what it can."""
    store = made_up_city(server.url, tmp_path)
    with (
        live(store.url, tmp_path / "kept") as new,
        live(store.url, tmp_path / "kept", tree=older) as old,
    ):
        statuses = [APART.get(f"{service.url}/metrics").status_code for service in (new, old)]
        assert statuses == [200, 404], "they are one release"
        assert alike(new, old)
        with under_load(new.url, 2) as of_new, under_load(old.url, 2) as of_old:
            for issued in (issue, lambda store: issue_by(older, store, tmp_path)):
                both_take(issued(store), new, old)
        assert of_new.cuts == of_old.cuts == 0
        assert alike(new, old)
        # The older release has stored no inputs, or no model, beside it.
        url = f"{new.url}/stations/A.10/forecast?explain=true"
        assert "wait for the next" in APART.get(url).json()["explanation_reason"]


def both_take(version: str, *services: Live) -> None:
    """Wait until all workers of all services answer from an issue."""
    asked: list[Callable[[str], bool]] = [service.answers_from for service in services]
    until(lambda: all(ask(version) for ask in asked))


def alike(new: Live, old: Live) -> bool:
    """Whether they say the same, but for what the older one does not know."""
    ours, theirs = new.ask(), old.ask()
    return {key: ours[key] for key in theirs if key != "data_age_seconds"} == {
        key: said for key, said in theirs.items() if key != "data_age_seconds"
    }


def issue_by(older: Path, store: Store, folder: Path) -> str:
    """Let the older release store a forecast."""
    made = published().issue
    made = replace(made, model_version="theirs")
    frame = folder / "frame.parquet"
    pl.DataFrame(published().frame).write_parquet(frame)
    words = [store.url, str(frame), made.system_id, made.issued_at.isoformat()]
    words += [made.as_of.isoformat(), made.model, made.model_version]
    subprocess.run(
        [sys.executable, "-c", ISSUE, *words],
        cwd=older,
        check=True,
        timeout=60,
    )
    return made.model_version
