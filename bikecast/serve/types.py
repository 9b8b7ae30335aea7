"""What goes in and comes out: requests are validated with these types, answers are built to them.

Answers are typed dictionaries, because building and dumping one costs no more than the dictionary;
requests are pydantic models, strict: a number is no text, and an unknown field is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# typing's own cannot be read by pydantic before Python 3.12.
from typing_extensions import NotRequired, TypedDict

from bikecast.explanation import HourExplanation
from bikecast.records import WEATHER_BOUNDS

MAX_WHAT_IFS = 100
"""In a batch: one of a station that was not asked for before takes some milliseconds."""


def _between(name: str) -> Any:
    low, high = WEATHER_BOUNDS[name]
    return Field(ge=low, le=high, allow_inf_nan=False)


class GivenWeather(BaseModel):
    """Weather for a what-if: °C, mm in the hour, km/h at 10 m, percent, percent (relative).

    What is not given is as the forecast knew it.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    temperature: Annotated[float, _between("temperature")] | None = None
    precipitation: Annotated[float, _between("precipitation")] | None = None
    wind_speed: Annotated[float, _between("wind_speed")] | None = None
    cloud_cover: Annotated[float, _between("cloud_cover")] | None = None
    humidity: Annotated[float, _between("humidity")] | None = None

    @property
    def given(self) -> dict[str, float]:
        """The variables that are given."""
        return self.model_dump(exclude_none=True)


class PredictRequest(BaseModel):
    """One question.

    :param timestamp: RFC 3339, with offset or in the system's local time; the hour that contains
        it is answered, by default the first hour of the table. Hours of the second week after
        ``as_of``, which the table lacks, are asked of the model that made it.
    :param bikes: in the station at ``as_of``.
    :param weather: of the hour, for a what-if.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    station_id: Annotated[str, Field(min_length=1, max_length=100)]
    timestamp: Annotated[str, Field(max_length=64)] | None = None
    bikes: Annotated[int, Field(ge=0)] | None = None
    weather: GivenWeather | None = None


class BatchRequest(BaseModel):
    """Several questions, each validated on its own."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    predictions: list[Any]


class Flow(TypedDict):
    """Bikes in the hour; ``lower`` and ``upper`` bound the interval."""

    mean: float
    lower: float
    upper: float


class ModelName(TypedDict):
    """A registered model and its version."""

    name: str
    version: str


class Provenance(TypedDict):
    """What every forecast says of itself: by whom, from which data, how old."""

    model: ModelName
    as_of: str
    issued_at: str
    data_age_seconds: int
    stale: bool
    simulated: bool


class Prediction(Provenance):
    """One station and hour.

    :param p_empty: probability that the station is empty at the end of the hour; null together
        with ``p_full`` for the reason in ``p_reason``.
    :param second_week: the hour is none of the table: it is 169 to 336 hours ahead, and the model
        that made the table was asked for it.
    """

    station_id: str
    timestamp: str
    horizon_hours: int
    pickups: Flow | None
    returns: Flow | None
    interval: float
    p_empty: float | None
    p_full: float | None
    p_reason: str | None
    second_week: NotRequired[Literal[True]]


class UsedWeather(TypedDict):
    """The weather of a what-if; null where nobody knows."""

    temperature: float | None
    precipitation: float | None
    wind_speed: float | None
    cloud_cover: float | None
    humidity: float | None


class WhatIfPrediction(Prediction):
    """A prediction with other weather than the forecast knew of."""

    what_if: Literal[True]
    weather: UsedWeather


class ExplainedPrediction(Prediction):
    """A prediction whose explanation was asked for; null for the reason given."""

    explanation: HourExplanation | None
    explanation_reason: str | None


class HourAhead(TypedDict):
    """One hour of a station's forecast."""

    timestamp: str
    horizon_hours: int
    pickups: Flow | None
    returns: Flow | None


class StationForecast(Provenance):
    """The coming hours of one station."""

    station_id: str
    interval: float
    forecast: list[HourAhead]


class ExplainedHour(HourAhead):
    """One hour of a station's forecast, and why."""

    explanation: HourExplanation | None


