"""Trips in: staged by COPY, matched to stations, counted by the hour; one file, one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.store.connection import copy_in, fetch
from bikecast.store.stations import Alias, grouped, name_key, public_ids

STRAY_SHARE = 0.01
EDGE_DAYS = 3

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
# The hours of the stations in question between two moments, counted afresh from the trips.
COUNT_HOURS = """
INSERT INTO station_hour (station_key, hour, pickups, returns)
SELECT station_key, hour, sum(pickups), sum(returns) FROM (
    SELECT a.station_key, date_trunc('hour', t.started_at) AS hour, 1 AS pickups, 0 AS returns
    FROM trip t JOIN station_alias a ON a.alias_key = t.start_alias
    WHERE t.system_id = %(system)s AND t.started_at >= %(first)s AND t.started_at < %(stop)s
    UNION ALL
    SELECT a.station_key, date_trunc('hour', t.ended_at), 0, 1
    FROM trip t JOIN station_alias a ON a.alias_key = t.end_alias
    WHERE t.system_id = %(system)s AND t.ended_at >= %(first)s AND t.ended_at < %(stop)s
) AS ends GROUP BY station_key, hour
"""
FORGET_HOURS = """
DELETE FROM station_hour h USING station s
WHERE s.station_key = h.station_key AND s.system_id = %(system)s
AND h.hour >= %(first)s AND h.hour < %(stop)s
AND EXISTS (SELECT FROM station_alias a WHERE a.station_key = s.station_key AND a.trips > 0)
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
    for batch in batches:
        if batch.is_empty():
            continue
        staged += len(batch)
        keys = _aliases(connection, system_id, batch)
        copy_in(connection, "staged", _with_aliases(batch, keys))
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
        moved = settle_stations(connection, system_id)
        _count_hours(connection, system_id, first, stop, everything=moved)
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


def _ends(batch: pl.DataFrame) -> pl.DataFrame:
    """Both ends of all trips, one below the other."""
    ends = [
        batch.select(
            raw_id=f"{end}_id",
            name=pl.col(f"{end}_name").fill_null(""),
            lat=f"{end}_lat",
            lon=f"{end}_lon",
            at=at,
        )
        for end, at in (("start", "started_at"), ("end", "ended_at"))
    ]
    return pl.concat(ends).drop_nulls("raw_id")


def _aliases(connection: Connection, system_id: str, batch: pl.DataFrame) -> pl.DataFrame:
    """Make every id and name of a batch known; their keys as ``raw_id, name, alias_key``."""
    seen = (
        _ends(batch)
        .group_by("raw_id", "name")
        .agg(
            pl.col("lat").median(),
            pl.col("lon").median(),
            trips=pl.len(),
            first=pl.col("at").min(),
            last=pl.col("at").max(),
        )
    )
    rows = []
    for row in seen.sort("raw_id", "name").iter_rows(named=True):
        found = fetch(
            connection,
            """
            INSERT INTO station_alias AS a
                (system_id, raw_id, name_key, name, lat, lon, trips, first_seen, last_seen)
            VALUES (%(system)s, %(raw_id)s, %(key)s, %(name)s, %(lat)s, %(lon)s, %(trips)s,
                %(first)s, %(last)s)
            ON CONFLICT (system_id, raw_id, name_key) DO UPDATE SET
                lat = coalesce(a.lat, excluded.lat), lon = coalesce(a.lon, excluded.lon),
                trips = a.trips + excluded.trips,
                first_seen = least(a.first_seen, excluded.first_seen),
                last_seen = greatest(a.last_seen, excluded.last_seen)
            RETURNING alias_key
            """,
            row | {"system": system_id, "key": name_key(row["name"])},  # type: ignore[arg-type]
        )
        rows.append((row["raw_id"], row["name"], found[0][0]))
    schema = {"raw_id": pl.String, "name": pl.String, "alias_key": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _with_aliases(batch: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    for end in ("start", "end"):
        named = keys.rename({"alias_key": f"{end}_alias"})
        batch = batch.with_columns(pl.col(f"{end}_name").fill_null("")).join(
            named, left_on=[f"{end}_id", f"{end}_name"], right_on=["raw_id", "name"], how="left"
        )
    return batch.select("ride_key", "started_at", "ended_at", "start_alias", "end_alias")


def settle_stations(connection: Connection, system_id: str) -> bool:
    """Decide anew which aliases are one station, from all of them; say whether one has moved.

    A station keeps its key as long as one of its aliases has it, so that what refers to it stays.
    """
    columns = "alias_key, raw_id, name, lat, lon, trips, last_seen, station_key"
    found = fetch(
        connection, f"SELECT {columns} FROM station_alias WHERE system_id = %s", (system_id,)
    )
    groups = grouped([Alias(*row) for row in found])
    ids = public_ids(groups)
    taken: set[int] = set()
    moved = False
    for group, station_id in zip(groups, ids, strict=True):
        had = [a.station_key for a in group if a.station_key and a.station_key not in taken]
        key = max(had, key=had.count) if had else new_station(connection, system_id, station_id)
        taken.add(key)
        moved |= any(a.station_key not in (None, key) for a in group)
        place = next((a for a in reversed(group) if a.lat is not None), group[-1])
        fetch(
            connection,
            """
            UPDATE station SET station_id = %s, name = CASE WHEN %s <> '' THEN %s ELSE name END,
                lat = coalesce(%s, lat), lon = coalesce(%s, lon) WHERE station_key = %s
            """,
            (station_id, group[-1].name, group[-1].name, place.lat, place.lon, key),
        )
        keys = [a.alias_key for a in group if a.station_key != key]
        if keys:
            fetch(
                connection,
                "UPDATE station_alias SET station_key = %s WHERE alias_key = ANY(%s)",
                (key, keys),
            )
    return moved


def new_station(connection: Connection, system_id: str, station_id: str) -> int:
    """Make a station of this id; its key."""
    made = fetch(
        connection,
        "INSERT INTO station (system_id, station_id) VALUES (%s, %s) RETURNING station_key",
        (system_id, station_id),
    )
    return int(made[0][0])


def _count_hours(
    connection: Connection, system_id: str, first: datetime, last: datetime, *, everything: bool
) -> None:
    """Count the hours that a file touched anew; all of them where a station changed hands."""
    hour = timedelta(hours=1)
    window = {
        "system": system_id,
        "first": datetime.min if everything else first.replace(minute=0, second=0, microsecond=0),
        "stop": (
            datetime(9999, 1, 1)
            if everything
            else last.replace(minute=0, second=0, microsecond=0) + hour
        ),
    }
    fetch(connection, FORGET_HOURS, window)  # type: ignore[arg-type]
    fetch(connection, COUNT_HOURS, window)  # type: ignore[arg-type]
