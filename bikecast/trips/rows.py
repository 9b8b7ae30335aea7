"""Trip rows of any published schema, as one: pure functions of a stream of bytes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO, Final, Literal

import polars as pl

from bikecast.errors import FileRefused
from bikecast.records import FIRST_RIDES
from bikecast.tabular import checked_text, fields, is_binary, rows

BLOCK = 24 << 20  # bytes parsed at once
LONGEST = timedelta(hours=24)  # beyond it the operators themselves call a bike lost or stolen

MODERN: Final = {
    "ride_id": "ride_key",
    "started_at": "started_at",
    "ended_at": "ended_at",
    "start_station_id": "start_id",
    "start_station_name": "start_name",
    "start_lat": "start_lat",
    "start_lng": "start_lon",
    "end_station_id": "end_id",
    "end_station_name": "end_name",
    "end_lat": "end_lat",
    "end_lng": "end_lon",
}
# Lower case until 2021; "Start Station ID" in 2016 and 2017.
LEGACY: Final = {
    "starttime": "started_at",
    "stoptime": "ended_at",
    "startstationid": "start_id",
    "startstationname": "start_name",
    "startstationlatitude": "start_lat",
    "startstationlongitude": "start_lon",
    "endstationid": "end_id",
    "endstationname": "end_name",
    "endstationlatitude": "end_lat",
    "endstationlongitude": "end_lon",
    "bikeid": "bike_id",
}
SCHEMA: Final = {
    "ride_key": pl.String,
    "started_at": pl.Datetime("us"),
    "ended_at": pl.Datetime("us"),
    "start_id": pl.String,
    "start_name": pl.String,
    "start_lat": pl.Float64,
    "start_lon": pl.Float64,
    "end_id": pl.String,
    "end_name": pl.String,
    "end_lat": pl.Float64,
    "end_lon": pl.Float64,
}
TIMES: Final = ("%Y-%m-%d %H:%M:%S%.f", "%m/%d/%Y %H:%M:%S%.f", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M")
MISSING: Final = ("", "NULL", "null", "NA", "nan", "NaN", "\\N")


@dataclass
class TripCounts:
    """What became of a file's rows; grows while the file is read.

    :param skipped: reason → rows that could not be used.
    :param notes: reason → rows used at one end only.
    """

    rows_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def parse_trips(
    stream: BinaryIO, name: str, timezone: str, latest: datetime, counts: TripCounts
) -> Iterator[pl.DataFrame]:
    """Batches of usable trips; what cannot be used is counted.

    A line is a row: no published file has a line break inside quotes.

    :param name: of the file, for errors.
    :param latest: local time after which no ride can have been, however often a file says so.
    :raises FileRefused: for what is not a trip file.
    """
    header, rest = _header(stream, name)
    columns, legacy = _columns(header, name)
    for block in _blocks(stream, rest):
        raw, read = rows(block, len(header), counts.skipped, MISSING)
        counts.rows_read += read
        named = raw.select(pl.col(f"column_{i + 1}").alias(n) for i, n in columns)
        yield _usable(_typed(named, legacy), timezone, latest, counts)


def _header(stream: BinaryIO, name: str) -> tuple[list[str], bytes]:
    first = stream.read(BLOCK).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not first:
        raise FileRefused(f"{name} is empty", hint="give a trip file with rows")
    line, _, rest = first.partition(b"\n")
    if is_binary(line) or len(line) > 10_000:
        raise FileRefused(f"{name} is binary, not csv", hint="give a csv, gz or zip of trips")
    text = checked_text(line.decode("utf-8-sig", "replace").strip(), name)
    if not rest.strip():
        raise FileRefused(f"{name} has a header and no row", hint="give a trip file with rows")
    return fields(text), rest


def _columns(header: list[str], name: str) -> tuple[list[tuple[int, str]], bool]:
    """(place, our name) of each column that is needed, and whether the schema is a legacy one."""
    found = []
    for schema, fold in ((MODERN, str.lower), (LEGACY, _squeezed)):
        places = {fold(h.strip()): i for i, h in reversed(list(enumerate(header)))}
        missing = [column for column in schema if column not in places]
        found.append((len(missing) / len(schema), missing, schema, places))
    _, missing, schema, places = min(found, key=lambda f: f[0])
    if missing:
        what = "no trip file: " if len(missing) > 3 else ""
        raise FileRefused(
            (
                f"{name} is {what}without the column(s) {', '.join(missing[:4])}"
                if what
                else f"{name} lacks the column(s) {', '.join(missing)}"
            ),
            hint=f"expected {', '.join(list(schema)[:4])}, …, found {', '.join(header[:4])[:80]}",
        )
    return [(places[c], ours) for c, ours in schema.items()], schema is LEGACY


def _squeezed(name: str) -> str:
    return "".join(name.lower().split())


def _blocks(stream: BinaryIO, rest: bytes) -> Iterator[bytes]:
    """Blocks that end with a line, so that memory stays bounded however long the file is."""
    while rest:
        more = stream.read(BLOCK) if len(rest) < BLOCK else b""
        rest += more
        if not more and len(rest) < BLOCK:
            yield rest
            return
        cut = rest.rfind(b"\n") + 1
        if not cut:
            raise FileRefused("a line is longer than 24 MB", hint="give a csv of trips")
        yield rest[:cut]
        rest = rest[cut:]


def _typed(raw: pl.DataFrame, legacy: bool) -> pl.DataFrame:
    """Text as ids, times and places; what cannot be read becomes null."""
    ids = [pl.col(c).str.strip_chars() for c in ("start_id", "end_id")]
    if legacy:
        # Spreadsheets wrote whole ids as 3183.0; in the modern schema a dot belongs to the id.
        ids = [i.str.replace(r"^(\d+)\.0$", "$1") for i in ids]
        raw = raw.with_columns(
            ride_key=pl.concat_str(
                pl.lit("legacy"),
                pl.col("bike_id").str.replace(r"\.0$", ""),
                _time("started_at").dt.strftime("%Y%m%d%H%M%S"),
                ids[0].fill_null(""),
                _time("ended_at").dt.strftime("%Y%m%d%H%M%S"),
                separator=":",
            )
        )
    places = [
        pl.col(f"{end}_{axis}").cast(pl.Float64, strict=False)
        for end in ("start", "end")
        for axis in ("lat", "lon")
    ]
    typed = raw.with_columns(_time("started_at"), _time("ended_at"), *ids, *places)
    return typed.with_columns(_on_earth(end, axis) for end in ("start", "end") for axis in LIMITS)


LIMITS: Final = {"lat": 90.0, "lon": 180.0}


def _on_earth(end: str, axis: str) -> pl.Expr:
    # Some rides carry 0, 0 where the place is not known.
    column = f"{end}_{axis}"
    value = pl.col(column)
    return pl.when((value.abs() <= LIMITS[axis]) & (value != 0)).then(value).alias(column)


def _time(column: str) -> pl.Expr:
    """A time to the second: some publications of a month have fractions, and others none."""
    text = pl.col(column).str.strip_chars()
    times = (text.str.to_datetime(f, time_unit="us", strict=False, exact=True) for f in TIMES)
    return pl.coalesce(times).dt.truncate("1s").alias(column)


def _usable(
    trips: pl.DataFrame, timezone: str, latest: datetime, counts: TripCounts
) -> pl.DataFrame:
    """The rows that can be used; the others are counted by the first reason that holds."""
    took = pl.col("ended_at") - pl.col("started_at")
    clocks_went_back = (_offset("started_at", timezone) > _offset("ended_at", timezone)) & (
        took > -timedelta(hours=1)
    )
    reasons = {
        "unreadable time": pl.col("started_at").is_null() | pl.col("ended_at").is_null(),
        # A year typed with two digits, a clock that was never set; also of a bike never docked.
        "impossible time": _outside("started_at", latest) | _outside("ended_at", latest),
        "no ride id": pl.col("ride_key").is_null(),
        "no station at either end": pl.col("start_id").is_null() & pl.col("end_id").is_null(),
        "time that does not exist": _skipped("started_at", timezone)
        | _skipped("ended_at", timezone),
        "negative duration": (took < timedelta(0)) & ~clocks_went_back,
        # A bike that was never docked was picked up all the same; its end is when it was found.
        "longer than 24 hours": (took > LONGEST) & pl.col("end_id").is_not_null(),
    }
    reason = pl.lit(None, pl.String)
    for name, holds in reversed(reasons.items()):
        reason = pl.when(holds).then(pl.lit(name)).otherwise(reason)
    marked = trips.with_columns(reason.alias("reason"))
    bad = marked.drop_nulls("reason").group_by("reason").len()
    counts.skipped.update(dict(bad.iter_rows()))
    good = marked.filter(pl.col("reason").is_null())
    for end in ("start", "end"):
        missing = good[f"{end}_id"].null_count()
        if missing:
            counts.notes[f"no {end} station"] += missing
    return good.select(*SCHEMA)


def _outside(column: str, latest: datetime) -> pl.Expr:
    return ~pl.col(column).is_between(FIRST_RIDES, latest)


def _offset(column: str, timezone: str) -> pl.Expr:
    """How far a local clock is from UTC; for an hour that occurs twice, the earlier for a start."""
    which: Literal["earliest", "latest"] = "earliest" if column == "started_at" else "latest"
    there = pl.col(column).dt.replace_time_zone(timezone, ambiguous=which, non_existent="null")
    return there.dt.base_utc_offset() + there.dt.dst_offset()


def _skipped(column: str, timezone: str) -> pl.Expr:
    there = pl.col(column).dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return there.is_null() & pl.col(column).is_not_null()
