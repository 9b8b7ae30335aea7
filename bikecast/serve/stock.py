"""What a station of the table should hold at an hour: for the service and the command line."""

import re
from dataclasses import dataclass

from bikecast.history import HOUR
from bikecast.serve.answers import NO_STOCK, check_bikes
from bikecast.serve.problems import NO_CAPACITY, NO_FORECAST, OUTSIDE_TABLE, Problem
from bikecast.serve.table import ForecastTable
from bikecast.serve.times import civil_hour
from bikecast.serve.types import Provenance, StationStock
from bikecast.stocking import MAX_DOCKS, Stocking, stocking

DEFAULT_AT = "06:00"
_TIME_OF_DAY = re.compile("([01]?[0-9]|2[0-3]):[0-5][0-9]")


@dataclass(frozen=True)
class StockQuery:
    """One question.

    :param at: when the stock is set; see :func:`step_at`.
    :param hours: to look ahead from there.
    :param bikes: in the station at ``as_of``, where known.
    """

    at: str
    hours: int
    bikes: int | None


def step_at(table: ForecastTable, text: str, *, ahead: bool = False) -> int:
    """The place of an hour on the table's second axis.

    :param text: a time of day, for the next hour of the table that contains it, or RFC 3339.
    :param ahead: take hours of the second week as well.
    :raises Problem: for what is neither, or outside the table.
    """
    step_of = table.step_ahead if ahead else table.step
    try:
        if not (found := _TIME_OF_DAY.fullmatch(text)):
            return step_of(civil_hour(text, table.zone))
    except Problem as error:
        detail = f"at: {error.detail}, or write a time of day as in {DEFAULT_AT}"
        raise Problem(error.kind, detail) from None
    for step in range(len(table.timestamps)):
        if (table.start + step * HOUR).hour == int(found[1]) and table.exists(step):
            return step
    raise Problem(
        OUTSIDE_TABLE,
        f"at: {text} is outside the forecast, which has the hours from {table.timestamps[0]} to "
        f"{table.timestamps[-1]}; ask for one of those",
    )


def check_window(table: ForecastTable, step: int, hours: int) -> None:
    """See that the table reaches ``hours`` ahead of the beginning of a step.

    :raises Problem: where it ends before.
    """
    if hours > (most := len(table.timestamps) - step):
        raise Problem(
            OUTSIDE_TABLE,
            f"hours: {hours} from {table.timestamps[step]} on end after the forecast, whose last "
            f"hour is {table.timestamps[-1]}; ask for up to {most}",
        )


def stock_at(
    table: ForecastTable, station: int, step: int, hours: int, bikes: int | None
) -> Stocking:
    """What a station should hold at the beginning of a step, for the hours from there.

    :param bikes: in the station at ``as_of``, where known.
    :raises Problem: without a capacity or one of the flows, or for more bikes than docks.
    """
    place = table.stations[station]
    if not 1 <= (place.capacity or 0) <= MAX_DOCKS:
        raise Problem(
            NO_CAPACITY,
            f"station {place.station_id!r} has no known capacity of 1 to {MAX_DOCKS} docks; "
            "bring it in with `bikecast import stations`: the next forecast table has it",
        )
    assert place.capacity is not None
    if bikes is not None:
        check_bikes(place, bikes)
    before = table.demand(station, 0, step)
    ahead = table.demand(station, step, step + hours)
    if ahead is None or (before is None and bikes is not None):
        raise Problem(
            NO_FORECAST,
            f"pickups or returns of station {place.station_id!r} are not forecast for every hour "
            f"until {hours} h after {table.timestamps[step]}; ask for other hours or stations",
        )
    return stocking(place.capacity, ahead[:0] if before is None else before, ahead, bikes)


def station_stock(
    table: ForecastTable, station_id: str, asked: StockQuery, known: Provenance
) -> StationStock:
    """What one station should hold.

    :raises Problem: where the table does not have what is asked.
    """
    station, step = table.station(station_id), step_at(table, asked.at)
    check_window(table, step, asked.hours)
    found = stock_at(table, station, step, asked.hours, asked.bikes)
    place, drift = table.stations[station], found.drift
    assert place.capacity is not None
    return {
        "station_id": place.station_id,
        "capacity": place.capacity,
        "at": table.timestamps[step],
        "hours": asked.hours,
        "best": found.best,
        "low": found.low,
        "high": found.high,
        "expected_failures": round(found.expected_failures, 3),
        "p_empty": round(drift.p_empty, 4) if drift else None,
        "p_full": round(drift.p_full, 4) if drift else None,
        "avoided": round(drift.avoided, 3) if drift else None,
        "p_reason": None if drift else NO_STOCK,
        **known,
    }
