"""Hourly weather, from Open-Meteo (UTC) and Visual Crossing (local): °C, mm, km/h, percent."""

import io
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import polars as pl

from bikecast.errors import DownloadFailed, FileRefused
from bikecast.records import WEATHER, WEATHER_BOUNDS
from bikecast.tabular import read_text, table

# The published names, without their unit in brackets.
OPEN_METEO: Final[dict[str, tuple[str, ...]]] = {
    "temperature": ("temperature_2m",),
    "precipitation": ("precipitation",),
    "wind_speed": ("wind_speed_10m", "windspeed_10m"),
    "cloud_cover": ("cloud_cover", "cloudcover"),
    "humidity": ("relative_humidity_2m", "relativehumidity_2m"),
}
VISUAL_CROSSING: Final[dict[str, tuple[str, ...]]] = {
    "temperature": ("temp",),
    "precipitation": ("precip",),
    "wind_speed": ("windspeed",),
    "cloud_cover": ("cloudcover",),
    "humidity": ("humidity",),
}
# Unit in brackets → what to do with the value.
UNITS: Final[dict[str, Callable[[pl.Expr], pl.Expr]]] = {
    "°f": lambda x: (x - 32) / 1.8,
    "inch": lambda x: x * 25.4,
    "m/s": lambda x: x * 3.6,
    "mp/h": lambda x: x * 1.609344,
    "mph": lambda x: x * 1.609344,
    "kn": lambda x: x * 1.852,
}
EARLIEST: Final = datetime(1940, 1, 1)  # Open-Meteo's archive begins here
AHEAD: Final = timedelta(days=35)  # the longest forecasts that are published
EXPECTED = "an hourly csv of Open-Meteo (a column time) or Visual Crossing (a column datetime)"
HOURLY = "temperature_2m,precipitation,wind_speed_10m,cloud_cover,relative_humidity_2m"


def read_weather(
    path: Path, timezone: str, latest: datetime, skipped: Counter[str]
) -> tuple[pl.DataFrame, int]:
    """A weather file as ``hour``, ``issued_at`` (UTC) and the variables of ``WEATHER``.

    :param timezone: of the system; Visual Crossing's hours are local and metric.
    :param latest: local time of the present; forecasts reach ``AHEAD`` beyond it.
    :param skipped: reason → rows or values that could not be used; grows.
    :returns: the frame, its hours unique per vintage, and the number of rows in the file.
    :raises FileRefused: for what is no weather file.
    """
    return parse_weather(read_text(path), path.name, timezone, latest, skipped)


def parse_weather(
    text: str, name: str, timezone: str, latest: datetime, skipped: Counter[str]
) -> tuple[pl.DataFrame, int]:
    """The text of a weather file; see :func:`read_weather`."""
    text, offset = _without_preamble(text)
    raw, read = table(text, name, skipped)
    if "time" in raw.columns:
        names, time = OPEN_METEO, _utc("time") - pl.duration(seconds=offset)
    elif "datetime" in raw.columns:
        names, time = VISUAL_CROSSING, _local("datetime", timezone)
    else:
        raise FileRefused(
            f"{name} is no weather file: found {', '.join(raw.columns[:5])[:80]}",
            hint=f"expected {EXPECTED}",
        )
    columns = [_variable(raw, ours, found, name) for ours, found in names.items()]
    issued = _utc("issued_at") if "issued_at" in raw.columns else pl.lit(None)
    frame = raw.select(
        time.alias("hour"),
        issued.cast(pl.Datetime("us", "UTC")).alias("issued_at"),
        *columns,
        blank=pl.col("time" if "time" in raw.columns else "datetime").is_null(),
    )
    return _usable(frame, latest, skipped), read


def _without_preamble(text: str) -> tuple[str, int]:
    """Open-Meteo's own downloads begin with the place and a blank line: the rest, and the offset.

    The offset is what the hours in the file are ahead of UTC, in seconds.
    """
    if not text.startswith("latitude,"):
        return text, 0
    head, _, rest = text.replace("\r\n", "\n").partition("\n\n")
    place = pl.read_csv(io.StringIO(head), infer_schema=False)
    offset = place["utc_offset_seconds"][0] if "utc_offset_seconds" in place.columns else "0"
    return rest, int(float(offset))


