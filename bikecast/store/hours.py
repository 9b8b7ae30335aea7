"""Hours out: pickups and returns per station, zero where a covered hour had none."""

from datetime import date, datetime, timedelta

import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.store.connection import copy_out, fetch

HOURLY = """
SELECT s.station_id, h.hour, h.pickups, h.returns FROM station_hour h
JOIN station s USING (station_key) WHERE s.system_id = %s
"""
TYPES = {
    "station_id": pl.String,
    "hour": pl.Datetime("us"),
    "pickups": pl.Int64,
    "returns": pl.Int64,
}


def covered(connection: Connection, system_id: str) -> list[tuple[date, date]]:
    """The days that imports have covered, first and last, merged and in order."""
    rows = fetch(
        connection,
        "SELECT first_day, last_day FROM coverage WHERE system_id = %s ORDER BY 1, 2",
        (system_id,),
    )
    merged: list[tuple[date, date]] = []
    for first, last in rows:
        if merged and first <= merged[-1][1] + timedelta(days=1):
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def stretches(days: list[date]) -> list[tuple[date, date]]:
    """Sorted days as first and last of each unbroken stretch."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and day == found[-1][1] + timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def hourly(connection: Connection, system_id: str) -> pl.DataFrame:
    """``station_id, hour, pickups, returns`` of all covered hours.

    A station has a row for every covered hour between its first and its last ride, zeros
    included; hours that no import covered have none, nor has the hour that spring skips.
    """
    known = copy_out(connection, HOURLY, (system_id,), TYPES)
    days = covered(connection, system_id)
    if known.is_empty() or not days:
        return known.clear()
    grid = pl.concat(
        pl.DataFrame(
            {
                "hour": pl.datetime_range(
                    datetime.combine(first, datetime.min.time()),
                    datetime.combine(last, datetime.min.time()) + timedelta(hours=23),
                    "1h",
                    eager=True,
                )
            }
        )
        for first, last in days
    )
    zone = fetch(connection, "SELECT timezone FROM system WHERE system_id = %s", (system_id,))[0][0]
    on_the_clock = pl.col("hour").dt.replace_time_zone(
        zone, ambiguous="earliest", non_existent="null"
    )
    grid = grid.filter(on_the_clock.is_not_null())
    spans = known.group_by("station_id").agg(
        first=pl.col("hour").min(),
        last=pl.col("hour").max(),
        flows=pl.col("returns").is_not_null().any(),
    )
    # A panel without returns knows nothing of them: there, zeros would be made up.
    full = (
        spans.join(grid, how="cross")
        .filter(pl.col("hour").is_between("first", "last"))
        .join(known, on=["station_id", "hour"], how="left")
    )
    return full.select(
        "station_id",
        "hour",
        pl.col("pickups").fill_null(0),
        pl.when("flows").then(pl.col("returns").fill_null(0)).alias("returns"),
    ).sort("station_id", "hour")
