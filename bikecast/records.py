"""The value types that every room shares: plain, frozen, without behaviour that does I/O."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

TARGETS: Final = ("pickups", "returns")
"""What is forecast, per station and hour, in bikes; the order of the last axis of every array."""

QUANTILES: Final = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
"""The levels of every probabilistic forecast."""

QUANTILE_COLUMNS: Final = ("q05", "q10", "q25", "q50", "q75", "q90", "q95")

FORECAST_COLUMNS: Final = ("station_id", "hour", "target", "mean", *QUANTILE_COLUMNS)
"""The columns of a forecast frame, one row per station, hour and target."""

WEATHER: Final = ("temperature", "precipitation", "wind_speed", "cloud_cover", "humidity")
"""Weather variables: °C, mm in the hour, km/h at 10 m, percent, percent (relative)."""

WEATHER_BOUNDS: Final = {
    "temperature": (-90.0, 60.0),
    "precipitation": (0.0, 500.0),
    "wind_speed": (0.0, 400.0),
    "cloud_cover": (0.0, 100.0),
    "humidity": (0.0, 100.0),
}
"""What a physical value can be; 9999 and its like stand for "not measured"."""

MAX_HORIZON: Final = 168
"""Hours ahead that are forecast: one week."""

FIRST_RIDES: Final = datetime(1998, 1, 1)
"""No ride is older: Rennes opened the first system that counted its rides in 1998."""


@dataclass(frozen=True)
class System:
    """One bike-share system (a city).

    :param system_id: short name, as in ``citibike-jc``.
    :param timezone: IANA name; all civil hours of the system are in it.
    :param holidays: country and, behind a hyphen, subdivision, as in ``US-NY``; empty for none.
    :param simulated: the data were made up by bikecast.
    """

    system_id: str
    name: str = ""
    timezone: str = "UTC"
    holidays: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Station:
    """A place where bikes stand; ids are text (``5379.10`` is not ``5379.1``)."""

    station_id: str
    name: str = ""
    lat: float | None = None
    lon: float | None = None
    capacity: int | None = None


@dataclass(frozen=True)
class ImportReport:
    """What became of one imported file.

    :param rows_read: data rows in the file, its header not counted.
    :param rows_used: rows whose content is in the database now because of this file.
    :param skipped: reason → number of rows that could not be used.
    :param notes: reason → number of rows used with a reservation (a ride without an end station).
    :param already_imported: the very same content was imported before; nothing was changed.
    """

    file: str
    kind: str
    rows_read: int = 0
    rows_used: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    already_imported: bool = False


@dataclass(frozen=True)
class Issue:
    """One issued forecast table: who made it, when, and from data up to when.

    :param issue_id: key in the database; 0 before it is stored.
    :param issued_at: wall clock, with time zone (UTC).
    :param as_of: end of the data that the forecast saw, with time zone; forecasts start here.
    """

    system_id: str
    issued_at: datetime
    as_of: datetime
    model: str
    model_version: str
    simulated: bool = False
    issue_id: int = 0


@dataclass(frozen=True)
class ModelVersion:
    """A registered model, as the registry knows it.

    :param model: its entry in the table of models, as in ``xgboost``.
    :param aliases: ``production``, ``challenger`` or none.
    :param trained_until: end of the data that it was fitted on, local civil time.
    :param scores: entry → score → value, all on the same recent hours; ``champion`` is the
        version that was in production when this one was trained.
    :param previous: the version that was in production before this one was promoted.
    """

    version: str
    model: str
    run_id: str
    system_id: str
    aliases: tuple[str, ...] = ()
    trained_until: str = ""
    data_hash: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    previous: str = ""


@dataclass(frozen=True)
class AdminAct:
    """What an admin did, as it is written down for good.

    :param at: when, with time zone.
    :param who: a user and his machine, or the admin token and the address that it came from.
    :param subject: what it was done to; empty where the act says all.
    """

    at: datetime
    who: str
    act: str
    subject: str


@dataclass(frozen=True)
class Promotion:
    """A move of the model in production, as it is written down for good.

    :param at: when, with time zone.
    :param kind: ``promote`` and ``rollback``, written down before the move, and ``done`` after it;
        ``undone`` where it did not come through; ``noticed`` where production was found to have
        been moved otherwise.
    :param from_version: what was in production before; empty where nothing was, or nobody knows.
    :param to_version: what is in production from then on; empty where nothing is.
    """

    at: datetime
    kind: str
    from_version: str
    to_version: str
    who: str
    why: str
    system_id: str = ""
