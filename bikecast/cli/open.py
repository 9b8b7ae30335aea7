"""Open what a command works on: the database, the registry, the system asked for."""

import getpass
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bikecast.config import Settings
from bikecast.embedded import EmbeddedPostgres
from bikecast.errors import InputError, UnknownName
from bikecast.records import Issue
from bikecast.store import Store, ensure_database

if TYPE_CHECKING:
    from bikecast.production import Production
    from bikecast.registry import Registry
    from bikecast.serve.table import ForecastTable

MLFLOW_DATABASE = "mlflow"


@dataclass(frozen=True)
class Opened:
    """A running database, and how to reach the registry beside it."""

    settings: Settings
    url: str

    @property
    def store(self) -> Store:
        """The product's own tables."""
        return Store(self.url)

    @property
    def registry(self) -> "Registry":
        """The models; MLflow is imported here and not before, because that takes seconds."""
        from bikecast.registry import Registry

        uri = self.settings.mlflow_tracking_uri
        artifacts = None if uri else self.settings.data_dir / "models"
        uri = uri or ensure_database(self.url, MLFLOW_DATABASE)
        return Registry(uri, self.settings.model_name, artifacts)

    @property
    def production(self) -> "Production":
        """What moves the model in production, and writes down who did so."""
        from bikecast.production import Production

        self.store.check_readable()
        book = self.store.promotions(self.settings.model_name)
        return Production(self.registry, book, who(self.settings))


@contextmanager
def opened(settings: Settings, *, share: bool = True) -> Iterator[Opened]:
    """The database that the settings name; without a URL, one of bikecast's own.

    :param share: use the server of a bikecast that is running on the same folder.
    """
    if settings.database_url:
        yield Opened(settings, settings.database_url)
        return
    with EmbeddedPostgres(settings.data_dir, share=share) as server:
        yield Opened(settings, server.url)


def chosen_system(store: Store, asked: str) -> str:
    """The system asked for; where none is, the only one there is.

    :raises InputError: where there are several, or none.
    """
    known = [s.system_id for s in store.systems()]
    if asked:
        if asked not in known:
            raise UnknownName(
                f"no system {asked!r} (known: {', '.join(known) or 'none'})",
                hint="import its trips first: `bikecast import trips PATH --system ID`",
            )
        return asked
    if len(known) == 1:
        return known[0]
    if not known:
        raise InputError("the database holds no system", hint="run `bikecast import trips` first")
    raise InputError(f"several systems: {', '.join(known)}", hint="choose one with --system")


def newest_issue(store: Store, system_id: str) -> Issue:
    """The newest forecast of a system.

    :raises InputError: before the first.
    """
    issue = store.newest_issue(system_id)
    if issue is None:
        raise InputError(
            f"no forecast of {system_id} was issued yet", hint="run `bikecast forecast`"
        )
    return issue


def known_station(store: Store, system_id: str, asked: str) -> str:
    """The id that a station has now, from one that it has or had.

    :raises UnknownName: where there is none of that id.
    """
    known = {s.station_id for s in store.stations(system_id)}
    current = asked if asked in known else store.aliases(system_id).get(asked, asked)
    if current not in known:
        raise UnknownName(
            f"no station {asked!r} in {system_id}", hint="GET /stations lists them all"
        )
    return current


def not_in_table(system_id: str, station_id: str) -> UnknownName:
    """The error that a known station has no forecast."""
    return UnknownName(
        f"no forecast of station {station_id!r} in {system_id}: the newest table does not have it",
        hint="it had no rides in the last four weeks of the data; import newer trips",
    )


def newest_table(store: Store, system_id: str) -> "ForecastTable":
    """The newest forecast of a system as the service has it.

    :raises InputError: where there is none, or none of a station.
    """
    from bikecast.serve.source import StoreSource
    from bikecast.serve.table import build_table

    published = StoreSource(store, system_id).load(newest_issue(store, system_id))
    if published.frame.is_empty():
        raise InputError(
            f"the newest forecast of {system_id} has no station",
            hint="import newer trips, then run `bikecast forecast`",
        )
    return build_table(published)


def place_in(table: "ForecastTable", store: Store, asked: str) -> int:
    """A station's place in the table, by an id that it has or had.

    :raises UnknownName: where it has none.
    """
    known = known_station(store, table.system.system_id, asked)
    if known not in table.index:
        raise not_in_table(table.system.system_id, known)
    return table.index[known]


def step_in(table: "ForecastTable", at: str) -> int:
    """The place of an hour in the table, from what is given as ``--at``.

    :raises InputError: for what is no hour of the table.
    """
    from bikecast.serve.problems import Problem
    from bikecast.serve.stock import step_at

    try:
        return step_at(table, at)
    except Problem as problem:
        raise InputError(f"--{problem.detail}") from None


def who(settings: Settings) -> str:
    """Who runs this command, for the record."""
    return settings.who or f"{getpass.getuser()}@{socket.gethostname()}"


def commit(settings: Settings) -> str:
    """The git commit this code was built from: by setting, or asked of the checkout it runs in."""
    if settings.commit:
        return settings.commit
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return ""
    # Fixed words and our own folder; where git is differs from machine to machine.
    asked = subprocess.run(  # nosec B603 B607
        ["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
    )
    return asked.stdout.strip()
