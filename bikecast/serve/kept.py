"""The last table on disk: all workers map it, and it is there when the database is not.

A file is one line of JSON, padded with spaces to whole pages, and behind it the values as they lie
in memory. It is replaced by a rename, so that whoever has mapped the old one keeps it until he lets
go; written in place, or cut, it would end the processes that have it mapped.
"""

import errno
import fcntl
import json
import math
import os
import shutil
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import numpy as np

from bikecast.records import TARGETS, Issue, Station, System
from bikecast.serve.table import VALUES, ForecastTable, arranged

FORMAT: Final = 1
"""Of the file, and in its name: releases that share a folder look at files of their own format."""
NAME: Final = f"forecast-{FORMAT}.table"
_PAGE = 4096


class KeptTable:
    """A folder that holds the newest table that any worker could load.

    :param folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / NAME

    def stamp(self) -> tuple[int, int] | None:
        """Another one for each table that is put there; None where none can be seen.

        Only whether two are the same says something: clocks jump.
        """
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def load(self) -> ForecastTable | None:
        """The table as it lies on disk, its values mapped; None where there is none.

        :raises ValueError: for a file that is not whole, or that something else wrote.
        :raises OSError: for one that cannot be read.
        """
        try:
            file = self._file.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            try:
                said = json.loads(file.readline())
                shape, start = tuple(said["shape"]), file.tell()
                if shape != (len(said["stations"]), shape[1], len(TARGETS), len(VALUES)):
                    raise ValueError(f"its shape is {shape}")
                if os.fstat(file.fileno()).st_size != start + 8 * math.prod(shape):
                    raise ValueError("it is not whole")
                values = np.memmap(file, np.float64, "r", start, shape)
                # As a plain array: each look into a memmap makes another one, which takes 5 µs.
                return _table(said, values.view(np.ndarray))
            except (LookupError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{self._file} is no table: {error}") from error

    def keep(self, table: ForecastTable) -> None:
        """Put a table in the place of the one that is there; whole or not at all.

        Only for who has the :meth:`lock`: the unfinished file has the same name for all.

        :raises OSError: where the disk is full, or may not be written.
        """
        if shutil.disk_usage(self._folder).free <= table.values.nbytes:
            # Rather than fill the disk to find out, every few seconds and for others too.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        head = json.dumps(_document(table)).encode()
        head += b" " * (-(len(head) + 1) % _PAGE) + b"\n"
        unfinished = self._file.with_suffix(".new")
        try:
            with unfinished.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(head)
                file.write(np.ascontiguousarray(table.values).data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._file)
        finally:
            unfinished.unlink(missing_ok=True)

    def lock(self) -> BinaryIO | None:
        """The right to load and keep a table, until it is closed; None where another has it.

        The kernel gives it back for a worker that is killed.

        :raises OSError: where there can be no such file, or no locks on it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / "loading.lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            file.close()
            raise
        return file


def kept_folder(data_dir: Path, database: str, system_id: str) -> Path:
    """Where the last table of a system lies, whatever its name is made of."""
    return database_folder(data_dir, database) / f"system-{quote(system_id, safe='')}"


def kept_folders(data_dir: Path, database: str) -> list[Path]:
    """Those of all systems of a database that hold a table."""
    return sorted(file.parent for file in database_folder(data_dir, database).glob(f"*/{NAME}"))


def database_folder(data_dir: Path, database: str) -> Path:
    """Where all that is kept of a database lies."""
    # Staging's is not production's: two databases may have a system of one name.
    return data_dir / "served" / sha256(database.encode()).hexdigest()[:16]


def _document(table: ForecastTable) -> dict[str, Any]:
    issue = table.issue
    return {
        "shape": table.values.shape,
        "issue": asdict(issue)
        | {"issued_at": issue.issued_at.isoformat(), "as_of": issue.as_of.isoformat()},
        "system": asdict(table.system),
        "stations": [asdict(station) for station in table.stations],
        "index": table.index,
        "start": table.start.isoformat(),
        "digest": table.digest,
    }


def _table(said: dict[str, Any], values: np.ndarray[Any, np.dtype[np.float64]]) -> ForecastTable:
    times = {name: datetime.fromisoformat(said["issue"][name]) for name in ("issued_at", "as_of")}
    return arranged(
        Issue(**(said["issue"] | times)),
        System(**said["system"]),
        tuple(Station(**station) for station in said["stations"]),
        said["index"],
        datetime.fromisoformat(said["start"]),
        values,
        said.get("digest"),  # a release before this one kept none
    )
