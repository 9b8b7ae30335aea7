"""The fakes of all tests, each beside a contract test that also runs on the real thing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.features import NAMES
from bikecast.features.inputs import Inputs
from bikecast.keys import ApiKey
from bikecast.features.sky import Sky
from bikecast.models.portable import pack
from bikecast.models import MODELS
from bikecast.models.base import within
from bikecast.models.learned import FORM, Fitted
from bikecast.models.spread import Spread
from bikecast.models.statistical import CountRegression, design
from bikecast.records import (
    KEPT_HORIZON,
    MAX_HORIZON,
    QUANTILES,
    TARGETS,
    WEATHER,
    Issue,
    Station,
    System,
)
from bikecast.serve.source import Published
from bikecast.serve.types import SchemaSeen
from bikecast.store import SCHEMA

NEW_YORK = System("made-up", "A made-up city", "America/New_York", "US-NY")
PLACES = (
    Station("A.10", "First St", 40.71, -74.01, capacity=20),
    Station("B", "Second St", 40.72, -74.02),
    Station("never-used", "Third St", capacity=10),
)


def forecast_rows(
    start: datetime,
    hours: int = 168,
    stations: tuple[str, ...] = ("A.10", "B"),
    first_mean: float = 2.0,
) -> pl.DataFrame:
    """A forecast frame: each hour's mean is one bike higher; q10 is half the mean, q90 double."""
    factors = dict(zip(("q05", "q10", "q25", "q50", "q75", "q90", "q95"), QUANTILES, strict=True))
    factors |= {"q10": 0.5, "q90": 2.0}
    cells = [
        {
            "station_id": station,
            "hour": start + timedelta(hours=h),
            "target": target,
            "mean": first_mean + h + k / 2,
            **{name: (first_mean + h + k / 2) * f for name, f in factors.items()},
        }
        for station in stations
        for h in range(hours)
        for k, target in enumerate(TARGETS)
    ]
    return pl.DataFrame(cells, schema_overrides={"hour": pl.Datetime("us")})


def published(
    start: datetime = datetime(2018, 7, 16), hours: int = 168, system: System = NEW_YORK
) -> Published:
    """A made-up forecast that begins at ``start``, civil time of the system."""
    as_of = start.replace(tzinfo=ZoneInfo(system.timezone))
    return Published(
        issue=Issue(
            system.system_id,
            issued_at=as_of.astimezone(UTC) + timedelta(minutes=5),
            as_of=as_of.astimezone(UTC),
            model="naive",
            model_version="3",
            issue_id=1,
        ),
        system=system,
        stations=PLACES,
        frame=forecast_rows(start, hours),
        aliases={"old-A": "A.10", "old-gone": "closed"},
    )


def seen(published: Published) -> dict[str, Inputs]:
    """What the model of a made-up forecast saw: 1 °C, and a level of half of each mean.

    Behind the forecast it goes on: up to two weeks ahead each hour's mean is one bike higher.
    """
    stations = published.frame.partition_by("station_id", as_dict=True)
    found = {}
    for (station,), rows in stations.items():
        means = rows["mean"].to_numpy().reshape(-1, 2)
        more = np.arange(1, KEPT_HORIZON - len(means) + 1)[:, None]
        level = np.concatenate([means, means[-1] + more]).astype(np.float32) / 2
        values = np.tile(at_degrees(1), (KEPT_HORIZON, 2, 1))
        found[str(station)] = Inputs(NAMES, values, level, one_degree(KEPT_HORIZON))
    return found


def first_week(inputs: Inputs) -> Inputs:
    """What a release kept that knew of one week alone."""
    sky = one_degree(MAX_HORIZON)
    return replace(
        inputs, values=inputs.values[:MAX_HORIZON], level=inputs.level[:MAX_HORIZON], sky=sky
    )


