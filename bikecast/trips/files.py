"""Trip files as they are published: csv, gz, zip, zips in zips; read as streams."""

import gzip
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import polars as pl

from bikecast.errors import FileRefused
from bikecast.trips.rows import TripCounts, parse_trips

ENDINGS = (".csv", ".csv.gz", ".zip")
ENCRYPTED = 0x1  # of a zip member's flags


def trip_paths(path: Path) -> list[Path]:
    """A file as it is, or the trip files in a folder and below, sorted.

    :raises FileRefused: for a path that does not exist, or a folder without trip files.
    """
    if path.is_dir():
        found = sorted(
            p for p in path.rglob("*") if p.name.endswith(ENDINGS) and _is_data(p.relative_to(path))
        )
        if not found:
            raise FileRefused(
                f"no trip file in {path}", hint=f"name a folder with {', '.join(ENDINGS)} files"
            )
        return found
    if not path.exists():
        raise FileRefused(f"no such file: {path}", hint="check the path")
    return [path]


def _is_data(path: Path | PurePosixPath) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def read_trips(
    path: Path,
    timezone: str,
    latest: datetime,
    counts: TripCounts,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[pl.DataFrame]:
    """Batches of a file's usable trips, in bounded memory; see :func:`parse_trips`.

    :param progress: told after each batch which share of the file has been used, from 0 to 1.
    :raises FileRefused: for what is not a trip file, is cut off or encrypted; that may show at its
        end only.
    """
    try:
        with path.open("rb") as stream:
            size = max(path.stat().st_size, 1)
            for part, name in _parts(stream, path.name):
                for batch in parse_trips(part, name, timezone, latest, counts):
                    yield batch
                    progress(stream.tell() / size)
    except NotImplementedError as error:
        raise FileRefused(
            f"{path} is packed in a way that cannot be read: {error}",
            hint="pack it as deflated zip",
        ) from error
    except (EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile) as error:
        raise FileRefused(
            f"{path} is damaged or cut off: {error}", hint="download it again"
        ) from error
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror}", hint="name a readable file"
        ) from error


def _parts(stream: BinaryIO, name: str) -> Iterator[tuple[BinaryIO, str]]:
    """The csv streams in a file, told by its first bytes and not by its name."""
    magic = stream.read(4)
    stream.seek(0)
    if magic[:2] == b"\x1f\x8b":
        yield cast(BinaryIO, gzip.GzipFile(fileobj=stream)), name
    elif magic in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _members(stream, name)
    else:
        yield stream, name


def _members(stream: BinaryIO, name: str) -> Iterator[tuple[BinaryIO, str]]:
    with zipfile.ZipFile(stream) as archive:
        if not archive.infolist():
            raise FileRefused(
                f"{name} is a zip with nothing in it", hint="give a zip of trip files"
            )
        members = [
            m
            for m in archive.infolist()
            if not m.is_dir()
            and _is_data(PurePosixPath(m.filename))
            and m.filename.lower().endswith(ENDINGS)
        ]
        if not members:
            raise FileRefused(f"{name} holds no csv", hint="give a zip of trip files")
        for member in sorted(members, key=lambda m: m.filename):
            inside = f"{name}: {member.filename}"
            if member.flag_bits & ENCRYPTED:
                raise FileRefused(f"{inside} is encrypted", hint="give a zip without a password")
            with archive.open(member) as part:
                if member.filename.lower().endswith(".zip"):
                    # A zip is read from its end, and a compressed member has none to go to.
                    with tempfile.TemporaryFile() as copy:
                        shutil.copyfileobj(part, copy)
                        copy.seek(0)
                        yield from _parts(cast(BinaryIO, copy), inside)
                else:
                    yield from _parts(cast(BinaryIO, part), inside)
