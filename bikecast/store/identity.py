"""Which station an id means: aliases from trips, ids from files, and the keys they keep."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.store.connection import fetch, fetch_values
from bikecast.store.stations import Alias, grouped, name_key, public_ids

# What the newest rides say of an alias holds, whichever file came first.
UPSERT_ALIASES = """
INSERT INTO station_alias AS a
    (system_id, raw_id, name_key, name, lat, lon, trips, first_seen, last_seen) VALUES %s
ON CONFLICT (system_id, raw_id, name_key) DO UPDATE SET
    name = CASE WHEN excluded.last_seen >= a.last_seen THEN excluded.name ELSE a.name END,
    lat = CASE WHEN excluded.last_seen >= a.last_seen AND excluded.lat IS NOT NULL
        THEN excluded.lat ELSE coalesce(a.lat, excluded.lat) END,
    lon = CASE WHEN excluded.last_seen >= a.last_seen AND excluded.lon IS NOT NULL
        THEN excluded.lon ELSE coalesce(a.lon, excluded.lon) END,
    trips = a.trips + excluded.trips,
    first_seen = least(a.first_seen, excluded.first_seen),
    last_seen = greatest(a.last_seen, excluded.last_seen)
RETURNING raw_id, name_key, alias_key
"""
# The panel hours and forecasts of a station that turned out to be another one.
MERGE = (
    """
    INSERT INTO station_hour AS h (station_key, hour, pickups, returns, source)
    SELECT %(into)s, hour, pickups, returns, source FROM station_hour
    WHERE station_key = %(gone)s AND source = 'panel'
    ON CONFLICT (station_key, hour) DO UPDATE SET source = 'panel',
        pickups = CASE WHEN h.source = 'panel'
            THEN coalesce(h.pickups + excluded.pickups, h.pickups, excluded.pickups)
            ELSE excluded.pickups END,
        returns = CASE WHEN h.source = 'panel'
            THEN coalesce(h.returns + excluded.returns, h.returns, excluded.returns)
            ELSE excluded.returns END
    """,
    "DELETE FROM station_hour WHERE station_key = %(gone)s",
    """
    UPDATE forecast f SET station_key = %(into)s WHERE station_key = %(gone)s AND NOT EXISTS (
        SELECT FROM forecast o WHERE o.issue_id = f.issue_id AND o.station_key = %(into)s
        AND o.hour = f.hour AND o.target = f.target)
    """,
    "DELETE FROM forecast WHERE station_key = %(gone)s",
    # What is left of these goes with the station.
    """
    UPDATE forecast_inputs i SET station_key = %(into)s WHERE station_key = %(gone)s
        AND NOT EXISTS (SELECT FROM forecast_inputs o
            WHERE o.issue_id = i.issue_id AND o.station_key = %(into)s)
    """,
    """
    UPDATE station s SET given_name = coalesce(s.given_name, g.given_name),
        given_lat = coalesce(s.given_lat, g.given_lat),
        given_lon = coalesce(s.given_lon, g.given_lon), capacity = coalesce(s.capacity, g.capacity)
    FROM station g WHERE s.station_key = %(into)s AND g.station_key = %(gone)s
    """,
    "DELETE FROM station WHERE station_key = %(gone)s",
)


class AliasBook:
    """The ids and names that a file's rides use: known as they come, written down once at its end.

    Written with every batch, a row would leave as many dead ones in the same transaction, through
    which each foreign key of a ride is then looked up.
    """

    def __init__(self, connection: Connection, system_id: str) -> None:
        self._connection = connection
        self._system_id = system_id
        found = fetch(
            connection,
            "SELECT raw_id, name_key, alias_key FROM station_alias WHERE system_id = %s",
            (system_id,),
        )
        self._keys = pl.DataFrame(found, schema=KEYS, orient="row")
        self._seen: list[pl.DataFrame] = []

    def keys_of(self, ends: pl.DataFrame) -> pl.DataFrame:
        """``raw_id, name_key, alias_key`` of all that rides use.

        :param ends: ``raw_id, name_key, name, lat, lon, at``, one row per end of a ride.
        """
        seen = (
            ends.sort("at")
            .group_by("raw_id", "name_key")
            .agg(
                pl.col("name").last(),
                pl.col("lat").median(),
                pl.col("lon").median(),
                trips=pl.len(),
                first=pl.col("at").min(),
                last=pl.col("at").max(),
            )
            .sort("raw_id", "name_key")
        )
        new = seen.join(self._keys, on=["raw_id", "name_key"], how="anti").with_columns(trips=0)
        self._keys = pl.concat([self._keys, self._write(new)])
        self._seen.append(seen)
        return self._keys

    def close(self) -> None:
        """Write down how often, when and where each was seen."""
        whole = (
            pl.concat(self._seen)
            .sort("last")
            .group_by("raw_id", "name_key")
            .agg(
                pl.col("name").last(),
                pl.col("lat").drop_nulls().last(),
                pl.col("lon").drop_nulls().last(),
                pl.col("trips").sum(),
                pl.col("first").min(),
                pl.col("last").max(),
            )
            .sort("raw_id", "name_key")
        )
        self._write(whole)

    def _write(self, rows: pl.DataFrame) -> pl.DataFrame:
        values = [(self._system_id, *row) for row in rows.iter_rows()]
        found = fetch_values(self._connection, UPSERT_ALIASES, values)
        return pl.DataFrame(found, schema=KEYS, orient="row")


KEYS = {"raw_id": pl.String, "name_key": pl.String, "alias_key": pl.Int64}


def with_name_key(ends: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``name`` and the key under which its spellings are one."""
    names = ends["name"].unique().to_list()
    keys = pl.DataFrame(
        {"name": names, "name_key": [name_key(n) for n in names]},
        schema={"name": pl.String, "name_key": pl.String},
    )
    return ends.join(keys, on="name", how="left", maintain_order="left")