def one_degree(hours: int) -> Sky:
    """1 °C at all hours around some that are coming; and nothing else of the weather."""
    hourly = np.zeros((hours + 9 * 24, len(WEATHER)), np.float32)
    hourly[:, WEATHER.index("temperature")] = 1
    return Sky(hourly, 8 * 24, np.zeros((hours, 3), np.float32))


def at_degrees(temperature: float) -> NDArray[np.float32]:
    """A row of features that are all 0 but the temperature: [1, features]."""
    row = np.zeros((1, len(NAMES)), np.float32)
    row[:, NAMES.index("temperature")] = temperature
    return row


def doubling() -> bytes:
    """A model, packed, that makes of :func:`seen` what it is of: it doubles with each degree."""
    regression = CountRegression()
    changed = design(at_degrees(1))[0] != design(at_degrees(0))[0]
    regression.coefficients = np.zeros(len(changed))
    regression.coefficients[changed.argmax()] = np.log(2)
    regression.centre = np.zeros(len(changed))
    model = MODELS["glm"]()
    spread = Spread(np.zeros(11), np.zeros(0), np.array([QUANTILES]))
    fitted = within("without_weather", Fitted(regression, spread, 0.0, False).portable())
    fitted |= within("with_weather", Fitted(regression, spread, 0.0, True).portable())
    model.restore(
        {"year": np.array(False), "features": np.array(NAMES), "form": np.array(FORM), **fitted}
    )
    return pack(model)


def fails(error: Exception) -> Callable[..., NoReturn]:
    """Something that raises it, whatever it is called with."""

    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@dataclass
class FakeSource:
    """A table source that can be told to fail, and counts what it was asked."""

    current: Published | None = None
    broken: bool = False
    loads: int = 0
    system_id: str = NEW_YORK.system_id
    database: str = "made up"
    valid: tuple[ApiKey, ...] = ()
    notes: list[tuple[str, str, str]] = field(default_factory=list)

    def newest(self) -> Issue | None:
        """The issue it was given."""
        if self.broken:
            raise ConnectionError("nobody answers")
        return self.current.issue if self.current else None

    def schema(self) -> SchemaSeen:
        """That of this release."""
        return {"database": SCHEMA, "revision": "0001"}

    def load(self, issue: Issue) -> Published:
        """What it was given."""
        assert self.current is not None
        self.loads += 1
        return self.current

    def inputs(self, issue: Issue, station_id: str) -> Inputs | None:
        """Those of what it was given."""
        assert self.current is not None
        return seen(self.current).get(station_id)

    def packed_model(self, issue: Issue) -> bytes | None:
        """The same for every issue."""
        return doubling()

    def keys(self) -> tuple[ApiKey, ...]:
        """Those it was given."""
        if self.broken:
            raise ConnectionError("nobody answers")
        return self.valid

    def note(self, who: str, act: str, subject: str) -> None:
        """Remembered."""
        if self.broken:
            raise ConnectionError("nobody answers")
        self.notes.append((who, act, subject))

    def publish(self, **changes: object) -> None:
        """Replace fields of what it has, under the next issue id."""
        assert self.current is not None
        issue = replace(self.current.issue, issue_id=self.current.issue.issue_id + 1)
        self.current = replace(self.current, issue=issue, **changes)


class Told(FakeSource):
    """A source that notes what it was asked, and can be told to answer otherwise.

    :param told: ``inputs`` and ``model``: from the usual answer to the one to give.
    """

    def __init__(self, **told: Callable[[Any], Any]) -> None:
        super().__init__(published())
        self.told = told
        self.asked: list[str] = []

    def inputs(self, issue: Issue, station_id: str) -> Inputs | None:
        """As told."""
        self.asked.append(station_id)
        return self._as_told("inputs", super().inputs(issue, station_id))

    def packed_model(self, issue: Issue) -> bytes | None:
        """As told."""
        self.asked.append("model")
        return self._as_told("model", super().packed_model(issue))

    def _as_told(self, what: str, usual: Any) -> Any:
        return self.told[what](usual) if what in self.told else usual
