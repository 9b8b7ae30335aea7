"""Bring files in: each file whole or not at all, and one bad file stops no other."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from bikecast.errors import FileRefused, InputError
from bikecast.panels import read_panel, read_stations
from bikecast.records import ImportReport
from bikecast.store import FileSeen, Store
from bikecast.trips import TripCounts, read_trips, trip_paths
from bikecast.weather import read_weather

Progress = Callable[[float, float | None, str], None]
Share = Callable[[float], None]
OnReport = Callable[[ImportReport], None]
SLACK = timedelta(days=1)  # for clocks that are ahead, and zones that were mistaken


def quietly(done: float, total: float | None, detail: str) -> None:
    """Nobody is told how far it is."""


def unheard(report: ImportReport) -> None:
    """Nobody is told of a file before all are in."""


def latest_now(timezone: str) -> datetime:
    """The local time after which nothing in a file can have happened: a day from now."""
    return datetime.now(UTC).astimezone(ZoneInfo(timezone)).replace(tzinfo=None) + SLACK


def import_trips(
    store: Store,
    system_id: str,
    paths: list[Path],
    progress: Progress = quietly,
    on_report: OnReport = unheard,
) -> list[ImportReport]:
    """Bring in trip files, or folders of them.

    :param on_report: told of each file as soon as it is in, whatever becomes of the next.
    :raises FileRefused: after the other files are in, naming each that could not be used.
    """
    timezone = store.system(system_id).timezone
    latest = latest_now(timezone)

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        counts = TripCounts()
        batches = read_trips(path, timezone, latest, counts, share)
        return store.import_trips(
            system_id, file, batches, lambda: (counts.rows_read, counts.skipped, counts.notes)
        )

    return _each(store, system_id, "trips", paths, one, progress, on_report, trip_paths)


def import_weather(
    store: Store,
    system_id: str,
    paths: list[Path],
    progress: Progress = quietly,
    on_report: OnReport = unheard,
) -> list[ImportReport]:
    """Bring in hourly weather."""
    timezone = store.system(system_id).timezone

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        frame, read = read_weather(path, timezone, latest_now(timezone), skipped)
        return store.import_weather(system_id, file, frame, read, skipped)

    return _each(store, system_id, "weather", paths, one, progress, on_report)


def import_panel(
    store: Store,
    system_id: str,
    paths: list[Path],
    progress: Progress = quietly,
    on_report: OnReport = unheard,
) -> list[ImportReport]:
    """Bring in hours per station."""
    latest = latest_now(store.system(system_id).timezone)

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        frame, read = read_panel(path, latest, skipped)
        return store.import_panel(system_id, file, frame, read, skipped)

    return _each(store, system_id, "panel", paths, one, progress, on_report)


def import_stations(
    store: Store,
    system_id: str,
    paths: list[Path],
    progress: Progress = quietly,
    on_report: OnReport = unheard,
) -> list[ImportReport]:
    """Bring in names, places and capacities of stations."""

    def one(path: Path, file: FileSeen, share: Share) -> ImportReport:
        skipped: Counter[str] = Counter()
        stations, read = read_stations(path, skipped)
        return store.import_stations(system_id, file, stations, read, skipped)

    return _each(store, system_id, "stations", paths, one, progress, on_report)


def _each(
    store: Store,
    system_id: str,
    kind: str,
    paths: list[Path],
    one: Callable[[Path, FileSeen, Share], ImportReport],
    progress: Progress,
    on_report: OnReport,
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
            report = store.imported(system_id, kind, file) or one(path, file, share)
            on_report(report)
            reports.append(report)
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
