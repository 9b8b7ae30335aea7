"""Where forecast tables come from: the store in production, a fake in tests."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import polars as pl

from bikecast.features.inputs import Inputs
from bikecast.keys import ApiKey
from bikecast.records import Issue, Station, System
from bikecast.serve.types import SchemaSeen

if TYPE_CHECKING:
    from bikecast.store import Store


@dataclass(frozen=True, eq=False)
class Published:
    """One issued forecast, with all that an answer says beside it.

    :param aliases: former station id → the id that the station has now.
    :param frame: the columns of ``FORECAST_COLUMNS``; ``hour`` is civil and naive.
    """

    issue: Issue
    system: System
    stations: tuple[Station, ...]
    frame: pl.DataFrame
    aliases: dict[str, str] = field(default_factory=dict)


class TableSource(Protocol):
    """Hands out the newest forecast of one system; may raise whenever it cannot be reached."""

    @property
    def system_id(self) -> str:
        """The system whose forecasts these are; never raises."""
        ...

    @property
    def database(self) -> str:
        """Which database they are from, without a password; never raises."""
        ...

    def newest(self) -> Issue | None:
        """The newest issue, or None before the first; cheap, asked every few seconds."""
        ...

    def schema(self) -> SchemaSeen:
        """Which schema the database has; asked with each new issue."""
        ...

    def load(self, issue: Issue) -> Published:
        """The whole table of an issue."""
        ...

    def inputs(self, issue: Issue, station_id: str) -> Inputs | None:
        """What the model saw of a station, or None where that was not kept."""
        ...

    def packed_model(self, issue: Issue) -> bytes | None:
        """The model that made an issue, or None where that was not kept."""
        ...


class KeySource(Protocol):
    """Hands out the valid API keys; may raise whenever it cannot be reached."""

    def keys(self) -> tuple[ApiKey, ...]:
        """All of them; asked every few seconds."""
        ...

    def note(self, who: str, act: str, subject: str) -> None:
        """Write down what an admin did."""
        ...


class Source(TableSource, KeySource, Protocol):
    """All that the service asks of the database."""


@dataclass(frozen=True)
class StoreSource:
    """The forecasts of one system in the database, and the database's keys."""

    store: "Store"
    system_id: str

    @property
    def database(self) -> str:
        """Which database they are from."""
        return self.store.place

    def newest(self) -> Issue | None:
        """The newest issue, or None before the first."""
        return self.store.newest_issue(self.system_id)

    def schema(self) -> SchemaSeen:
        """Which schema the database has."""
        number, revision = self.store.schema_now()
        return {"database": number, "revision": revision}

    def load(self, issue: Issue) -> Published:
        """The whole table of an issue."""
        return Published(
            issue=issue,
            system=self.store.system(self.system_id),
            stations=self.store.stations(self.system_id),
            frame=self.store.forecast_frame(issue.issue_id),
            aliases=self.store.aliases(self.system_id),
        )

    def inputs(self, issue: Issue, station_id: str) -> Inputs | None:
        """What the model saw of a station, or None where that was not kept."""
        return self.store.inputs(issue.issue_id, station_id)

    def packed_model(self, issue: Issue) -> bytes | None:
        """The model that made an issue, or None where that was not kept."""
        return self.store.packed_model(issue.issue_id)

    def keys(self) -> tuple[ApiKey, ...]:
        """The valid keys."""
        return self.store.keys.valid()

    def note(self, who: str, act: str, subject: str) -> None:
        """Write down what an admin did."""
        self.store.keys.note(who, act, subject)
