"""Bring files in: each file whole or not at all, and one bad file stops no other."""

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bikecast.errors import FileRefused, InputError
from bikecast.panels import read_panel, read_stations
from bikecast.records import ImportReport
from bikecast.store import FileSeen, Store
from bikecast.trips import TripCounts, read_trips, trip_paths
from bikecast.weather import read_weather

Progress = Callable[[float, float | None, str], None]
Share = Callable[[float], None]


def quietly(done: float, total: float | None, detail: str) -> None:
    """Nobody is told how far it is."""


def import_trips(
    store: Store, system_id: str, paths: list[Path], progress: Progress = quietly
) -> list[ImportReport]:
    """Bring in trip files, or folders of them.

    :raises FileRefused: after the other files are in, naming each that could not be used.
    """
    timezone = store.system(system_id).timezone

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        counts = TripCounts()
        batches = read_trips(path, timezone, counts, share)
        return store.import_trips(
            system_id, file, batches, lambda: (counts.rows_read, counts.skipped, counts.notes)
        )

    return _each(store, system_id, "trips", paths, one, progress, trip_paths)


def import_weather(
    store: Store, system_id: str, paths: list[Path], progress: Progress = quietly
) -> list[ImportReport]:
    """Bring in hourly weather."""
    timezone = store.system(system_id).timezone

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        frame, read = read_weather(path, timezone, skipped)
        return store.import_weather(system_id, file, frame, read, skipped)

    return _each(store, system_id, "weather", paths, one, progress)


def import_panel(
    store: Store, system_id: str, paths: list[Path], progress: Progress = quietly
) -> list[ImportReport]:
    """Bring in hours per station."""

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        frame, read = read_panel(path, skipped)
        return store.import_panel(system_id, file, frame, read, skipped)

    return _each(store, system_id, "panel", paths, one, progress)


def import_stations(
    store: Store, system_id: str, paths: list[Path], progress: Progress = quietly
) -> list[ImportReport]:
    """Bring in names, places and capacities of stations."""

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        stations, read = read_stations(path, skipped)
        return store.import_stations(system_id, file, stations, read, skipped)

    return _each(store, system_id, "stations", paths, one, progress)


def _each(
    store: Store,
    system_id: str,
    kind: str,
    paths: list[Path],
    one: Callable[[Path, FileSeen, Share], ImportReport],
    progress: Progress,
    files_of: Callable[[Path], list[Path]] = lambda path: [path],
) -> list[ImportReport]:
    reports, refused = [], []
    files: list[Path] = []
    for path in paths:
        try:
            files += files_of(path)
        except FileRefused as error:
            refused.append(error)
    for i, path in enumerate(files):
        share = partial(_tell, progress, i, len(files), path.name)
        share(0)
        try:
            file = FileSeen(str(path), file_hash(path))
            reports.append(store.imported(system_id, kind, file) or one(path, file, share))
        except FileRefused as error:
            refused.append(error)
    if refused:
        raise _refusal(refused, len(reports))
    return reports


def _tell(progress: Progress, before: int, files: int, name: str, share: float) -> None:
    progress(before + share, files, name)


def _refusal(refused: list[FileRefused], others: int) -> InputError:
    if len(refused) == 1 and not others:
        return refused[0]
    named = "; ".join(str(e) for e in refused)
    return FileRefused(f"{len(refused)} refused, {others} other file(s) imported: {named}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes.

    :raises FileRefused: for a path that cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror}", hint="name a readable file"
        ) from error
