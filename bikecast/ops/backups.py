"""Backups of the services of one machine: made whole or not at all, proven before they replace."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bikecast.errors import BikecastError, InputError, Unavailable
from bikecast.ops.services import (
    MODELS,
    QUICK,
    REFRESHER,
    SERVICE,
    Argv,
    Compose,
    Shell,
    note,
    parse_ps,
    short,
    start,
)

FORMAT = 1
MANIFEST = "manifest.json"
ARTIFACTS = "artifacts.tar"
DATABASES = ("bikecast", "mlflow")  # each has an owner of its name
LONG = 6 * 3600  # seconds that a dump, a tar or their restoring may take

ROOT = "/var/lib/mlflow"  # the volume, as compose.yaml mounts it
# Exit code 1: a file changed while it was read. It belongs to a run that began after the dump.
PACK = (
    f"mkdir -p {ROOT}/artifacts"
    f" && {{ tar --create --file - --directory {ROOT}/artifacts . || [ $? -eq 1 ]; }}"
)
UNPACK = (
    f"rm -rf {ROOT}/restoring && mkdir {ROOT}/restoring"
    f" && exec tar --extract --file - --directory {ROOT}/restoring"
)
# Each file takes its place by a link, whole. A run's files are its own, so those of runs that the
# backup does not know harm nobody and stay.
PLACE = (
    f"mkdir -p {ROOT}/artifacts"
    f" && cp --archive --link --force {ROOT}/restoring/. {ROOT}/artifacts/"
    f" && rm -rf {ROOT}/restoring"
)

COUNT = """
SELECT coalesce(json_object_agg(format('%I.%I', schemaname, tablename), (xpath('/row/n/text()',
    query_to_xml(format('SELECT count(*) AS n FROM %I.%I', schemaname, tablename),
    false, true, '')))[1]::text::bigint ORDER BY schemaname, tablename), '{}')
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
ONE_LINE_COUNT = " ".join(COUNT.split())
REVISION = "SELECT version_num FROM alembic_version"
OPEN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT pg_export_snapshot();\n"

Rows = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Written:
    """A file of a backup."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; the file that is written last.

    :param made: when it was begun.
    :param bikecast: the version that made it.
    :param schema: revision of the product's database.
    :param files: name → checksum and size.
    :param rows: database → table → number of rows in the same snapshot as the dump.
    """

    format: int
    made: datetime
    finished: datetime
    bikecast: str
    schema: str
    files: dict[str, Written]
    rows: Rows

    def document(self) -> Any:
        """As JSON has it."""
        return MANIFESTS.dump_python(self, mode="json")


MANIFESTS = TypeAdapter(Manifest)


# -- making one ------------------------------------------------------------------------------------


def dump(compose: Compose, database: str, snapshot: str) -> Argv:
    """A database as of a snapshot, in pg_dump's custom format, on stdout."""
    return compose.inside(
        "postgres",
        *("pg_dump", "--username", "postgres", "--format", "custom"),
        *("--snapshot", snapshot, "--dbname", database),
    )


def pack(compose: Compose) -> Argv:
    """All artifacts of MLflow as a tar, on stdout."""
    return compose.inside("mlflow", "sh", "-c", PACK)


def backup(shell: Shell, compose: Compose, to: Path, version: str, made: datetime) -> Manifest:
    """Copy databases and artifacts into a folder of that name, which is there once it is whole.

    :raises InputError: where it exists already.
    """
    if to.exists():
        raise InputError(f"{to} exists already", hint="name a folder that does not")
    with _new_folder(to, shell.dry) as folder:
        # Databases first: artifacts only ever get more, so none that they name is missing.
        rows: Rows = {}
        revision = ""
        for database in DATABASES:
            rows[database], found = _dump(shell, compose, database, folder / f"{database}.dump")
            revision = revision or found
        note("copying the artifacts")
        shell.run(pack(compose), LONG, target=folder / ARTIFACTS)
        files = {} if shell.dry else {p.name: _written(p) for p in sorted(folder.iterdir())}
        done = datetime.now(UTC)
        manifest = Manifest(FORMAT, made, done, version, revision, files, rows)
        if not shell.dry:
            (folder / MANIFEST).write_text(json.dumps(manifest.document(), indent=2) + "\n")
            _written(folder / MANIFEST)
    return manifest


