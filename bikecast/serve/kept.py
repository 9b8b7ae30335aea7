"""The last table on disk: all workers map it, and it is there when the database is not.

A file is one line of JSON, padded with spaces to whole pages, and behind it the values as they lie
in memory. It is replaced by a rename, so that whoever has mapped the old one keeps it until he lets
go.
"""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bikecast.records import Issue, Station, System
from bikecast.serve.table import ForecastTable, arranged

FORMAT: Final = 1
"""Of the file, and in its name: releases that share a folder look at files of their own format."""
_PAGE = 4096


class KeptTable:
    """A folder that holds the newest table that any worker could load.

    :param folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / f"forecast-{FORMAT}.table"

    @property
    def there(self) -> bool:
        """Whether a table was kept."""
        return self._file.exists()

    def load(self) -> ForecastTable | None:
        """The table as it lies on disk, its values mapped; None where there is none.

        :raises ValueError: for a file that is not whole, or that something else wrote.
        :raises OSError: for one that cannot be read.
        """
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return None
        with file:
            try:
                said = json.loads(file.readline())
                shape, start = tuple(said["shape"]), file.tell()
                if os.fstat(file.fileno()).st_size != start + 8 * math.prod(shape):
                    raise ValueError("not whole")
                return _table(said, np.memmap(file, np.float64, "r", start, shape))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{self._file} is no table: {error}") from error

    def keep(self, table: ForecastTable) -> None:
        """Put a table in the place of the one that is there; whole or not at all.

        Only for who is inside of :meth:`alone`: the unfinished file has the same name for all.

        :raises OSError: where the disk is full, or may not be written.
        """
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

    @contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """Whether no other worker is loading a table; nobody else begins to while this lasts.

        The kernel lets go for a worker that is killed. Where the folder cannot be written nobody
        can be kept out: each loads for itself.

        :param wait: until nobody else is.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "loading.lock").open("w")
        except OSError:
            yield True
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                alone = True
            except BlockingIOError:
                alone = False
            yield alone


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
    )