class ExplainedForecast(Provenance):
    """The coming hours of one station, and why; where null, for the reason given."""

    station_id: str
    interval: float
    forecast: list[ExplainedHour]
    explanation_reason: str | None


class StationStock(Provenance):
    """What a station should hold at the beginning of an hour, in bikes.

    :param hours: looked ahead from ``at``.
    :param low: … ``high``: the stocks that are about as good as ``best``.
    :param expected_failures: trips without a bike or a dock in those hours, with the best stock.
    :param p_empty: probability that the station is empty at ``at``, if no stock is set before;
        null together with ``p_full`` and ``avoided`` for the reason in ``p_reason``.
    :param avoided: failures that the best stock is expected to avoid beside the one there is then.
    """

    station_id: str
    capacity: int
    at: str
    hours: int
    best: int
    low: int
    high: int
    expected_failures: float
    p_empty: float | None
    p_full: float | None
    avoided: float | None
    p_reason: str | None


class StationEntry(TypedDict):
    """A station that can be asked for."""

    station_id: str
    name: str
    lat: float | None
    lon: float | None
    capacity: int | None


class StationList(Provenance):
    """The stations of the system that have a forecast."""

    system_id: str
    timezone: str
    stations: list[StationEntry]


class Series(TypedDict):
    """Bikes in each of some hours; null where there is no forecast."""

    mean: list[float | None]
    lower: list[float | None]
    upper: list[float | None]


class StationSeries(TypedDict):
    """The coming hours of one station in the feed."""

    station_id: str
    pickups: Series
    returns: Series


class FeedData(Provenance):
    """What the feed says: when each hour begins, and the stations' forecasts of these hours."""

    interval: float
    hours: list[str]
    stations: list[StationSeries]


class Feed(TypedDict):
    """As a feed of GBFS 3.0: ``last_updated`` in RFC 3339, ``ttl`` in seconds."""

    last_updated: str
    ttl: int
    version: str
    data: FeedData


class Health(TypedDict):
    """The process is alive."""

    status: Literal["ok"]
    simulated: NotRequired[bool]


class Ready(Provenance):
    """Whether forecasts can be answered, and what is wrong with them where ``degraded``."""

    status: Literal["ok", "degraded"]
    reasons: list[str]


class SchemaSeen(TypedDict):
    """Number and revision of a database's schema as it was last seen, null before."""

    database: int | None
    revision: str | None


class Schema(SchemaSeen):
    """Beside it that of this release."""

    release: int


class Version(TypedDict):
    """What runs here; ``model`` is null before the first forecast.

    :param image: digest of the image that this is a container of; null where that is not known.
    """

    version: str
    commit: str | None
    image: str | None
    model: ModelName | None
    schema: Schema
    simulated: NotRequired[bool]


class TableSummary(TypedDict):
    """The forecast in use: how many stations and hours, the first and the last of these."""

    issue_id: int
    stations: int
    hours: int
    first: str
    last: str


class ModelInfo(TypedDict):
    """The model in production and the forecast that it made."""

    name: str
    version: str
    alias: Literal["production"]
    algorithm: str
    as_of: str
    issued_at: str
    data_age_seconds: int
    stale: bool
    simulated: bool
    table: TableSummary


class Reloaded(TypedDict):
    """What a worker found that was told to look: a forecast, newer than before or not, and keys.

    :param trouble: why there may be a newer one that it does not have.
    :param others_within_seconds: by when the other workers have the same.
    :param audited: the database has written down who asked; otherwise only the log has.
    """

    issue_id: int | None
    newer: bool
    trouble: str | None
    keys: int
    others_within_seconds: int
    audited: bool
    simulated: NotRequired[bool]


class FieldError(TypedDict):
    """One field at fault: a JSON pointer, and what is wrong there."""

    pointer: str
    message: str


class ProblemKind(TypedDict):
    """A kind of problem, and the routes that may have it."""

    type: str
    title: str
    status: int
    routes: list[str]


class ProblemDocument(TypedDict):
    """Why a request cannot be answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: NotRequired[list[FieldError]]
    simulated: NotRequired[bool]


class BatchAnswer(TypedDict):
    """Per question a prediction or a problem, in the order of the questions."""

    predictions: list[Prediction | WhatIfPrediction | ProblemDocument]
    simulated: NotRequired[bool]
