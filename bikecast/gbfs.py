"""Station status as a feed tells it: in how much of each hour a station had no bike, or no dock."""

from collections import Counter
from pathlib import Path
from typing import Final

import polars as pl

from bikecast.errors import FileRefused
from bikecast.tabular import read_frame

# Ours, then what GBFS 1 to 3 and who keeps its snapshots call it.
COLUMNS: Final = {
    "station_id": ("station_id",),
    "time": ("time", "capture_ts"),
    "bikes": ("bikes", "num_bikes_available", "num_vehicles_available"),
    "docks": ("docks", "num_docks_available"),
}
YEARS: Final = (2000, 2100)


def read_status(path: Path, timezone: str, skipped: Counter[str]) -> pl.DataFrame:
    """Snapshots of stations, counted by the hour: ``station_id, hour, snapshots, empty, full``.

    ``hour`` is civil and naive. ``empty`` counts snapshots without a bike, ``full`` those without
    a dock; it is 0 where the file tells no docks.

    :param timezone: of the system; times in the file are UTC, or seconds since 1970.
    :param skipped: reason → rows that could not be used; grows.
    :raises FileRefused: for what is no file of snapshots.
    """
    raw, _ = read_frame(path, skipped)
    names = {
        ours: next((c for c in options if c in raw.columns), None)
        for ours, options in COLUMNS.items()
    }
    missing = [" or ".join(COLUMNS[o]) for o, c in names.items() if c is None and o != "docks"]
    if missing:
        raise FileRefused(
            f"{path} lacks the column(s) {', '.join(missing)}",
            hint=f"expected station_id, time, bikes, docks, found {', '.join(raw.columns[:6])}",
        )
    rows = raw.select(
        _of(names["station_id"])
        .cast(pl.String, strict=False)
        .str.strip_chars()
        .alias("station_id"),
        _time(raw, str(names["time"])).alias("time"),
        _of(names["bikes"]).cast(pl.Float64, strict=False).fill_nan(None).alias("bikes"),
        _of(names["docks"]).cast(pl.Float64, strict=False).fill_nan(None).alias("docks"),
    )
    # Milliseconds since 1970 are read as seconds of a far future.
    possible = pl.col("time").dt.year().is_between(*YEARS)
    good = rows.drop_nulls(["station_id", "time", "bikes"]).filter(possible)
    if len(good) < len(rows):
        skipped["snapshots that cannot be read"] += len(rows) - len(good)
    return by_hour(good, timezone)


def _of(column: str | None) -> pl.Expr:
    return pl.col(column) if column else pl.lit(None)


def _time(raw: pl.DataFrame, column: str) -> pl.Expr:
    """In UTC, naive."""
    time = pl.col(column)
    dtype = raw[column].dtype
    if isinstance(dtype, pl.Datetime):
        in_utc = time.dt.convert_time_zone("UTC") if dtype.time_zone else time
        return in_utc.dt.replace_time_zone(None).dt.cast_time_unit("us")
    text = time.cast(pl.String, strict=False).str.strip_chars()
    clock = text.str.replace("T", " ").str.strip_suffix("Z")
    forms = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
    offset = clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
    seconds = text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    return pl.coalesce(
        *(clock.str.to_datetime(f, time_unit="us", strict=False) for f in forms),
        offset.dt.convert_time_zone("UTC").dt.replace_time_zone(None),
        pl.from_epoch(seconds).dt.cast_time_unit("us"),
    )


def by_hour(snapshots: pl.DataFrame, timezone: str) -> pl.DataFrame:
    """Snapshots counted by the civil hour; see :func:`read_status`.

    :param snapshots: ``station_id``, ``time`` (UTC, naive), ``bikes`` and ``docks``.
    """
    local = pl.col("time").dt.replace_time_zone("UTC").dt.convert_time_zone(timezone)
    hour = local.dt.replace_time_zone(None).dt.truncate("1h").alias("hour")
    return (
        snapshots.unique(["station_id", "time"], keep="last", maintain_order=True)
        .group_by("station_id", hour)
        .agg(
            snapshots=pl.len().cast(pl.Int64),
            empty=(pl.col("bikes") <= 0).sum().cast(pl.Int64),
            full=(pl.col("docks") <= 0).sum().cast(pl.Int64),
        )
        .sort("station_id", "hour")
    )
