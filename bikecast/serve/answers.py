"""Answers from a table: pure functions of the table, the question and the clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bikecast.explanation import HourExplanation
from bikecast.records import Station
from bikecast.serve.problems import (
    BIKES_OVER_CAPACITY,
    INVALID_JSON,
    INVALID_REQUEST,
    Problem,
)
from bikecast.serve.table import INTERVAL, ForecastTable, flow
from bikecast.serve.times import civil_hour
from bikecast.serve.types import (
    ExplainedForecast,
    ExplainedPrediction,
    Flow,
    HourAhead,
    ModelName,
    Prediction,
    PredictRequest,
    Provenance,
    StationEntry,
    StationForecast,
    UsedWeather,
    WhatIfPrediction,
)

NO_STOCK = "stock now unknown: send bikes"
NO_CAPACITY = "capacity unknown"
NO_FLOW = "pickups or returns are not forecast"

Chances = tuple[float | None, float | None, str | None]
"""``p_empty``, ``p_full``, and the reason where there are none."""
TOO_FAR: Final[Chances] = (None, None, "the bikes of now say nothing of the second week")

Explain = Callable[
    [ForecastTable, int, Sequence[HourAhead]], tuple[list[HourExplanation] | None, str | None]
]
"""A table, a station's place in it and some of its hours as they are forecast → one explanation for
each, or None and the reason."""

Imagine = Callable[
    [ForecastTable, int, int, dict[str, float] | None],
    tuple[NDArray[np.float64], UsedWeather | None],
]
"""A table, a station's place in it, that of an hour and other weather → ``VALUES`` of both targets,
and the weather of which they are; without any weather the hour is one of the second week."""


@dataclass(frozen=True)
class Context:
    """What an answer depends on beside the table.

    :param model_name: the registered model that the issue's version belongs to.
    :param stale_after: age of the data in seconds from which it is stale.
    :param now: seconds since 1970.
    """

    model_name: str
    stale_after: int
    now: float


def provenance(table: ForecastTable, context: Context) -> Provenance:
    """Where a table comes from and how old its data are."""
    age = max(int(context.now - table.issue.as_of.timestamp()), 0)
    return {
        "model": model_name(table, context),
        "as_of": table.as_of,
        "issued_at": table.issued_at,
        "data_age_seconds": age,
        "stale": age >= context.stale_after,
        "simulated": table.simulated,
    }


def model_name(table: ForecastTable, context: Context) -> ModelName:
    """The registered model behind a table."""
    return {"name": context.model_name, "version": table.issue.model_version}


def prediction(table: ForecastTable, asked: PredictRequest, known: Provenance) -> Prediction:
    """One station and hour.

    :raises Problem: where the table does not have what is asked.
    """
    station, step = _place(table, asked)
    pickups, returns = table.flows(station, step)
    chances = _stock(table, station, step, asked.bikes)
    when = table.timestamps[step]
    return _prediction(table, station, step, when, (pickups, returns), chances, known)


def place_ahead(table: ForecastTable, asked: PredictRequest) -> tuple[int, int]:
    """Of the station and the hour, where the model can be asked for it: also in the second week.

    :raises Problem: where it cannot.
    """
    station = table.station(asked.station_id)
    if asked.timestamp is None:
        return station, 0
    return station, table.step_ahead(civil_hour(asked.timestamp, table.zone))


def imagined(
    table: ForecastTable,
    place: tuple[int, int],
    asked: PredictRequest,
    known: Provenance,
    imagine: Imagine,
) -> Prediction | WhatIfPrediction:
    """One station and hour as the model tells it: with other weather, or in the second week.

    What the table does not have of the station stays out.

    :param place: of the station and the hour, as :func:`place_ahead` finds it.
    :raises Problem: where the table does not have what is asked, or the model cannot tell.
    """
    station, step = place
    given = asked.weather.given if asked.weather else None
    beyond = table.in_second_week(step)
    has = table.counted(station) if beyond else table.flows(station, step)
    values, weather = imagine(table, station, step, given)
    pickups, returns = (
        flow(row) if there else None for there, row in zip(has, values.tolist(), strict=True)
    )
    if beyond:
        if asked.bikes is not None and table.stations[station].capacity is not None:
            check_bikes(table.stations[station], asked.bikes)
        chances = TOO_FAR
    else:
        chances = _stock(table, station, step, asked.bikes, values[:, 0])
    when = table.timestamp(step)
    found = _prediction(table, station, step, when, (pickups, returns), chances, known)
    if beyond:
        found["second_week"] = True
    return found if weather is None else {**found, "what_if": True, "weather": weather}


def _place(table: ForecastTable, asked: PredictRequest) -> tuple[int, int]:
    """Of the station and the hour in the table."""
    station = table.station(asked.station_id)
    if asked.timestamp is None:
        return station, 0
    return station, table.step(civil_hour(asked.timestamp, table.zone))


def _prediction(
    table: ForecastTable,
    station: int,
    step: int,
    when: str,
    flows: tuple[Flow | None, Flow | None],
    chances: Chances,
    known: Provenance,
) -> Prediction:
    p_empty, p_full, p_reason = chances
    pickups, returns = flows
    return {
        "station_id": table.stations[station].station_id,
        "timestamp": when,
        "horizon_hours": table.horizon(step),
        "pickups": pickups,
        "returns": returns,
        "interval": INTERVAL,
        "p_empty": p_empty,
        "p_full": p_full,
        "p_reason": p_reason,
        **known,  # type: ignore[typeddict-item]  # has no `second_week`, which mypy cannot know
    }


def _stock(
    table: ForecastTable,
    station: int,
    step: int,
    bikes: int | None,
    means: NDArray[np.float64] | None = None,
) -> Chances:
    capacity = table.stations[station].capacity
    if bikes is None:
        return None, None, NO_STOCK
    if capacity is None:
        return None, None, NO_CAPACITY
    check_bikes(table.stations[station], bikes)
    chances = table.empty_and_full(station, step, bikes, means)
    return (*chances, None) if chances else (None, None, NO_FLOW)


def check_bikes(station: Station, bikes: int) -> None:
    """See that a station of known capacity can hold so many bikes.

    :raises Problem: where it cannot.
    """
    assert station.capacity is not None
    if bikes > station.capacity:
        raise Problem(
            BIKES_OVER_CAPACITY,
            f"{bikes} bikes in station {station.station_id!r}, which holds "
            f"{station.capacity}; send 0 to {station.capacity}",
        )


def station_forecast(
    table: ForecastTable, station_id: str, hours: int, known: Provenance
) -> StationForecast:
    """The hours of a station up to ``hours`` ahead of ``as_of``.

    :raises Problem: for a station that the table does not have.
    """
    station = table.station(station_id)
    forecast: list[HourAhead] = []
    for step, timestamp in enumerate(table.timestamps):
        horizon = table.horizon(step)
        if horizon > hours:
            break
        try:
            pickups, returns = table.flows(station, step)
        except Problem:  # the hour that spring skips
            continue
        forecast.append(
            {
                "timestamp": timestamp,
                "horizon_hours": horizon,
                "pickups": pickups,
                "returns": returns,
            }
        )
    return {
        "station_id": table.stations[station].station_id,
        "interval": INTERVAL,
        "forecast": forecast,
        **known,
    }


def explained(table: ForecastTable, found: Prediction, explain: Explain) -> ExplainedPrediction:
    """A prediction with its explanation."""
    why, reason = explain(table, table.station(found["station_id"]), [found])
    return {**found, "explanation": why[0] if why else None, "explanation_reason": reason}


def explained_forecast(
    table: ForecastTable, found: StationForecast, explain: Explain
) -> ExplainedForecast:
    """A station's hours from the table, each with its explanation."""
    why, reason = explain(table, table.station(found["station_id"]), found["forecast"])
    pairs = zip(found["forecast"], why or repeat(None))
    return {
        **found,
        "forecast": [{**hour, "explanation": explanation} for hour, explanation in pairs],
        "explanation_reason": reason,
    }


def station_entries(table: ForecastTable) -> list[StationEntry]:
    """The stations that can be asked for."""
    return [
        {
            "station_id": s.station_id,
            "name": s.name,
            "lat": s.lat,
            "lon": s.lon,
            "capacity": s.capacity,
        }
        for s in table.stations
    ]


def invalid(error: ValidationError) -> Problem:
    """What a client reads where its request failed the types: each field, in plain words."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return Problem(INVALID_JSON, f"{found[0]['msg']}; send one JSON object")
    errors = [
        {"pointer": "".join(f"/{part}" for part in e["loc"]), "message": e["msg"]} for e in found
    ]
    first = errors[0]
    return Problem(
        INVALID_REQUEST,
        f"{first['pointer'] or 'the body'}: {first['message']}; correct it and send it again",
        errors,
    )
