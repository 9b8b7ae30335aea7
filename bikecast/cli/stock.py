"""``bikecast stock``: what each station should hold at an hour, the most worthwhile first."""

import dataclasses
import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bikecast.cli.open import chosen_system, newest_table, opened, place_in, step_in
from bikecast.cli.terminal import errors, output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError
from bikecast.records import MAX_HORIZON, Station

if TYPE_CHECKING:
    from bikecast.serve.table import ForecastTable
    from bikecast.stocking import Stocking

Found = dict[Station, "Stocking"]


def stock(
    stations: Annotated[
        list[str] | None, typer.Argument(help="Station ids, as in /stations; all by default.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="When the stock is set: the next 06:00, or an RFC 3339 timestamp.")
    ] = "06:00",
    hours: Annotated[int, typer.Option(help="Hours to look ahead from there, 1 to 168.")] = 24,
    bikes: Annotated[
        list[str] | None,
        typer.Option(help="Bikes in a station as the forecast begins: ID=N; may be repeated."),
    ] = None,
    system: Annotated[str, typer.Option(help="The system (city).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what each station should hold at an hour, from the newest forecast table.

    Those come first where the best stock avoids the most failed trips beside the one there will be;
    then those whose bikes are not given, by the failures of the worst stock.

    Example: bikecast stock --at 06:00 --hours 24 --bikes HB101=3
    """
    # Other commands do not wait for SciPy.
    from bikecast.serve.problems import Problem
    from bikecast.serve.stock import check_window

    if not 1 <= hours <= MAX_HORIZON:
        raise InputError(f"--hours is {hours}", hint=f"write 1 to {MAX_HORIZON}")
    given = dict(_counted(words) for words in bikes or [])
    if len(given) < len(bikes or []):
        raise InputError("--bikes names a station twice", hint="say once what it holds")
    settings = read_settings()
    with opened(settings) as database:
        database.store.check_readable()
        chosen = chosen_system(database.store, system or settings.system)
        table = newest_table(database.store, chosen)
        asked = [place_in(table, database.store, name) for name in stations or []]
        asked = list(dict.fromkeys(asked)) or list(range(len(table.stations)))
        stocks = {place_in(table, database.store, name): n for name, n in given.items()}
    if elsewhere := sorted(table.stations[i].station_id for i in set(stocks) - set(asked)):
        raise InputError(f"--bikes: {elsewhere[0]!r} is not asked for", hint="name it as well")
    step = step_in(table, at)
    try:
        check_window(table, step, hours)
    except Problem as problem:
        raise InputError(f"--{problem.detail}") from None
    found, skipped = _stocks(table, asked, step, hours, stocks)
    if as_json:
        print_json(_document(table, step, hours, found, skipped))
    else:
        _print_stocks(table, step, hours, found)
    for reason, n in sorted(skipped.items()):
        errors.print(f"[yellow]skipped:[/] {n:,} {reason}", highlight=False)


def _counted(text: str) -> tuple[str, int]:
    """A station's id and its bikes, from ``ID=N``."""
    name, _, count = text.rpartition("=")
    if not (name and re.fullmatch("[0-9]{1,6}", count)):
        raise InputError(f"--bikes is {text!r}", hint="write a station and a number, as in HB101=3")
    return name, int(count)


def _stocks(
    table: "ForecastTable", asked: list[int], step: int, hours: int, bikes: dict[int, int]
) -> tuple[Found, Counter[str]]:
    """The stocks of the stations that have one, the most worthwhile first; others by reason.

    :raises InputError: for more bikes than docks, or where no station is left.
    """
    from bikecast.serve.problems import BIKES_OVER_CAPACITY, NO_CAPACITY, Problem
    from bikecast.serve.stock import stock_at

    found, skipped = Found(), Counter[str]()
    for station in asked:
        try:
            stocking = stock_at(table, station, step, hours, bikes.get(station))
        except Problem as problem:
            if problem.kind == BIKES_OVER_CAPACITY or len(asked) == 1:
                raise InputError(problem.detail) from None
            capacity = problem.kind == NO_CAPACITY
            skipped["without a known capacity" if capacity else "not forecast for every hour"] += 1
        else:
            found[table.stations[station]] = stocking
    if not found:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(skipped.items()))
        raise InputError(
            f"no station of {table.system.system_id} can be stocked: {reasons}",
            hint="bring capacities in with `bikecast import stations`",
        )
    return dict(sorted(found.items(), key=_worth, reverse=True)), skipped


def _worth(item: tuple[Station, "Stocking"]) -> tuple[bool, float]:
    drift = item[1].drift
    return drift is not None, drift.avoided if drift else item[1].worst_failures


def _document(
    table: "ForecastTable", step: int, hours: int, found: Found, skipped: Counter[str]
) -> dict[str, Any]:
    return dataclasses.asdict(table.issue) | {
        "simulated": table.simulated,
        "at": table.timestamps[step],
        "hours": hours,
        "stations": [
            {"station_id": s.station_id, "name": s.name, "capacity": s.capacity} | _flat(stocking)
            for s, stocking in found.items()
        ],
        "skipped": skipped,
    }


def _flat(stocking: "Stocking") -> dict[str, Any]:
    """What is known of a stock, with nulls where the bikes now are not known."""
    fields = dataclasses.asdict(stocking)
    drift = fields.pop("drift") or dict.fromkeys(("bikes", "p_empty", "p_full", "avoided"))
    return fields | drift


def _print_stocks(table: "ForecastTable", step: int, hours: int, found: Found) -> None:
    told = any(stocking.drift for stocking in found.values())
    columns = ["station", "docks", "best", "range", "fail", "at worst"]
    columns += ["now", "P(empty)", "P(full)", "avoids"] if told else []
    cells = [
        [
            escape(f"{s.station_id} {s.name}".rstrip()),
            f"{s.capacity}",
            f"{stocking.best}",
            f"{stocking.low}–{stocking.high}",
            f"{stocking.expected_failures:.1f}",
            f"{stocking.worst_failures:.1f}",
            *(_drift(stocking) if told else []),
        ]
        for s, stocking in found.items()
    ]
    if table.simulated:
        output.print("[yellow]simulated data[/]")
    when = datetime.fromisoformat(table.timestamps[step])
    print_table(f"Stock at {when:%a %d %b %H:%M} for {hours} h", columns, cells)


def _drift(stocking: "Stocking") -> list[str]:
    drift = stocking.drift
    if drift is None:
        return ["?", "", "", ""]
    return [f"{drift.bikes}", f"{drift.p_empty:.0%}", f"{drift.p_full:.0%}", f"{drift.avoided:.1f}"]