@contextmanager
def _new_folder(to: Path, dry: bool) -> Iterator[Path]:
    """A hidden folder beside ``to`` that takes its name in the end; gone where that fails."""
    if dry:
        yield to
        return
    try:
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.absolute().parent))
    except OSError as error:
        raise InputError(
            f"no folder can be made at {to}: {error.strerror}", hint="name another place"
        ) from error
    try:
        yield folder
        folder.rename(to)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {error.strerror}", hint="make room") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dump(shell: Shell, compose: Compose, database: str, to: Path) -> tuple[dict[str, int], str]:
    """Dump a database; its rows and its revision as of the same moment."""
    note(f"copying the database {database}")
    if shell.dry:
        shell.run(compose.psql(database), QUICK)
        shell.run(dump(compose, database, "SNAPSHOT"), LONG, target=to)
        return {}, ""
    with _Session(compose.psql(database)) as session:
        shell.run(dump(compose, database, session.answer(OPEN_SNAPSHOT)), LONG, target=to)
        counted: dict[str, int] = json.loads(session.answer(f"{ONE_LINE_COUNT};\n", LONG))
        return counted, session.answer(f"{REVISION};\n")


class _Session:
    """A psql that stays open, and with it the snapshot that it exported.

    It leads a process group: `docker compose` has children, which hold its ends open.
    """

    def __init__(self, argv: Argv) -> None:
        self.argv = argv

    def __enter__(self) -> "_Session":
        pipe = subprocess.PIPE
        # Words built here, of which no shell reads any.
        self.process = subprocess.Popen(  # nosec B603
            self.argv,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            self.process.communicate(timeout=QUICK)
        self._end()

    def _end(self) -> None:
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def answer(self, statements: str, within: float = QUICK) -> str:
        """The one line that the statements answer with.

        :param within: seconds.
        """
        until = monotonic() + within
        ending = Timer(within, self._end)
        ending.daemon = True
        ending.start()
        try:
            return self._answer(statements)
        except Unavailable as error:
            if monotonic() >= until:
                error.what = f"`{short(self.argv)}` did not answer within {within:.0f} s"
            raise
        finally:
            ending.cancel()

    def _answer(self, statements: str) -> str:
        assert self.process.stdin and self.process.stdout
        with suppress(OSError):  # its end is told by the empty answer
            self.process.stdin.write(statements)
            self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        if not line:
            raise Unavailable(
                f"`{short(self.argv)}` ended early", hint="see that `inv up` brings all services up"
            )
        return line


def _written(path: Path) -> Written:
    """The file's checksum and size, once it is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return Written(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


# -- putting one back ------------------------------------------------------------------------------


def read_backup(folder: Path) -> Manifest:
    """The manifest of a backup whose files are all as they were written.

    :raises InputError: where it is none, not whole, or altered.
    """
    try:
        manifest = MANIFESTS.validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{folder} is no whole backup: its {MANIFEST} cannot be read",
            hint="name a folder that `inv backup` made",
        ) from error
    if manifest.format != FORMAT:
        raise InputError(f"{folder} has format {manifest.format}", hint="use a newer bikecast")
    expected = {*(f"{d}.dump" for d in DATABASES), ARTIFACTS}
    altered = [n for n in sorted(expected) if not _as_written(folder / n, manifest.files.get(n))]
    if altered:
        raise InputError(
            f"{folder} is not as it was made: {', '.join(altered)}", hint="use another backup"
        )
    return manifest


def _as_written(path: Path, expected: Written | None) -> bool:
    try:
        return _written(path) == expected
    except OSError:
        return False


def fresh(database: str) -> tuple[str, ...]:
    """Statements that make the empty database which a dump is restored into."""
    name = f"{database}_restoring"
    return (
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
        f"CREATE DATABASE {name} OWNER {database}",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    )


def load(compose: Compose, database: str) -> Argv:
    """Restore a dump from stdin beside the database in use; the first error ends it."""
    return compose.inside(
        "postgres",
        *("pg_restore", "--username", "postgres", "--exit-on-error", "--no-owner"),
        *("--role", database, "--dbname", f"{database}_restoring"),
    )


def unpack(compose: Compose) -> Argv:
    """Artifacts from stdin, beside those in use."""
    return compose.inside("mlflow", "sh", "-c", UNPACK)


def place(compose: Compose) -> Argv:
    """Put the unpacked artifacts in their place, file by file."""
    return compose.inside("mlflow", "sh", "-c", PLACE)


def swap(now: str, then: str) -> str:
    """One transaction that renames the databases in use to ``_now``, and ``_then`` to theirs.

    >>> swap("restoring", "replaced").count("RENAME")
    4
    """
    names = ", ".join(f"'{d}', '{d}_{then}'" for d in DATABASES)
    ends = (
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE datname IN ({names})"  # nosec B608  # names of ours
    )
    renames = [
        statement
        for d in DATABASES
        for statement in (
            f"ALTER DATABASE {d} RENAME TO {d}_{now}",
            f"ALTER DATABASE {d}_{then} RENAME TO {d}",
        )
    ]
    return "; ".join([ends, *renames])


def drop(suffix: str) -> tuple[str, ...]:
    """Statements that drop databases which nothing uses."""
    return tuple(f"DROP DATABASE IF EXISTS {d}_{suffix} WITH (FORCE)" for d in DATABASES)


def restore(
    shell: Shell, compose: Compose, folder: Path, manifest: Manifest, timeout: float
) -> None:
    """Put a backup in the place of the data in use, which stay where anything fails.

    :param timeout: seconds until all services must be healthy again.
    """
    _check_running(shell, compose)
    try:
        # An earlier restore that was killed may have left some.
        shell.ask(compose.psql("postgres", *drop("replaced")))
        for database in DATABASES:
            _load(shell, compose, database, folder, manifest.rows[database])
        note("restoring the artifacts")
        shell.run(unpack(compose), LONG, source=folder / ARTIFACTS)
        shell.run(place(compose), LONG)
        _take_over(shell, compose, timeout)
    finally:
        if not shell.dry:
            with suppress(BikecastError):
                shell.ask(compose.psql("postgres", *drop("restoring")))


def _check_running(shell: Shell, compose: Compose) -> None:
    well = {c.service for c in parse_ps(shell.ask(compose.ps())) if c.state == "running"}
    if not shell.dry and not {"postgres", "mlflow"} <= well:
        raise Unavailable("PostgreSQL and MLflow are not running", hint="`inv up` starts them")


def _load(
    shell: Shell, compose: Compose, database: str, folder: Path, expected: dict[str, int]
) -> None:
    note(f"restoring the database {database}")
    shell.ask(compose.psql("postgres", *fresh(database)))
    shell.run(load(compose, database), LONG, source=folder / f"{database}.dump")
    asked = compose.psql(f"{database}_restoring", ONE_LINE_COUNT)
    rows = json.loads(shell.ask(asked, pretend=json.dumps(expected), timeout=LONG))
    if rows != expected:
        differing = sorted(t for t in rows.keys() | expected if rows.get(t) != expected.get(t))
        raise Unavailable(
            f"{database} came back with other numbers of rows in {', '.join(differing)}",
            hint="nothing was replaced; use another backup",
        )


def _take_over(shell: Shell, compose: Compose, timeout: float) -> None:
    """Change the databases in one transaction; back again where the services do not get well."""
    note("changing places")
    _stop(shell, compose)
    swapped = False
    try:
        shell.ask(compose.psql("postgres", swap("replaced", "restoring")))
        swapped = True
        start(shell, compose, timeout)
    except BaseException as error:
        if shell.dry:
            raise
        if swapped:
            _stop(shell, compose)
            shell.ask(compose.psql("postgres", swap("restoring", "replaced")))
        with suppress(BikecastError):  # what went wrong first is told
            start(shell, compose, timeout)
        if not isinstance(error, BikecastError):
            raise
        raise Unavailable(
            f"{error.what}; the data from before are back", hint=error.hint or "see `inv up`"
        ) from error
    shell.ask(compose.psql("postgres", *drop("replaced")))


def _stop(shell: Shell, compose: Compose) -> None:
    """Stop whoever uses the databases, riders' service last: the others take their time."""
    for services in ((REFRESHER, *MODELS), (SERVICE,)):
        shell.run(compose.stop(*services), 120)
