"""The store: systems, stations, hours, weather and forecasts in one PostgreSQL."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta

import polars as pl
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from bikecast.errors import FileRefused, InputError, UnknownName
from bikecast.features.inputs import Inputs
from bikecast.history import History, build_history, build_weather
from bikecast.records import WEATHER, ImportReport, Issue, Station, System
from bikecast.store import hours, issues, schema
from bikecast.store.connection import (
    copy_in,
    copy_out,
    create_database,
    fetch,
    parsed,
    transaction,
)
from bikecast.store.identity import keys_for
from bikecast.store.keys import KeyBook
from bikecast.store.promotions import PromotionBook
from bikecast.store.trips import import_batches


@dataclass(frozen=True)
class FileSeen:
    """A file by its name and the hash of its bytes."""

    name: str
    sha256: str


# A system that has had an import is left as it is.
FOUND = """
INSERT INTO system AS s (system_id, name, timezone, holidays, simulated)
VALUES (%(system_id)s, %(name)s, %(timezone)s, %(holidays)s, %(simulated)s)
ON CONFLICT (system_id) DO UPDATE SET name = excluded.name,
    timezone = excluded.timezone, holidays = excluded.holidays,
    simulated = excluded.simulated
WHERE NOT EXISTS (SELECT FROM import_file f WHERE f.system_id = s.system_id)
"""


def ensure_database(url: str, name: str) -> str:
    """The URL of the database ``name`` on the same server, made where it is missing."""
    server = parsed(url)
    with transaction(url) as connection:
        there = fetch(connection, "SELECT 1 FROM pg_database WHERE datname = %s", (name,))
    if not there:
        create_database(url, name)
    sibling = server.set(drivername="postgresql+psycopg2", database=name)
    return sibling.render_as_string(hide_password=False)


class Store:
    """One database, by its URL; every call is a transaction of its own.

    :param founding: a system that becomes known with the first file that is kept for it, and not
        before; see :meth:`founding`.
    """

    def __init__(self, url: str, founding: System | None = None) -> None:
        self.url = url
        self._founding = founding

    @property
    def place(self) -> str:
        """Server and database, without who asks and his password."""
        url = parsed(self.url)
        host, port = url.host or url.query.get("host", ""), url.port or url.query.get("port", "")
        return f"{host}:{port}/{url.database}"

    @property
    def keys(self) -> KeyBook:
        """The API keys, and what admins did."""
        return KeyBook(self.url)

    def promotions(self, model_name: str) -> PromotionBook:
        """Which version of a registered model was in production, and why."""
        return PromotionBook(self.url, model_name)

    def founding(self, system: System) -> "Store":
        """The same database for the imports of a system that it may not know yet.

        The system comes in with the first import, in its transaction: one that is refused, or
        stopped, leaves no trace of it.
        """
        return Store(self.url, system)

    def upgrade(self) -> None:
        """Bring the schema up to this release's."""
        schema.upgrade(parsed(self.url))

    def status(self) -> schema.SchemaStatus:
        """Which schema the database has."""
        return schema.status(parsed(self.url))

    def schema_now(self) -> tuple[int, str]:
        """Number and revision of the schema, without a look at migrations: cheap, for a service."""
        with transaction(self.url) as connection:
            query = "SELECT schema, version_num FROM schema_info, alembic_version"
            number, revision = fetch(connection, query)[0]
        return int(number), str(revision)

    def check_readable(self) -> None:
        """See that this release may read the database."""
        schema.check_readable(self.status())

    def add_system(self, system: System) -> System:
        """Make a system known; one that has had an import is left as it is.

        :returns: the system as it is now.
        """
        with self.founding(system)._importing(system.system_id):
            pass
        return self.system(system.system_id)

    def has_imports(self, system_id: str) -> bool:
        """Whether a file was ever kept for a system; from then on it is what it is."""
        with transaction(self.url) as connection:
            query = "SELECT EXISTS (SELECT FROM import_file WHERE system_id = %s)"
            return bool(fetch(connection, query, (system_id,))[0][0])

    def systems(self) -> list[System]:
        """All systems, by id."""
        with transaction(self.url) as connection:
            rows = fetch(
                connection,
                "SELECT system_id, name, timezone, holidays, simulated FROM system ORDER BY 1",
            )
        return [System(*row) for row in rows]

    def system(self, system_id: str) -> System:
        """One system, or the one that is about to become known.

        :raises UnknownName: where there is none of that id.
        """
        founding = [self._founding] if self._founding else []
        for system in founding + self.systems():
            if system.system_id == system_id:
                return system
        raise UnknownName(f"no system {system_id!r}", hint="import its trips or a panel first")

    def stations(self, system_id: str) -> tuple[Station, ...]:
        """The stations of a system, by id."""
        with transaction(self.url) as connection:
            rows = fetch(
                connection,
                """
                SELECT station_id, coalesce(given_name, name), coalesce(given_lat, lat),
                    coalesce(given_lon, lon), capacity
                FROM station WHERE system_id = %s ORDER BY station_id
                """,
                (system_id,),
            )
        return tuple(Station(*row) for row in rows)

    def aliases(self, system_id: str) -> dict[str, str]:
        """Former id → the id its station has now; without ids that several stations had."""
        with transaction(self.url) as connection:
            rows = fetch(
                connection,
                """
                SELECT a.raw_id, min(s.station_id) FROM station_alias a
                JOIN station s USING (station_key) WHERE a.system_id = %s
                GROUP BY a.raw_id HAVING count(DISTINCT s.station_key) = 1
                """,
                (system_id,),
            )
            current = {s.station_id for s in self.stations(system_id)}
        return {old: new for old, new in rows if old != new and old not in current}

    def coverage(self, system_id: str) -> list[tuple[date, date]]:
        """The days that imports have covered, first and last of each stretch."""
        with transaction(self.url) as connection:
            return hours.covered(connection, system_id)

    def data_end(self, system_id: str) -> datetime:
        """The end of the last covered day, local civil time without offset.

        :raises InputError: before the first import.
        """
        days = self.coverage(system_id)
        if not days:
            raise InputError(
                f"{system_id} has no trips yet", hint="run `bikecast import trips` first"
            )
        return datetime.combine(days[-1][1] + timedelta(days=1), datetime.min.time())

    def hourly(self, system_id: str) -> pl.DataFrame:
        """``station_id, hour, pickups, returns``: zeros only where an import covers the hour."""
        with transaction(self.url) as connection:
            return hours.hourly(connection, system_id)

    def weather(self, system_id: str) -> pl.DataFrame:
        """``hour``, ``issued_at`` (null for an observation) and the variables, in UTC."""
        with transaction(self.url) as connection:
            # timestamptz is handed out as UTC without an offset.
            found = copy_out(
                connection,
                """
                SELECT hour AT TIME ZONE 'UTC',
                    CASE WHEN isfinite(issued_at) THEN issued_at AT TIME ZONE 'UTC' END,
                    temperature, precipitation, wind_speed, cloud_cover, humidity
                FROM weather WHERE system_id = %s ORDER BY 1, 2
                """,
                (system_id,),
                {"hour": pl.Datetime("us"), "issued_at": pl.Datetime("us")}
                | dict.fromkeys(WEATHER, pl.Float64),
            )
        return found.with_columns(pl.col("hour", "issued_at").dt.replace_time_zone("UTC"))

    def history(self, system_id: str) -> History:
        """All that a model may learn from, up to the end of the last covered day.

        Observed weather stands in for a forecast in the past only; for hours after the end of
        the data there is weather where a forecast of it was stored.
        """
        system = self.system(system_id)
        end = self.data_end(system_id)
        history = build_history(self.hourly(system_id), system, self.stations(system_id), as_of=end)
        frame = self.weather(system_id)
        local = pl.col("hour").dt.convert_time_zone(system.timezone).dt.replace_time_zone(None)
        frame = frame.filter((local < end) | pl.col("issued_at").is_not_null())
        if frame.is_empty():
            return history
        span = history.known + 8 * 24
        weather = build_weather(frame, system, history.start, span, hindsight=True)
        return replace(history, weather=weather)

    def imported(self, system_id: str, kind: str, file: FileSeen) -> ImportReport | None:
        """What to report of a file whose very content was imported before; None for a new one."""
        with transaction(self.url) as connection:
            rows = fetch(
                connection,
                "SELECT rows_read FROM import_file WHERE (system_id, kind, sha256) = (%s, %s, %s)",
                (system_id, kind, file.sha256),
            )
        if not rows:
            return None
        skipped = {"imported before": rows[0][0]}
        return ImportReport(file.name, kind, rows[0][0], 0, skipped, already_imported=True)

    @contextmanager
    def _importing(self, system_id: str) -> Iterator[Connection]:
        """A transaction that may write: of a schema that is ours, one import at a time."""
        with transaction(self.url) as connection:
            schema.check_writable(fetch(connection, "SELECT schema FROM schema_info")[0][0])
            # Two imports of one system would both decide which ids are one station.
            fetch(
                connection, "SELECT pg_advisory_xact_lock(hashtext(%s))", (f"import {system_id}",)
            )
            if self._founding:
                fetch(connection, FOUND, asdict(self._founding))
            yield connection

    def import_trips(
        self,
        system_id: str,
        file: FileSeen,
        batches: Iterable[pl.DataFrame],
        counted: Callable[[], tuple[int, Counter[str], Counter[str]]],
    ) -> ImportReport:
        """Bring one file's trips in, whole or not at all.

        :param counted: asked when the batches are through: rows read, skipped, noted.
        """
        with self._importing(system_id) as connection:
            brought = import_batches(connection, system_id, batches)
            read, skipped, notes = counted()
            if brought.duplicates:
                skipped["duplicate ride"] += brought.duplicates
            return _remember(
                connection, system_id, "trips", file, read, brought.rows_used, skipped, notes
            )

    def import_panel(
        self, system_id: str, file: FileSeen, panel: pl.DataFrame, read: int, skipped: Counter[str]
    ) -> ImportReport:
        """Bring hours of stations in; an hour that is there already is replaced."""
        if "returns" not in panel.columns:
            panel = panel.with_columns(returns=pl.lit(None, pl.Int64))
        days = sorted(panel["hour"].dt.date().unique().to_list())
        with self._importing(system_id) as connection:
            keys = keys_for(connection, system_id, panel["station_id"].unique().to_list())
            rows = panel.select(
                pl.col("station_id")
                .replace_strict(keys, return_dtype=pl.Int64)
                .alias("station_key"),
                "hour",
                "pickups",
                "returns",
                pl.lit("panel").alias("source"),
            )
            _upsert(connection, "station_hour", rows, ("station_key", "hour"))
            for first, last in hours.stretches(days):
                fetch(
                    connection,
                    "INSERT INTO coverage VALUES (%s, %s, %s, 'panel') ON CONFLICT DO NOTHING",
                    (system_id, first, last),
                )
            used = len(panel)
            return _remember(connection, system_id, "panel", file, read, used, skipped)

    def import_stations(
        self,
        system_id: str,
        file: FileSeen,
        stations: Iterable[Station],
        read: int,
        skipped: Counter[str],
    ) -> ImportReport:
        """Bring names, places and capacities in, by the id that a station has or had."""
        given = list(stations)
        with self._importing(system_id) as connection:
            keys = keys_for(connection, system_id, [s.station_id for s in given])
            for s in given:
                fetch(
                    connection,
                    """
                    UPDATE station SET given_name = coalesce(%s, given_name),
                        given_lat = coalesce(%s, given_lat), given_lon = coalesce(%s, given_lon),
                        capacity = coalesce(%s, capacity) WHERE station_key = %s
                    """,
                    (s.name or None, s.lat, s.lon, s.capacity, keys[s.station_id]),
                )
            return _remember(connection, system_id, "stations", file, read, len(given), skipped)

    def import_weather(
        self, system_id: str, file: FileSeen, frame: pl.DataFrame, read: int, skipped: Counter[str]
    ) -> ImportReport:
        """Bring weather in; an hour of the same vintage that is there already is replaced."""
        rows = frame.with_columns(
            pl.lit(system_id).alias("system_id"),
            pl.col("hour").dt.strftime("%Y-%m-%d %H:%M+00"),
            pl.col("issued_at").dt.strftime("%Y-%m-%d %H:%M+00").fill_null("-infinity"),
        )
        with self._importing(system_id) as connection:
            _upsert(connection, "weather", rows, ("system_id", "hour", "issued_at"))
            return _remember(connection, system_id, "weather", file, read, len(rows), skipped)

    def save_issue(
        self,
        issue: Issue,
        frame: pl.DataFrame,
        inputs: Mapping[str, Inputs] | None = None,
        model: bytes | None = None,
    ) -> int:
        """Store a forecast table, visible all at once; its id.

        :param inputs: station id → what the model saw of it, where that can be told.
        :param model: what made the table, packed; kept as long as a table refers to it.
        """
        with transaction(self.url) as connection:
            return issues.save(connection, issue, frame, inputs or {}, model)

    def newest_issue(self, system_id: str) -> Issue | None:
        """The issue to answer from, or None before the first."""
        with transaction(self.url) as connection:
            return issues.newest(connection, system_id)

    def forecast_frame(self, issue_id: int) -> pl.DataFrame:
        """The rows of an issue, with ``FORECAST_COLUMNS``."""
        with transaction(self.url) as connection:
            return issues.rows_of(connection, issue_id)

    def has_inputs(self, issue_id: int) -> bool:
        """Whether inputs are stored with a table; with an empty one there is nothing to store."""
        with transaction(self.url) as connection:
            return issues.has_inputs(connection, issue_id)

    def inputs(self, issue_id: int, station_id: str) -> Inputs | None:
        """What the model saw of a station's hours; None where that is not stored, or no more.

        A table of a release before this one has none, and neither has one that was forgotten.
        """
        with transaction(self.url) as connection:
            return issues.inputs_of(connection, issue_id, station_id)

    def packed_model(self, issue_id: int) -> bytes | None:
        """The model that made a table; None where it is not stored, or no more."""
        with transaction(self.url) as connection:
            return issues.model_of(connection, issue_id)


