"""Small csv and parquet files as text columns, refused where they are something else."""

import gzip
import io
import re
import zlib
from pathlib import Path

import polars as pl

from bikecast.errors import FileRefused


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
    text = data.decode("utf-8-sig", "replace")
    if text.lstrip().startswith("<"):
        raise FileRefused(f"{path} is a web page, not csv", hint="download the file again")
    return text


def is_binary(data: bytes) -> bool:
    """Whether the first bytes hold control characters, which no text has.

    >>> is_binary("Zürich\\t1\\r\\n".encode("latin-1")), is_binary(b"PK\\x03")
    (False, True)
    """
    return bool(re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data[:4096]))


def table(text: str, name: str) -> pl.DataFrame:
    """A csv text as columns of text; blank cells are null.

    :raises FileRefused: for what cannot be read as csv, or has no row.
    """
    try:
        found = pl.read_csv(
            io.StringIO(text), infer_schema=False, truncate_ragged_lines=True, null_values=[""]
        )
    except pl.exceptions.PolarsError as error:
        raise FileRefused(
            f"{name} is not csv: {str(error).splitlines()[0]}", hint="give a csv file"
        ) from error
    if found.is_empty():
        raise FileRefused(f"{name} has a header and no row", hint="give a file with rows")
    return found.rename({c: c.strip().lower() for c in found.columns})