def _naive(column: str) -> pl.Expr:
    text = pl.col(column).str.strip_chars().str.replace("T", " ").str.strip_suffix("Z")
    forms = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
    return pl.coalesce(text.str.to_datetime(f, time_unit="us", strict=False) for f in forms)


def _utc(column: str) -> pl.Expr:
    return _naive(column).dt.replace_time_zone("UTC")


def _local(column: str, timezone: str) -> pl.Expr:
    """Local clock to UTC; of an hour that stands twice the second is the later one."""
    naive = _naive(column)
    first = pl.int_range(pl.len()).over(column) == 0
    which = pl.when(first).then(pl.lit("earliest")).otherwise(pl.lit("latest"))
    there = naive.dt.replace_time_zone(timezone, ambiguous=which, non_existent="null")
    return there.dt.convert_time_zone("UTC")


def _variable(raw: pl.DataFrame, ours: str, names: tuple[str, ...], file: str) -> pl.Expr:
    """A variable in our unit, null where it is no number."""
    for column in raw.columns:
        match = re.fullmatch(r"(\w+)(?: \((.+)\))?", column)
        if match and match[1] in names:
            value = pl.col(column).cast(pl.Float64, strict=False)
            convert = UNITS.get(match[2] or "")
            return (convert(value) if convert else value).alias(ours)
    if ours in ("temperature", "precipitation", "wind_speed"):
        raise FileRefused(
            f"{file} lacks the column {names[0]}",
            hint=f"expected {EXPECTED}, found {', '.join(raw.columns[:5])[:80]}",
        )
    return pl.lit(None, pl.Float64).alias(ours)


def _usable(frame: pl.DataFrame, latest: datetime, skipped: Counter[str]) -> pl.DataFrame:
    blank = frame.select(pl.col("blank") | pl.all_horizontal(pl.col(WEATHER).is_null()))
    skipped["blank row"] += int(blank.to_series().sum())
    frame = frame.filter(~blank.to_series())
    skipped["unreadable time"] += frame["hour"].null_count()
    frame = frame.drop_nulls("hour")
    possible = frame["hour"].dt.replace_time_zone(None).is_between(EARLIEST, latest + AHEAD)
    skipped["impossible time"] += int((~possible).sum())
    frame = frame.filter(possible)
    for name, (low, high) in WEATHER_BOUNDS.items():
        outside = frame.select(~pl.col(name).is_between(low, high)).to_series().sum()
        skipped[f"impossible {name}"] += int(outside)
    frame = frame.with_columns(
        pl.when(pl.col(n).is_between(low, high)).then(pl.col(n)).alias(n)
        for n, (low, high) in WEATHER_BOUNDS.items()
    )
    unique = frame.unique(["hour", "issued_at"], keep="last", maintain_order=True)
    skipped["hour given twice"] += len(frame) - len(unique)
    for reason in [r for r, n in skipped.items() if not n]:
        del skipped[reason]
    return unique.select("hour", "issued_at", *WEATHER).sort("hour", "issued_at")


def fetch_weather(
    http: httpx.Client, base_url: str, lat: float, lon: float, first: date, last: date
) -> str:
    """Open-Meteo's archive for a place and days, as csv in UTC.

    :raises DownloadFailed: where it does not answer with one.
    """
    asked: dict[str, Any] = {
        "latitude": round(lat, 3),
        "longitude": round(lon, 3),
        "start_date": first.isoformat(),
        "end_date": last.isoformat(),
        "hourly": HOURLY,
        "timezone": "UTC",
        "format": "csv",
    }
    try:
        answer = http.get(base_url, params=asked, timeout=30)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise DownloadFailed(
            f"no weather from {base_url}: {error}", hint="try again later, or give --weather FILE"
        ) from error
    return answer.text