def _upsert(connection: Connection, table: str, rows: pl.DataFrame, keys: tuple[str, ...]) -> None:
    """Bring rows in by COPY; one whose key is there already is replaced."""
    fresh = "CREATE TEMP TABLE fresh (LIKE {} INCLUDING DEFAULTS) ON COMMIT DROP"
    fetch(connection, sql.SQL(fresh).format(sql.Identifier(table)))
    copy_in(connection, "fresh", rows)
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.columns))
    replaced = [c for c in rows.columns if c not in keys]
    query = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM fresh "
        "ON CONFLICT ({keys}) DO UPDATE SET {values}"
    ).format(
        table=sql.Identifier(table),
        columns=columns,
        keys=sql.SQL(", ").join(map(sql.Identifier, keys)),
        values=sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in replaced
        ),
    )
    fetch(connection, query)


def _remember(
    connection: Connection,
    system_id: str,
    kind: str,
    file: FileSeen,
    read: int,
    used: int,
    skipped: Counter[str],
    notes: Counter[str] = Counter(),
) -> ImportReport:
    """Write down that a file is in.

    :raises FileRefused: where none of its rows could be used; the caller's transaction is undone.
    """
    if not used and skipped.total() and not skipped["duplicate ride"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(skipped.items()))
        raise FileRefused(f"no row of {file.name} can be used: {reasons}", hint="give another file")
    fetch(
        connection,
        """
        INSERT INTO import_file
            (system_id, kind, sha256, name, rows_read, rows_used, skipped, notes)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
        """,
        (
            *(system_id, kind, file.sha256, file.name, read, used),
            *(json.dumps(skipped), json.dumps(notes)),
        ),
    )
    return ImportReport(file.name, kind, read, used, dict(skipped), dict(notes))
