"""``bikecast predict``: a station's hours on the terminal, as forecast or in other weather."""

import dataclasses
import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import typer

from bikecast.cli.open import (
    chosen_system,
    known_station,
    newest_published,
    newest_table,
    not_in_table,
    opened,
    place_in,
    step_in,
)
from bikecast.cli.terminal import errors, output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError
from bikecast.explanation import BALANCE, Explanation, explain_hours
from bikecast.features.groups import GROUPS
from bikecast.features.inputs import Inputs
from bikecast.history import HOUR, civil_hour_exists
from bikecast.records import KEPT_HORIZON, MAX_HORIZON, TARGETS, WEATHER_BOUNDS, Issue
from bikecast.store import Store

if TYPE_CHECKING:
    from bikecast.models.base import Explainable
    from bikecast.serve.source import Published
    from bikecast.serve.table import ForecastTable

HOURS = 24
SHOWN = ("mean", "q10", "q90")

Row = dict[str, Any]


def predict(
    station: Annotated[str, typer.Argument(help="Station id, as in /stations.")],
    hours: Annotated[
        int | None, typer.Option(help="Hours ahead, 1 to 168.", show_default=str(HOURS))
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            help="The first hour: the next 08:00, or an RFC 3339 timestamp, up to two weeks ahead."
        ),
    ] = "",
    weather: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What if the hour had other weather: NAME=VALUE of {', '.join(WEATHER_BOUNDS)} "
            "(°C, mm, km/h, percent); may be repeated."
        ),
    ] = None,
    system: Annotated[str, typer.Option(help="The system (city).")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say why: level and factors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a station's coming hours from the newest forecast table.

    Example: bikecast predict HB101 --hours 24 --explain

    Hours behind the table, up to two weeks ahead, are asked of the model that made it.

    With --weather it is a what-if: one hour as it is forecast, and as it would be in other weather.

    Example: bikecast predict HB101 --at 08:00 --weather temperature=5 --weather precipitation=2
    """
    if hours is not None and not 1 <= hours <= MAX_HORIZON:
        raise InputError(f"--hours is {hours}", hint=f"write 1 to {MAX_HORIZON}")
    given = _weather(weather or [])
    if given and (explain or hours is not None):
        raise InputError(
            "--weather is that of one hour, and a what-if is not explained",
            hint="leave --hours and --explain out",
        )
    settings = read_settings()
    with opened(settings) as database:
        store = database.store
        store.check_readable()
        chosen = chosen_system(store, system or settings.system)
        if given:
            _what_if(store, chosen, station, at, given, as_json)
        else:
            _week(store, chosen, station, at, hours or HOURS, explain, as_json)


def _week(
    store: Store, system_id: str, asked: str, at: str, hours: int, explain: bool, as_json: bool
) -> None:
    """Print a station's coming hours: those of the table, and behind it those of its model."""
    made = newest_published(store, system_id)
    station, issue = known_station(store, system_id, asked), made.issue
    zone = ZoneInfo(made.system.timezone)
    first = origin = issue.as_of.astimezone(zone).replace(tzinfo=None)
    if at:
        first = _first(made, at)
    wanted = [h for h in (first + i * HOUR for i in range(hours)) if civil_hour_exists(h, zone)]
    told, why = _both_weeks(store, made, station, {h: (h - origin) // HOUR for h in wanted})
    if explain:
        _explain(store, issue, station, origin, told)
    if as_json:
        print_json(dataclasses.asdict(issue) | {"station_id": station, "hours": told})
    elif explain:
        _print_reasons(station, issue.simulated, told)
    else:
        _print_week(station, issue.simulated, told)
    if missing := len(wanted) - len({row["hour"] for row in told}):
        errors.print(f"[yellow]missing:[/] {missing} of {len(wanted)} h{why}", highlight=False)


def _first(made: "Published", at: str) -> datetime:
    """The civil hour that is given as ``--at``."""
    from bikecast.serve.table import build_table

    table = build_table(made)
    return table.start + step_in(table, at, ahead=True) * HOUR


def _both_weeks(
    store: Store, made: "Published", station: str, ahead: dict[datetime, int]
) -> tuple[list[Row], str]:
    """Rows of those hours that are forecast, and why others are not.

    :param ahead: hours → how many hours they begin after the end of the data.
    :raises InputError: where none is.
    """
    own = made.frame.filter(pl.col("station_id") == station).sort("hour", "target")
    if own.is_empty():
        raise not_in_table(made.system.system_id, station)
    rows = own.filter(pl.col("hour").is_in(list(ahead))).to_dicts()
    try:
        rows += _second_week(store, made.issue, own, ahead)
    except InputError as error:
        if not rows:
            raise
        return rows, f": {error}"
    if not rows:
        raise InputError(
            f"no forecast for station {station!r} from {min(ahead)} on",
            hint="ask for other hours with --at",
        )
    return rows, " are not forecast"


def _second_week(
    store: Store, issue: Issue, own: pl.DataFrame, ahead: dict[datetime, int]
) -> list[Row]:
    """Rows of those hours that lie in the second week, as of the table.

    :param own: the station's rows of the table; :param ahead: as in :func:`_both_weeks`.
    :raises InputError: where what the model saw of them, or the model, is not stored.
    """
    from bikecast.serve.table import VALUES
    from bikecast.serve.whatif import told
    from bikecast.whatif import second_week

    behind = {h: step for h, step in ahead.items() if MAX_HORIZON <= step < KEPT_HORIZON}
    if not behind:
        return []
    station, targets = own["station_id"][0], own["target"].unique()
    week = second_week(*_stored(store, issue, station, "asked for its second week"))
    return [
        {"station_id": station, "hour": hour, "target": target}
        | dict(zip(VALUES, values, strict=True))
        | {"second_week": True}
        for hour, step in behind.items()
        for target, values in zip(TARGETS, told(week.at(step)).tolist(), strict=True)
        if target in targets
    ]


def _explain(
    store: Store, issue: Issue, station: str, origin: datetime, told: list[dict[str, Any]]
) -> None:
    """Give each row of a forecast its ``explanation``."""
    model, inputs = _stored(store, issue, station, "explained")
    places = [((row["hour"] - origin) // HOUR, TARGETS.index(row["target"])) for row in told]
    means = np.full(inputs.level.shape, np.nan)
    for place, row in zip(places, told, strict=True):
        means[place] = row["mean"]
    hours = np.unique([hour for hour, _ in places])
    found = explain_hours(model, inputs, hours, means[hours])
    whys = {hour: dict(why) for hour, why in zip(hours.tolist(), found, strict=True)}
    for (hour, _), row in zip(places, told, strict=True):
        row["explanation"] = whys[hour][row["target"]]


def _stored(store: Store, issue: Issue, station: str, wish: str) -> tuple["Explainable", Inputs]:
    """The model behind a forecast, and what it saw of a station.

    :param wish: what cannot be done to the forecast without them, as in ``explained``.
    """
    from bikecast.models.portable import unpack

    inputs, packed = store.inputs(issue.issue_id, station), store.packed_model(issue.issue_id)
    if inputs is None:
        raise InputError(
            f"a forecast of an older release cannot be {wish}",
            hint="issue it anew: `bikecast forecast`",
        )
    if packed is None:
        raise InputError(
            f"a forecast by a model of an older release cannot be {wish}",
            hint="train another: `bikecast train --promote`, then `bikecast forecast`",
        )
    return unpack(packed), inputs


def _print_reasons(station: str, simulated: bool, told: list[dict[str, Any]]) -> None:
    factors = [{f["group"]: f"×{f['factor']:.2f}" for f in _why(row)["factors"]} for row in told]
    words = [w for w in (*GROUPS, BALANCE) if {f.get(w, "×1.00") for f in factors} != {"×1.00"}]
    cells = [
        [
            f"{row['hour']:%a %d %b %H:%M} {row['target']}",
            f"{_why(row)['level']:.2f}",
            *(by_word.get(word, "×1.00") for word in words),
            f"{row['mean']:.2f}",
        ]
        for row, by_word in zip(told, factors, strict=True)
    ]
    if simulated:
        output.print("[yellow]simulated data[/]")
    columns = ["hour", "level", *words, "mean"]
    print_table(f"Station {station}: the level times its factors is the mean", columns, cells)


def _why(row: dict[str, Any]) -> Explanation:
    why: Explanation = row["explanation"]
    return why


def _print_week(station: str, simulated: bool, told: list[Row]) -> None:
    targets = [target for target in TARGETS if any(row["target"] == target for row in told)]
    hours: dict[datetime, dict[str, Row]] = {}
    for row in told:
        hours.setdefault(row["hour"], {})[row["target"]] = row
    cells = [
        [f"{hour:%a %d %b %H:%M}", *(_interval(rows.get(target)) for target in targets)]
        for hour, rows in hours.items()
    ]
    if simulated:
        output.print("[yellow]simulated data[/]")
    print_table(f"Station {station}: mean and 80 % interval", ["hour", *targets], cells)
    if second := next((row["hour"] for row in told if "second_week" in row), None):
        output.print(
            f"From {second:%a %d %b %H:%M} on it is the second week, which the table does not have",
            highlight=False,
        )


def _interval(row: dict[str, Any] | None) -> str:
    return f"{row['mean']:.1f} ({row['q10']:.0f}–{row['q90']:.0f})" if row else "–"


def _weather(words: list[str]) -> dict[str, float]:
    """What is given as ``NAME=VALUE``, each within what can be."""
    found: dict[str, float] = {}
    for text in words:
        name, _, value = text.partition("=")
        if name not in WEATHER_BOUNDS:
            known = ", ".join(WEATHER_BOUNDS)
            raise InputError(f"--weather is {text!r}", hint=f"write NAME=VALUE, of {known}")
        if name in found:
            raise InputError(f"--weather gives {name} twice", hint="say it once")
        low, high = WEATHER_BOUNDS[name]
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not low <= found[name] <= high:
            raise InputError(
                f"--weather is {text!r}", hint=f"write a number from {low:g} to {high:g}"
            )
    return found


def _what_if(
    store: Store, system_id: str, asked: str, at: str, weather: dict[str, float], as_json: bool
) -> None:
    """Print one hour as it is forecast, and as it would be in other weather."""
    table = newest_table(store, system_id)
    place, step = place_in(table, store, asked), step_in(table, at, ahead=True) if at else 0
    station, second = table.stations[place].station_id, table.in_second_week(step)
    if not second and np.isnan(table.values[place, step]).all():
        raise InputError(
            f"no forecast for station {station!r} at {table.timestamps[step]}",
            hint="ask for another hour with --at",
        )
    model, inputs = _stored(store, table.issue, station, "asked for other weather")
    rows, used = _imagined(table, place, step, model, inputs, weather)
    if as_json:
        told = {"station_id": station, "what_if": True, "weather": used, "hours": rows}
        told |= {"second_week": True} if second else {}
        print_json(dataclasses.asdict(table.issue) | told)
    else:
        _print_what_if(station, table.simulated, rows, used)


def _imagined(
    table: "ForecastTable",
    place: int,
    step: int,
    model: "Explainable",
    inputs: Inputs,
    weather: dict[str, float],
) -> tuple[list[Row], dict[str, float | None]]:
    """A row of each target that is forecast, and the weather that they are of."""
    from bikecast.serve.table import VALUES
    from bikecast.serve.whatif import imagine, ready, told
    from bikecast.whatif import asks_weather, second_week

    askable = asks_weather(model)
    values, used = imagine(table, step, ready(table, place, step, askable, inputs), weather)
    if table.in_second_week(step):
        plain = told(second_week(model, inputs).at(table.horizon(step) - 1))
        plain[~np.array(table.counted(place))] = math.nan
    else:
        plain = table.values[place, step]
    columns = [VALUES.index(name) for name in SHOWN]

    def shown(of: list[float]) -> Row:
        return dict(zip(SHOWN, (of[column] for column in columns), strict=True))

    hour = table.start + step * HOUR
    pairs = zip(TARGETS, plain.tolist(), values.tolist(), strict=True)
    rows = [
        {"hour": hour, "target": target, **shown(other), "forecast": shown(own)}
        for target, own, other in pairs
        if not math.isnan(own[0])
    ]
    return rows, cast("dict[str, float | None]", used)


def _print_what_if(
    station: str, simulated: bool, rows: list[Row], used: dict[str, float | None]
) -> None:
    if simulated:
        output.print("[yellow]simulated data[/]")
    cells = [[row["target"], _interval(row["forecast"]), _interval(row)] for row in rows]
    columns = ["target", "mean and 80 % interval", "in other weather"]
    print_table(f"Station {station}, {rows[0]['hour']:%a %d %b %H:%M}", columns, cells)
    sky = ", ".join(f"{name} {value:g}" for name, value in used.items() if value is not None)
    output.print(f"That weather is {sky}", highlight=False)
