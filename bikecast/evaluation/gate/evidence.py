"""What a training leaves for the gate: all forecasts of the same hours side by side, and facts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from bikecast.errors import InputError
from bikecast.evaluation.gate.trial import ROW, Trial
from bikecast.evaluation.scores import Scores, actuals
from bikecast.history import History
from bikecast.records import QUANTILE_COLUMNS, WEATHER

CHALLENGER: Final[str] = "challenger"
CHAMPION: Final[str] = "champion"
NAIVE: Final[str] = "naive"
WEEKLY: Final[str] = "mean4w"
WEEK: Final = 168
YEAR: Final = 365 * 24
MOST_WEEKS: Final = 10


@dataclass(frozen=True)
class Facts:
    """What the rows do not tell.

    :param model: the challenger's entry in MODELS.
    :param champion: the version that was in production at the training; empty for none.
    :param scores: role → score → value, all on the hours of the rows.
    :param data_until: end of the challenger's data; ``champion_until`` of the champion's; both
        local civil time in ISO 8601.
    :param champion_answers: this release can ask the champion.
    :param leak: as :func:`bikecast.evaluation.gate.leakage.leak` found it.
    :param weekly_rides: bikes picked up and returned in the last weeks, the newest last.
    :param first_hours: station → the first hour that is known of it, ISO 8601.
    :param rain_before: share of the hours of the year before the window whose rain is known.
    :param vanished: stations known in the four weeks before the last one, and in that one not,
        of ``stations``; ``vanished_share`` is what they had of the bikes of those four weeks.
    """

    model: str
    start: str
    days: int
    data_until: str
    scores: dict[str, Scores]
    champion: str = ""
    champion_until: str = ""
    champion_answers: bool = True
    leak: float | None = None
    weekly_rides: list[float] = field(default_factory=list)
    first_hours: dict[str, str] = field(default_factory=dict)
    rain_before: float = 0.0
    vanished: list[str] = field(default_factory=list)
    vanished_share: float = 0.0
    stations: int = 0


@dataclass(frozen=True, eq=False)
class Evidence:
    """The rows and the facts.

    :param rows: ``origin, station_id, hour, target``, the means ``challenger``, ``champion``,
        ``naive`` and ``mean4w``, the challenger's quantiles, the ``actual`` and the ``rain`` of
        the hour in mm. A row for each known hour that naive forecasts; null where another one does
        not, or the rain is not known.
    """

    rows: pl.DataFrame
    facts: Facts


def side_by_side(trials: Mapping[str, Trial], history: History, start: datetime) -> pl.DataFrame:
    """The rows of :class:`Evidence`.

    :param trials: ``naive`` and ``challenger``, the others where there are any.
    """
    rows = trials[NAIVE].frame.select(*ROW, pl.col("mean").alias(NAIVE))
    came = actuals(history, start).with_columns(
        pl.col(c).cast(rows.schema[c]) for c in ("station_id", "target", "hour")
    )
    rows = rows.join(came, on=ROW[1:])
    for role in (CHALLENGER, CHAMPION, WEEKLY):
        if role not in trials:
            rows = rows.with_columns(pl.lit(None, pl.Float32).alias(role))
            continue
        more = QUANTILE_COLUMNS if role == CHALLENGER else ()
        own = trials[role].frame.select(*ROW, pl.col("mean").alias(role), *more)
        rows = rows.join(own, on=ROW, how="left")
    rain = rain_of(history, history.index(start), history.flows.shape[1])
    rows = rows.join(rain, on="hour", how="left").sort(ROW)
    order = [*ROW, CHALLENGER, CHAMPION, NAIVE, WEEKLY, *QUANTILE_COLUMNS, "actual", "rain"]
    return rows.select(order)


def rain_of(history: History, first: int, stop: int) -> pl.DataFrame:
    """What was last known of each hour's rain: it sorts hours, and is no input of a forecast.

    :returns: ``hour`` and ``rain`` in mm, null where unknown.
    """
    hours = np.arange(first, stop)
    values = np.full(len(hours), np.nan, np.float32)
    if history.weather is not None:
        newest = max((since for since, _ in history.weather.vintages), default=0)
        values = history.weather.at(newest, hours)[:, WEATHER.index("precipitation")]
    at = np.datetime64(history.start, "us") + hours * np.timedelta64(1, "h")
    rain = pl.Series("rain", values, pl.Float32).fill_nan(None)
    return pl.DataFrame({"hour": at}).with_columns(rain)


def rain_before(history: History, start: datetime) -> float:
    """As ``Facts`` has it."""
    first = history.index(start)
    rain = rain_of(history, max(first - YEAR, 0), first)["rain"]
    return 1 - rain.null_count() / len(rain)


def facts_of(history: History) -> dict[str, Any]:
    """What the data themselves tell: the facts of volume and of stations."""
    known = np.asarray(np.isfinite(history.flows[:, : history.known]).any(axis=2))
    first = np.where(known.any(axis=1), known.argmax(axis=1), history.known)
    weeks = min(history.known // WEEK, MOST_WEEKS)
    recent = np.nan_to_num(history.flows[:, history.known - weeks * WEEK : history.known])
    weeks_before = slice(*(max(history.known - n * WEEK, 0) for n in (5, 1)))
    before = np.asarray(known[:, weeks_before].any(axis=1))
    bikes = np.nan_to_num(history.flows[:, weeks_before]).sum(axis=(1, 2), dtype=float)
    gone = np.asarray(before & ~known[:, -WEEK:].any(axis=1))
    ids = [s.station_id for s in history.stations]
    return {
        "weekly_rides": [
            float(w) for w in recent.sum(axis=(0, 2)).reshape(weeks, WEEK).sum(axis=1)
        ],
        "first_hours": {i: history.hour(int(h)).isoformat() for i, h in zip(ids, first)},
        "vanished": [i for i, g in zip(ids, gone) if g],
        "vanished_share": float(bikes[gone].sum() / max(bikes.sum(), 1.0)),
        "stations": int(before.sum()),
    }


def facts_document(facts: Facts) -> dict[str, Any]:
    """As JSON holds it, which knows no infinity."""
    document = asdict(facts)
    if facts.leak is not None and not np.isfinite(facts.leak):
        document["leak"] = "inf"
    return document


def facts_from(document: Mapping[str, Any]) -> Facts:
    """The inverse; what a later release has added is left out.

    :raises InputError: where a fact is missing that this release needs.
    """
    known = {f.name: document[f.name] for f in fields(Facts) if f.name in document}
    if known.get("leak") is not None:
        known["leak"] = float(known["leak"])
    try:
        return Facts(**known)
    except TypeError as error:
        raise InputError(f"the evidence is incomplete: {error}", hint="train anew") from error
