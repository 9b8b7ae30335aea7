"""The table on disk: mapped, whole, and nobody else's."""

import errno
import fcntl
import json
import os
import shutil
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fakes import published

from bikecast.serve.kept import KeptTable, kept_folder, kept_folders
from bikecast.serve.table import ForecastTable, build_table


@pytest.fixture
def kept(tmp_path: Path) -> KeptTable:
    """A folder with the made-up city's table."""
    found = KeptTable(tmp_path / "there")
    lock = found.lock()
    assert lock is not None
    with lock:
        found.keep(build_table(published()))
    return found


def the_file(tmp_path: Path) -> Path:
    """What was kept."""
    return next((tmp_path / "there").glob("*.table"))


def test_what_is_kept_comes_back_as_it_was(kept: KeptTable) -> None:
    """Every field, former ids, days of changed clocks, and hours without a forecast too."""
    for start in (datetime(2018, 7, 16), datetime(2018, 3, 11), datetime(2018, 11, 4)):
        made = published(start)
        missing = (pl.col("station_id") == "B") & (pl.col("hour") == start + timedelta(hours=5))
        table = build_table(replace(made, frame=made.frame.filter(~missing)))
        assert np.isnan(table.values[1, 5]).all()
        kept.keep(table)
        found = kept.load()
        assert found is not None
        for field in fields(ForecastTable):
            if field.name != "values":
                assert getattr(found, field.name) == getattr(table, field.name), field.name
        assert np.array_equal(found.values, table.values, equal_nan=True)
        assert isinstance(found.values.base, np.memmap) and not found.values.flags.writeable
        assert found.flows(0, 5) == table.flows(0, 5)


def test_what_another_release_kept_of_the_same_table_says_the_same(
    kept: KeptTable, tmp_path: Path
) -> None:
    """One without a digest, as of the release before; what it says besides is passed over."""
    table, file = kept.load(), the_file(tmp_path)
    head, _, values = file.read_bytes().partition(b"\n")
    said = json.loads(head)
    assert table is not None and said["digest"] == table.digest
    del said["digest"]
    file.write_bytes(json.dumps(said | {"later": 1}).encode() + b"\n" + values)
    again = kept.load()
    assert again is not None and again.digest == table.digest


def test_a_table_that_is_in_use_stays_when_another_takes_its_place(kept: KeptTable) -> None:
    """A worker answers from the old one until it takes the new one."""
    old = kept.load()
    newer = build_table(published())
    kept.keep(replace(newer, values=newer.values + 1))
    new = kept.load()
    assert old is not None and new is not None
    assert np.array_equal(new.values, old.values + 1, equal_nan=True)


def test_nothing_kept_is_no_error(tmp_path: Path) -> None:
    """As before the first issue."""
    found = KeptTable(tmp_path / "not there")
    assert found.load() is None and found.stamp() is None


@pytest.mark.parametrize("harm", ["cut off", "no JSON", "another's JSON", "empty", "flat", "late"])
def test_a_file_that_is_not_whole_is_refused(kept: KeptTable, tmp_path: Path, harm: str) -> None:
    """By name, and not with a mapping that ends in a signal."""
    file = the_file(tmp_path)
    content = file.read_bytes()
    file.write_bytes(
        {
            "cut off": content[:-8],
            "no JSON": b"\xff" + content,
            "another's JSON": b"[1]\n",
            "empty": b"",
            "flat": content.replace(b'"shape": [2, 168, 2, 8]', b'"shape": [5376]', 1),
            "late": content.replace(b'"start": "2018-07-16', b'"start": "9999-12-31', 1),
        }[harm]
    )
    with pytest.raises(ValueError, match="forecast-1.table is no table"):
        kept.load()


def test_a_full_disk_leaves_the_old_table(
    kept: KeptTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no unfinished file."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    newer = build_table(published())
    with pytest.raises(OSError, match="No space left"):
        kept.keep(replace(newer, values=newer.values + 1))
    found = kept.load()
    assert found is not None and np.array_equal(found.values, newer.values, equal_nan=True)
    assert len(list((tmp_path / "there").iterdir())) == 2  # the table and the lock


def test_one_has_the_right_to_load_and_the_others_have_not(kept: KeptTable) -> None:
    """Until it is given back."""
    first = kept.lock()
    assert first is not None and kept.lock() is None
    first.close()
    second = kept.lock()
    assert second is not None
    second.close()


def test_where_nothing_can_be_locked_that_is_an_error(
    kept: KeptTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network drives: nobody may take himself for the only one."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match="No locks"):
        kept.lock()


def test_the_folders_with_a_table_are_found(tmp_path: Path) -> None:
    """Those of one database; those without a table are not."""
    for database, system in (("a", "made/up"), ("b", "made/up")):
        kept = KeptTable(kept_folder(tmp_path, database, system))
        lock = kept.lock()
        assert lock is not None
        with lock:
            kept.keep(build_table(published()))
    kept_folder(tmp_path, "a", "empty").mkdir()
    assert kept_folders(tmp_path, "a") == [kept_folder(tmp_path, "a", "made/up")]
    assert kept_folders(tmp_path, "nowhere") == []


def test_only_its_user_reads_it(kept: KeptTable, tmp_path: Path) -> None:
    """A forecast need not be secret; what else is in the folder may be."""
    assert the_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_table_of_another_format_is_left_alone(kept: KeptTable, tmp_path: Path) -> None:
    """A newer release beside this one has one of its own in the same folder."""
    theirs = tmp_path / "there" / "forecast-2.table"
    theirs.write_text("of another release")
    table = kept.load()
    assert table is not None
    kept.keep(table)
    assert theirs.read_text() == "of another release" and kept.load() is not None


def test_a_disk_without_room_for_it_is_not_filled(
    kept: KeptTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others need the last bytes too."""
    table, before = kept.load(), the_file(tmp_path).stat()
    assert table is not None
    free = shutil.disk_usage(tmp_path)._replace(free=table.values.nbytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(Path, "open", None)
    with pytest.raises(OSError) as caught:
        kept.keep(table)
    assert caught.value.errno == errno.ENOSPC
    assert the_file(tmp_path).stat() == before
