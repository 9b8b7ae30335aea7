"""Trips in: staged by COPY, matched to stations, counted by the hour; one file, one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.store.connection import copy_in, fetch
from bikecast.store.identity import AliasBook, settle_stations, with_name_key

STRAY_SHARE = 0.01
EDGE_DAYS = 3
FOREVER = datetime(9999, 1, 1)

STAGE = """
CREATE TEMP TABLE staged (
    ride_key text, started_at timestamp, ended_at timestamp, start_alias int, end_alias int
) ON COMMIT DROP
"""
INSERT = """
INSERT INTO trip (system_id, ride_key, started_at, ended_at, start_alias, end_alias)
SELECT %s, ride_key, started_at, ended_at, start_alias, end_alias FROM staged
ON CONFLICT DO NOTHING
"""
# Hours between two moments, counted afresh from the trips: of some stations, or of all (NULL).
COUNT_HOURS = """
INSERT INTO station_hour (station_key, hour, pickups, returns, source)
SELECT station_key, hour, sum(pickups), sum(returns), 'trips' FROM (
    SELECT a.station_key, date_trunc('hour', t.started_at) AS hour, 1 AS pickups, 0 AS returns
    FROM trip t JOIN station_alias a ON a.alias_key = t.start_alias
    WHERE t.system_id = %(system)s AND t.started_at >= %(first)s AND t.started_at < %(stop)s
    UNION ALL
    SELECT a.station_key, date_trunc('hour', t.ended_at), 0, 1
    FROM trip t JOIN station_alias a ON a.alias_key = t.end_alias
    WHERE t.system_id = %(system)s AND t.ended_at >= %(first)s AND t.ended_at < %(stop)s
) AS ends WHERE %(keys)s::int[] IS NULL OR station_key = ANY(%(keys)s)
GROUP BY station_key, hour ORDER BY station_key, hour
ON CONFLICT DO NOTHING
"""
FORGET_HOURS = """
DELETE FROM station_hour h USING station s
WHERE s.station_key = h.station_key AND s.system_id = %(system)s AND h.source = 'trips'
AND h.hour >= %(first)s AND h.hour < %(stop)s
AND (%(keys)s::int[] IS NULL OR h.station_key = ANY(%(keys)s))
"""


@dataclass(frozen=True)
class Imported:
    """What one file brought."""

    rows_used: int
    duplicates: int


def import_batches(
    connection: Connection, system_id: str, batches: Iterable[pl.DataFrame]
) -> Imported:
    """Bring a file's trips in; nothing is visible to others before the caller commits."""
    days: dict[date, int] = {}
    staged, used = 0, 0
    first, stop = datetime.max, datetime.min
    fetch(connection, STAGE)
    book = AliasBook(connection, system_id)
    for batch in batches:
        if batch.is_empty():
            continue
        staged += len(batch)
        copy_in(connection, "staged", _with_aliases(book, batch))
        used += _count(connection, INSERT, system_id)
        fetch(connection, "TRUNCATE staged")
        for day, n in batch.group_by(pl.col("started_at").dt.date()).len().iter_rows():
            days[day] = days.get(day, 0) + n
        times = pl.concat([batch["started_at"], batch["ended_at"]])
        earliest, latest = times.min(), times.max()
        assert isinstance(earliest, datetime) and isinstance(latest, datetime)
        first, stop = min(first, earliest), max(stop, latest)
    if not staged:
        return Imported(0, 0)
    for begin, end in covered_days(days):
        fetch(
            connection,
            "INSERT INTO coverage VALUES (%s, %s, %s, 'trips') ON CONFLICT DO NOTHING",
            (system_id, begin, end),
        )
    if used:
        book.close()
        # Without figures of what has just come in, every ride is looked up on its own.
        fetch(connection, "ANALYZE trip, station_alias")
        moved = settle_stations(connection, system_id)
        _count_hours(connection, system_id, first, stop, None)
        if moved:
            _count_hours(connection, system_id, datetime.min, FOREVER, moved)
    return Imported(used, staged - used)


def _count(connection: Connection, query: str, *values: object) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return int(cursor.rowcount)


def covered_days(days: dict[date, int]) -> list[tuple[date, date]]:
    """Which days a file covers, from its trips per day.

    A month counts where it holds at least 1 % of the trips, so that a few strays open none. In
    it the file covers from the first to the last day with a trip, and on to the edge of the month
    where that is within three days: a month that begins with a blizzard is whole all the same.
    """
    total = sum(days.values())
    months: dict[date, list[date]] = {}
    for day in days:
        months.setdefault(day.replace(day=1), []).append(day)
    spans = []
    for month, found in sorted(months.items()):
        if sum(days[d] for d in found) < STRAY_SHARE * total:
            continue
        end = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        first, last = min(found), max(found)
        spans.append(
            (
                month if (first - month).days <= EDGE_DAYS else first,
                end if (end - last).days <= EDGE_DAYS else last,
            )
        )
    return spans


def _with_aliases(book: AliasBook, batch: pl.DataFrame) -> pl.DataFrame:
    """The batch as it is stored: instead of ids and names, the keys of what they are."""
    ends = {end: _end(batch, end, at) for end, at in ENDS.items()}
    keys = book.keys_of(pl.concat(ends.values()).drop_nulls("raw_id"))
    found = {
        f"{end}_alias": rows.join(
            keys, on=["raw_id", "name_key"], how="left", maintain_order="left"
        )["alias_key"]
        for end, rows in ends.items()
    }
    return batch.select("ride_key", "started_at", "ended_at").with_columns(**found)


ENDS = {"start": "started_at", "end": "ended_at"}


def _end(batch: pl.DataFrame, end: str, at: str) -> pl.DataFrame:
    """One end of all trips of a batch, in its order."""
    return with_name_key(
        batch.select(
            raw_id=f"{end}_id",
            name=pl.col(f"{end}_name").fill_null(""),
            lat=f"{end}_lat",
            lon=f"{end}_lon",
            at=at,
        )
    )


def _count_hours(
    connection: Connection, system_id: str, first: datetime, last: datetime, keys: list[int] | None
) -> None:
    """Count the hours from one moment to another anew: of these stations, or of all."""
    window = {
        "system": system_id,
        "first": first.replace(minute=0, second=0, microsecond=0),
        "stop": last.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1),
        "keys": keys,
    }
    fetch(connection, FORGET_HOURS, window)
    fetch(connection, COUNT_HOURS, window)
