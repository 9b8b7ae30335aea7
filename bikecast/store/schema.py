"""The schema: where its migrations are, what the database has, and whether we may use it."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from bikecast.errors import InputError, SchemaTooNew, Unavailable
from bikecast.store.connection import connect

SCHEMA = 4
"""The schema that this release makes and understands; the number of its newest migration."""


@dataclass(frozen=True)
class SchemaStatus:
    """What a database has, beside what this release brings.

    :param schema: number of the database's schema; 0 for none.
    :param min_reader: the oldest release's schema number that may still read it.
    :param pending: migrations that `bikecast db upgrade` would run.
    """

    schema: int
    release: int
    min_reader: int
    revision: str
    pending: tuple[str, ...]


def script_location() -> Path:
    """The migrations: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).parents[1]
    installed = package / "_migrations"
    return installed if installed.exists() else package.parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    return config


def upgrade(url: URL) -> None:
    """Run all pending migrations in one transaction.

    :raises SchemaTooNew: for a database of a newer release; nothing is changed.
    """
    config = _config()
    with _connected(url) as connection:
        # Two releases that start at once must not both make the tables.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('bikecast schema'))"))
        check_writable(_status(connection).schema)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def status(url: URL) -> SchemaStatus:
    """What the database has."""
    with _connected(url) as connection:
        return _status(connection)


def _connected(url: URL) -> Connection:
    # As all other connections: a server that hangs keeps nobody for ever.
    engine = create_engine(
        "postgresql+psycopg2://", creator=lambda: connect(url), poolclass=NullPool
    )
    try:
        return engine.connect()
    except OperationalError as error:
        where = url.render_as_string(hide_password=True)
        first = str(error.orig).strip().splitlines()[0]
        raise Unavailable(
            f"the database {where} does not answer: {first}",
            hint="check BIKECAST_DATABASE_URL and that the server is up",
        ) from error


def _status(connection: Connection) -> SchemaStatus:
    schema, min_reader = 0, 0
    if inspect(connection).has_table("schema_info"):
        schema, min_reader = connection.execute(
            text("SELECT schema, min_reader FROM schema_info")
        ).one()
    revision = MigrationContext.configure(connection).get_current_revision() or ""
    script = ScriptDirectory.from_config(_config())
    known = [r.revision for r in script.walk_revisions()]
    pending = () if schema > SCHEMA else tuple(reversed(known[: _place(known, revision)]))
    return SchemaStatus(schema, SCHEMA, min_reader, revision, pending)


def _place(known: list[str], revision: str) -> int:
    return known.index(revision) if revision in known else len(known)


def check_writable(schema: int) -> None:
    """See that this release may migrate or import.

    :raises SchemaTooNew: where the schema is newer than this release's.
    """
    if schema > SCHEMA:
        raise SchemaTooNew(
            f"the database has schema {schema}, this release knows {SCHEMA}",
            hint="use the newer release, or another database",
        )


def check_readable(found: SchemaStatus) -> None:
    """See that this release may read: also a newer schema, down to its ``min_reader``.

    :raises SchemaTooNew: where the schema has left this release behind.
    :raises InputError: where migrations are pending.
    """
    if found.min_reader > SCHEMA:
        raise SchemaTooNew(
            f"the database may be read from schema {found.min_reader} on, this release knows "
            f"{SCHEMA}",
            hint="use the newer release",
        )
    if found.schema < SCHEMA:
        raise InputError(
            f"the database has schema {found.schema}, this release needs {SCHEMA}",
            hint="run `bikecast db upgrade`",
        )
