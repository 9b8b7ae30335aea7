"""Connections, errors of the database in our words, and bulk in and out by COPY."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import polars as pl
import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from bikecast.errors import BikecastError, DiskFull, InputError, Unavailable

CONNECT_TIMEOUT = 10  # seconds


def parsed(url: str) -> URL:
    """The URL, whichever way PostgreSQL is written in it.

    :raises InputError: for what is no URL of a PostgreSQL.
    """
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise InputError(
            "the database URL cannot be read", hint="write postgresql://user@host/database"
        ) from error
    if found.get_backend_name() not in ("postgresql", "postgres"):
        raise InputError(
            f"{found.get_backend_name()} is not PostgreSQL",
            hint="write postgresql://user@host/database",
        )
    return found


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """One transaction on a connection of its own: all of it, or nothing."""
    with translated(parsed(url)):
        connection = connect(parsed(url))
        try:
            with connection:
                yield connection
        finally:
            connection.close()


@contextmanager
def session(url: str) -> Iterator[Connection]:
    """A connection where each statement counts at once; what is held by it ends with it."""
    with translated(parsed(url)):
        connection = connect(parsed(url))
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()


def create_database(url: str, name: str, template: str = "template1") -> None:
    """Make a database on the same server; harmless where another command was faster."""
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    # In no transaction.
    with session(url) as connection, suppress(psycopg2.errors.DuplicateDatabase):
        fetch(connection, made.format(sql.Identifier(name), sql.Identifier(template)))


def connect(url: URL) -> Connection:
    """A connection; what the URL sets itself goes before what is usual here.

    :raises psycopg2.Error: where there can be none.
    """
    connection: Connection = psycopg2.connect(**_arguments(url))
    return connection


def _arguments(url: URL) -> Mapping[str, Any]:
    named = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    given = {k: v for k, v in named.items() if v is not None}
    return {
        "dbname": url.database,
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "bikecast",
        # A server that is gone without a word is noticed within a minute, in the middle of an
        # answer too.
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,  # milliseconds
        **given,
        **dict(url.query),
    }


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Errors of the database in our words."""
    try:
        yield
    except psycopg2.Error as error:
        raise explained(error, url) from error


def explained(error: psycopg2.Error, url: URL) -> BikecastError:
    """What a database error means for the caller; never with the password."""
    where = url.render_as_string(hide_password=True)
    first = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
    match error.pgcode:
        case "53100":
            return DiskFull(
                f"no room left on the disk of {where}", hint="make room, then try again"
            )
        case "42P01" | "3F000" | "42703":
            return InputError(
                f"the schema in {where} is missing or older than this release",
                hint="run `bikecast db upgrade`",
            )
        case None | "57P01" | "57P02" | "57P03" | "08006" | "08001" | "08003":
            return Unavailable(
                f"the database {where} does not answer: {first}",
                hint="check BIKECAST_DATABASE_URL and that the server is up",
            )
    return BikecastError(f"the database {where} refused: {first}", hint="read its log")


def copy_in(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    """Append a frame to a table whose columns have the frame's names."""
    if frame.is_empty():
        return
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False)
    buffer.seek(0)
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    with connection.cursor() as cursor:
        cursor.copy_expert(query, buffer)


def copy_out(
    connection: Connection,
    query: str | sql.Composable,
    values: tuple[Any, ...],
    schema: Mapping[str, Any],
) -> pl.DataFrame:
    """The rows of a query as a frame.

    :param schema: column → polars type, in the order of the query.
    """
    buffer = io.BytesIO()
    with connection.cursor() as cursor:
        asked = cursor.mogrify(query, values).decode()
        cursor.copy_expert(f"COPY ({asked}) TO STDOUT (FORMAT csv)", buffer)
    buffer.seek(0)
    if not buffer.getbuffer().nbytes:
        return pl.DataFrame(schema=schema)
    return pl.read_csv(buffer, has_header=False, schema=schema)


def fetch(
    connection: Connection,
    query: str | sql.Composable,
    values: tuple[Any, ...] | Mapping[str, Any] = (),
) -> list[Any]:
    """All rows of a small query."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def fetch_values(connection: Connection, query: str, rows: list[tuple[Any, ...]]) -> list[Any]:
    """What a query with ``VALUES %s`` returns for many rows."""
    if not rows:
        return []
    with connection.cursor() as cursor:
        return list(execute_values(cursor, query, rows, page_size=1000, fetch=True))
