"""Csv as text columns, row by row, parquet as it is, and files refused that only look like it."""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import polars as pl

from bikecast.errors import FileRefused


def read_frame(path: Path, skipped: Counter[str]) -> tuple[pl.DataFrame, int]:
    """A parquet file with its own types, or a csv as text columns; and its number of rows.

    :param skipped: reason → rows that are no csv; grows.
    :raises FileRefused: for what cannot be read as either.
    """
    return _parquet(path) if _is_parquet(path) else table(read_text(path), path.name, skipped)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror}", hint="name a readable file"
        ) from error


def _parquet(path: Path) -> tuple[pl.DataFrame, int]:
    try:
        found = pl.read_parquet(path)
        return found, len(found)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileRefused(
            f"{path} is damaged: {str(error).splitlines()[0]}", hint="get it again"
        ) from error


def read_text(path: Path) -> str:
    """The text of a csv, plain or gz.

    :raises FileRefused: for no such file, an empty or truncated one, a binary or a web page.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileRefused(f"{path} is damaged or cut off: {error}", hint="get it again") from error
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror}", hint="name a readable file"
        ) from error
    if not data.strip():
        raise FileRefused(f"{path} is empty", hint="give a file with rows")
    if is_binary(data):
        raise FileRefused(f"{path} is binary, not csv", hint="give a csv file")
    return checked_text(data.decode("utf-8-sig", "replace"), str(path))


def checked_text(text: str, name: str) -> str:
    """The text, unless it is a web page.

    :raises FileRefused: for what a server sent in the place of a file.
    """
    if text.lstrip().startswith("<"):
        raise FileRefused(f"{name} is a web page, not csv", hint="download the file again")
    return text


# What no text has: the control characters, without tab, line ends and the escape of some codings.
CONTROLS: Final = bytes([*range(0x00, 0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20)])


def is_binary(data: bytes) -> bool:
    """Whether the first bytes hold control characters, which no text has.

    >>> is_binary("Zürich\\t1\\r\\n".encode("latin-1")), is_binary(b"PK\\x03")
    (False, True)
    """
    return _has_controls(data[:4096])


def _has_controls(data: bytes) -> bool:
    return len(data.translate(None, CONTROLS)) < len(data)


def table(text: str, name: str, skipped: Counter[str]) -> tuple[pl.DataFrame, int]:
    """A csv text as columns of text, blank cells null, and the number of rows it had.

    :param skipped: reason → rows that are no csv; grows.
    :raises FileRefused: for a text without a row.
    """
    head, _, rest = text.lstrip().partition("\n")
    names = [name.strip().lower() for name in fields(head.rstrip("\r"))]
    if not rest.strip():
        raise FileRefused(f"{name} has a header and no row", hint="give a file with rows")
    found, read = rows(rest.encode(), len(names), skipped, missing=[""])
    # Of two columns of one name the first is meant; a column without one is an index.
    places = {n: i for i, n in reversed(list(enumerate(names)))}
    kept = sorted(places.items(), key=lambda place: place[1])
    return found.select(pl.nth(i).alias(n) for n, i in kept), read


def rows(
    block: bytes, width: int, skipped: Counter[str], missing: Iterable[str]
) -> tuple[pl.DataFrame, int]:
    """Lines of csv as ``width`` columns of text, and how many there were, blank ones not counted.

    A line is a row: a quote that is opened and never closed spoils its own line and no other.
    A quote that stands inside a name is kept as it is. What is no row is skipped and counted.

    :param missing: the texts that stand for no value.
    """
    clean, spoilt = _without_controls(block)
    lines = _lines(clean)
    filled = lines.filter(lines.str.strip_chars() != "")
    tidy = _tidy(filled, width, quotes=b'"' in clean)
    whole = clean if len(filled) == len(lines) and tidy.all() else _joined(filled.filter(tidy))
    found = _parsed(whole, width, missing)
    if found is None or len(found) != tidy.sum():
        # The quick reader sees other rows than there are lines: the patient one takes them all.
        found, tidy = None, pl.repeat(False, len(filled), eager=True)
    mended = _mended(filled.filter(~tidy), width, skipped)
    if spoilt:
        skipped["control character"] += spoilt
    parts = [found, _parsed(mended, width, missing)]
    return pl.concat([p for p in parts if p is not None]), len(filled) + spoilt


def _without_controls(block: bytes) -> tuple[bytes, int]:
    """The lines without control characters, and how many had one."""
    if not _has_controls(block):
        return block, 0
    lines = block.split(b"\n")
    kept = [line for line in lines if not _has_controls(line)]
    return b"\n".join([*kept, b""]), len(lines) - len(kept)


def _lines(block: bytes) -> pl.Series:
    if not block.strip():
        return pl.Series(dtype=pl.String)
    return pl.read_csv(
        block,
        has_header=False,
        separator="\x1f",  # a control character, so in no line
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
    )["line"].drop_nulls()


# Bare, or quoted from end to end with every quote inside doubled.
FIELD: Final = r'(?:"(?:[^"]|"")*"|[^",]*)'


def _tidy(lines: pl.Series, width: int, *, quotes: bool) -> pl.Series:
    """Which lines are ``width`` well-formed fields."""
    if quotes:
        return lines.str.contains(rf"^{FIELD}(?:,{FIELD}){{{width - 1}}}\r?$")
    return lines.str.count_matches(",", literal=True) == width - 1


def _joined(lines: pl.Series) -> bytes:
    return "\n".join([*lines, ""]).encode()


def _parsed(block: bytes, width: int, missing: Iterable[str]) -> pl.DataFrame | None:
    """Well-formed rows as text columns; None where the quick reader refuses them."""
    schema = {f"column_{i + 1}": pl.String for i in range(width)}
    if not block.strip():
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_csv(
            block,
            has_header=False,
            schema=schema,
            encoding="utf8-lossy",
            null_values=list(missing),
        )
    except pl.exceptions.PolarsError:
        return None


def _mended(lines: pl.Series, width: int, skipped: Counter[str]) -> bytes:
    """What can be made of odd lines, as well-formed csv; the others are counted."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    for line in lines:
        row = fields(line)
        if len(row) == width:
            out.writerow(row)
        else:
            unclosed = line.count('"') % 2
            skipped["unclosed quote" if unclosed else "wrong number of fields"] += 1
    return text.getvalue().encode()


def fields(line: str) -> list[str]:
    """The fields of one line; none for what is no csv.

    >>> fields('1,"Broadway, north",5" pipe St')
    ['1', 'Broadway, north', '5" pipe St']
    """
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []
