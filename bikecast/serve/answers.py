"""Answers from a table: pure functions of the table, the question and the clock."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

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

Explain = Callable[[ForecastTable, int, list[int]], tuple[list[HourExplanation] | None, str | None]]
"""A table, a station's place in it and those of some hours → one explanation for each, or None
and the reason."""

Imagine = Callable[
    [ForecastTable, int, int, dict[str, float]], tuple[NDArray[np.float64], UsedWeather]
]
"""A table, a station's place in it, that of an hour and other weather → ``VALUES`` of both targets,
and the weather of which they are."""


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
    return _prediction(table, station, step, (pickups, returns), chances, known)


def imagined(
    table: ForecastTable, asked: PredictRequest, known: Provenance, imagine: Imagine
) -> WhatIfPrediction:
    """One station and hour with other weather; what the table does not have stays out.

    :raises Problem: where the table does not have what is asked, or the model cannot tell.
    """
    assert asked.weather is not None
    station, step = _place(table, asked)
    has = table.flows(station, step)
    values, weather = imagine(table, station, step, asked.weather.given)
    pickups, returns = (
        flow(row) if there else None for there, row in zip(has, values.tolist(), strict=True)
    )
    chances = _stock(table, station, step, asked.bikes, values[:, 0])
    found = _prediction(table, station, step, (pickups, returns), chances, known)
    return {**found, "what_if": True, "weather": weather}


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
    flows: tuple[Flow | None, Flow | None],
    chances: tuple[float | None, float | None, str | None],
    known: Provenance,
) -> Prediction:
    p_empty, p_full, p_reason = chances
    pickups, returns = flows
    return {
        "station_id": table.stations[station].station_id,
        "timestamp": table.timestamps[step],
        "horizon_hours": table.horizon(step),
        "pickups": pickups,
        "returns": returns,
        "interval": INTERVAL,
        "p_empty": p_empty,
        "p_full": p_full,
        "p_reason": p_reason,
        **known,
    }


def _stock(
    table: ForecastTable,
    station: int,
    step: int,
    bikes: int | None,
    means: NDArray[np.float64] | None = None,
) -> tuple[float | None, float | None, str | None]:
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
    """A prediction from the table, with its explanation."""
    step = found["horizon_hours"] - table.horizon(0)
    why, reason = explain(table, table.station(found["station_id"]), [step])
    return {**found, "explanation": why[0] if why else None, "explanation_reason": reason}


def explained_forecast(
    table: ForecastTable, found: StationForecast, explain: Explain
) -> ExplainedForecast:
    """A station's hours from the table, each with its explanation."""
    steps = [hour["horizon_hours"] - table.horizon(0) for hour in found["forecast"]]
    why, reason = explain(table, table.station(found["station_id"]), steps)
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
