"""Panel and stations files: hourly flows per station, and where stations are."""

from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl

from bikecast.errors import FileRefused
from bikecast.records import FIRST_RIDES, TARGETS, Station
from bikecast.tabular import read_frame, read_text, table

STATION_COLUMNS = {
    "station_id": ("station_id", "id"),
    "name": ("name", "address"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "lng", "longitude"),
    "capacity": ("capacity",),
}
# All hour long; 9999 and its like stand for "not counted".
MOST_IN_AN_HOUR = 3_600
EXPECTED_OF_STATIONS = (
    "station_id (or id), name (address), lat (latitude), lon (longitude) and, where known, capacity"
)


def read_panel(path: Path, latest: datetime, skipped: Counter[str]) -> tuple[pl.DataFrame, int]:
    """A panel as ``station_id, hour, pickups`` and, where the file has them, ``returns``.

    :param latest: local time after which no hour can have been.
    :param skipped: reason → rows that could not be used; grows.
    :returns: the usable rows, one per station and hour, and the number of rows in the file.
    :raises FileRefused: for what is no panel.
    """
    raw, read = read_frame(path, skipped)
    missing = [c for c in ("station_id", "hour", "pickups") if c not in raw.columns]
    if missing:
        raise FileRefused(
            f"{path} lacks the column(s) {', '.join(missing)}",
            hint=f"expected station_id, hour, pickups, returns, found {', '.join(raw.columns[:6])}",
        )
    return _usable(_typed(raw), latest, skipped), read


def _typed(raw: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("hour")
    if raw["hour"].dtype == pl.String:
        text = hour.str.strip_chars().str.replace("T", " ")
        forms = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
        hour = pl.coalesce(text.str.to_datetime(f, time_unit="us", strict=False) for f in forms)
    flows = [c for c in TARGETS if c in raw.columns]
    # A column without a number anywhere is as good as none: returns are not counted.
    if "returns" in flows and _is_blank(raw["returns"]):
        flows.remove("returns")
    return raw.select(
        pl.col("station_id").cast(pl.String).str.strip_chars(),
        hour.cast(pl.Datetime("us")).alias("hour"),
        *(pl.col(c).cast(pl.Float64, strict=False) for c in flows),
    )


def _is_blank(values: pl.Series) -> bool:
    if values.dtype == pl.String:
        values = values.str.strip_chars().replace("", None)
    elif values.dtype.is_float():
        values = values.fill_nan(None)
    return values.null_count() == len(values)


def _usable(rows: pl.DataFrame, latest: datetime, skipped: Counter[str]) -> pl.DataFrame:
    flows = [c for c in TARGETS if c in rows.columns]
    reasons = {
        "no station": pl.col("station_id").is_null() | (pl.col("station_id") == ""),
        "unreadable hour": pl.col("hour").is_null(),
        "impossible hour": ~pl.col("hour").is_between(FIRST_RIDES, latest),
        "not on the hour": pl.col("hour").dt.truncate("1h") != pl.col("hour"),
        "no number": pl.any_horizontal(pl.col(flows).is_null() | pl.col(flows).is_nan()),
        "negative": pl.any_horizontal(pl.col(flows) < 0),
        "more than a bike a second": pl.any_horizontal(pl.col(flows) > MOST_IN_AN_HOUR),
        "not a whole number": pl.any_horizontal(pl.col(flows) % 1 != 0),
    }
    for reason, holds in reasons.items():
        bad = rows.select(holds.fill_null(False)).to_series()
        if bad.any():
            skipped[reason] += int(bad.sum())
            rows = rows.filter(~bad)
    unique = rows.unique(["station_id", "hour"], keep="last", maintain_order=True)
    if len(unique) < len(rows):
        skipped["station and hour given twice"] += len(rows) - len(unique)
    return unique.with_columns(pl.col(flows).cast(pl.Int64))


def read_stations(path: Path, skipped: Counter[str]) -> tuple[tuple[Station, ...], int]:
    """Stations with name, place and capacity; a cell may be blank, and so may all capacities.

    :param skipped: reason → rows or values that could not be used; grows.
    :returns: the stations and the number of rows in the file.
    :raises FileRefused: for a file without one of the columns but the capacity's.
    """
    raw, read = table(read_text(path), path.name, skipped)
    names = {
        ours: next((c for c in options if c in raw.columns), None)
        for ours, options in STATION_COLUMNS.items()
    }
    missing = [ours for ours, column in names.items() if column is None and ours != "capacity"]
    if missing:
        raise FileRefused(
            f"{path} lacks the column(s) {', '.join(missing)}",
            hint=f"expected {EXPECTED_OF_STATIONS}, found {', '.join(raw.columns[:8])[:120]}",
        )
    found: dict[str, Station] = {}
    for row in raw.iter_rows(named=True):
        station = _station({o: row[c] if c else None for o, c in names.items()}, skipped)
        if station is None:
            continue
        if station.station_id in found:
            skipped["station given twice"] += 1
        found[station.station_id] = station
    return tuple(found.values()), read


def _station(row: dict[str, str | None], skipped: Counter[str]) -> Station | None:
    station_id = (row["station_id"] or "").strip()
    if not station_id:
        skipped["no station"] += 1
        return None
    lat, lon = _number(row["lat"], 90), _number(row["lon"], 180)
    if (lat is None) != (lon is None) or (row["lat"] and lat is None):
        skipped["impossible place"] += 1
        lat = lon = None
    capacity = _number(row["capacity"], 10_000)
    if row["capacity"] and (capacity is None or capacity < 0 or capacity % 1):
        skipped["impossible capacity"] += 1
        capacity = None
    whole = None if capacity is None else int(capacity)
    return Station(station_id, (row["name"] or "").strip(), lat, lon, whole)


def _number(text: str | None, most: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) <= most else None