@dataclass(frozen=True)
class Claim:
    """What a group of aliases does with the stations there are.

    :param key: the station that it goes on as; None for a new one.
    :param gone: stations that end in it.
    """

    key: int | None
    gone: tuple[int, ...]


def claims(groups: list[list[Alias]], ids: list[str], known: Mapping[int, str]) -> list[Claim]:
    """Which station each group goes on as, so that what refers to a station stays with it.

    A group has a claim on the stations of its aliases, and on one that a file named by its id or
    a former one. Of these it keeps the one with its present id, else the one of most aliases; the
    others, where no group keeps them, end in the group that has most of their aliases.

    :param ids: the public id of each group.
    :param known: key → id of all stations of the system.
    """
    had = [Counter(a.station_key for a in g if a.station_key is not None) for g in groups]
    by_trips = {key for counts in had for key in counts}
    for key, station_id in known.items():
        claimant = _claimant(groups, ids, station_id)
        if key not in by_trips and claimant is not None:
            had[claimant][key] += 1
    kept: dict[int, int] = {}
    for i, counts in enumerate(had):
        kept |= {i: key for key in counts if known[key] == ids[i]}
    for i, counts in enumerate(had):
        free = [key for key in sorted(counts) if key not in kept.values()]
        if i not in kept and free:
            kept[i] = max(free, key=lambda key: counts[key])
    gone: dict[int, list[int]] = {}
    for key in sorted({k for counts in had for k in counts} - set(kept.values())):
        heir = max(range(len(had)), key=lambda i: had[i][key])
        gone.setdefault(heir, []).append(key)
    return [Claim(kept.get(i), tuple(gone.get(i, ()))) for i in range(len(groups))]


def _claimant(groups: list[list[Alias]], ids: list[str], station_id: str) -> int | None:
    if station_id in ids:
        return ids.index(station_id)
    having = [i for i, g in enumerate(groups) if any(a.raw_id == station_id for a in g)]
    return max(having, key=lambda i: groups[i][-1].age, default=None)


def settle_stations(connection: Connection, system_id: str) -> list[int]:
    """Decide anew which aliases are one station, from all of them.

    :returns: the keys of the stations whose hours have to be counted anew as a whole.
    """
    found = fetch(
        connection,
        """
        SELECT alias_key, raw_id, name, lat, lon, trips, last_seen, station_key
        FROM station_alias WHERE system_id = %s
        """,
        (system_id,),
    )
    groups = grouped([Alias(*row) for row in found])
    ids = public_ids(groups)
    decided = claims(groups, ids, _stations(connection, system_id))
    moved: set[int] = set()
    merged: list[tuple[int, int]] = []
    for group, station_id, claim in zip(groups, ids, decided, strict=True):
        key = claim.key
        if key is None:
            key = new_station(connection, system_id, station_id)
        _tell(connection, key, station_id, group)
        strangers = [a for a in group if a.station_key != key]
        _point(connection, key, strangers)
        left = {a.station_key for a in strangers if a.station_key is not None}
        if left or claim.gone:
            moved |= {key, *left}
        merged += [(gone, key) for gone in claim.gone]
    for gone, key in merged:
        for query in MERGE:
            fetch(connection, query, {"gone": gone, "into": key})
    return sorted(moved - {gone for gone, _ in merged})


def _stations(connection: Connection, system_id: str) -> dict[int, str]:
    query = "SELECT station_key, station_id FROM station WHERE system_id = %s"
    return dict(fetch(connection, query, (system_id,)))


def _tell(connection: Connection, key: int, station_id: str, group: list[Alias]) -> None:
    name = next((a.name for a in reversed(group) if a.name), "")
    place = next((a for a in reversed(group) if a.has_place), group[-1])
    fetch(
        connection,
        "UPDATE station SET station_id = %s, name = %s, lat = %s, lon = %s WHERE station_key = %s",
        (station_id, name, place.lat, place.lon, key),
    )


def _point(connection: Connection, key: int, aliases: list[Alias]) -> None:
    fetch(
        connection,
        "UPDATE station_alias SET station_key = %s WHERE alias_key = ANY(%s)",
        (key, [a.alias_key for a in aliases]),
    )


def new_station(connection: Connection, system_id: str, station_id: str) -> int:
    """Make a station of this id; its key."""
    made = fetch(
        connection,
        "INSERT INTO station (system_id, station_id) VALUES (%s, %s) RETURNING station_key",
        (system_id, station_id),
    )
    return int(made[0][0])


def known_keys(connection: Connection, system_id: str) -> dict[str, int]:
    """Station id, present or former → key; without former ids that several stations had."""
    former = fetch(
        connection,
        """
        SELECT raw_id, max(station_key) FROM station_alias
        WHERE system_id = %s AND station_key IS NOT NULL
        GROUP BY raw_id HAVING count(DISTINCT station_key) = 1
        """,
        (system_id,),
    )
    present = {i: key for key, i in _stations(connection, system_id).items()}
    return dict(former) | present


def keys_for(connection: Connection, system_id: str, ids: list[str]) -> dict[str, int]:
    """The key of each id; a new station for an id that nobody had."""
    known = known_keys(connection, system_id)
    for missing in sorted(set(ids) - set(known)):
        known[missing] = new_station(connection, system_id, missing)
    return {i: known[i] for i in ids}
