"""``bikecast serve`` and ``predict``: answer over HTTP, or ask once on the terminal."""

import dataclasses
import logging
import signal
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import typer

from bikecast.cli.open import (
    chosen_system,
    commit,
    known_station,
    newest_issue,
    not_in_table,
    opened,
)
from bikecast.cli.terminal import errors, output, print_json, print_table
from bikecast.config import Settings, read_settings
from bikecast.errors import InputError, Unavailable
from bikecast.explanation import BALANCE, Explanation, explain_hours
from bikecast.features.groups import GROUPS
from bikecast.history import HOUR
from bikecast.records import MAX_HORIZON, TARGETS, Issue
from bikecast.store import Store

if TYPE_CHECKING:
    from bikecast.serve.table import ForecastTable

log = logging.getLogger(__name__)


def serve(
    system: Annotated[str, typer.Option(help="The system (city) to serve.")] = "",
    bind: Annotated[str, typer.Option(help="Address and port, as in 127.0.0.1:8000.")] = "",
    workers: Annotated[int, typer.Option(help="Processes; 0 takes the setting.", min=0)] = 0,
) -> None:
    """Serve forecasts over HTTP until stopped; exit code 130 by Ctrl-C, 143 by SIGTERM.

    Example: bikecast serve --bind 127.0.0.1:8000 --workers 2
    """
    from bikecast.serve.server import serve as do_serve
    from bikecast.serve.source import StoreSource

    settings = read_settings()
    with opened(settings) as database:
        chosen = _served(settings, database.store, system or settings.system)
        ended_by = do_serve(
            dataclasses.replace(
                settings,
                bind=bind or settings.bind,
                workers=workers or settings.workers,
                commit=commit(settings),
            ),
            lambda: StoreSource(Store(database.url), chosen),
            on_ready=lambda url: _say(settings, f"serving {chosen} on {url}"),
        )
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by:
        raise typer.Exit(128 + ended_by)


def _say(settings: Settings, text: str) -> None:
    """To people, or into the log that machines read."""
    if settings.log_format == "json":
        log.info(text)
    else:
        errors.print(text, highlight=False, soft_wrap=True, markup=False)


def _served(settings: Settings, store: Store, asked: str) -> str:
    """The system to serve; where its server is gone, the one whose last forecast is kept.

    Where none is asked for, it is the only one of which there is any.
    """
    try:
        store.check_readable()
        return chosen_system(store, asked)
    except Unavailable as error:
        kept = _kept(settings, store.place, asked)
        if kept is None:
            raise
        chosen = kept.system.system_id
        told = f"{error}; serving the forecast of {chosen} as of {kept.as_of} until it answers"
        errors.print(told, highlight=False, soft_wrap=True, markup=False)
        return chosen


def _kept(settings: Settings, database: str, asked: str) -> "ForecastTable | None":
    from bikecast.serve.kept import KeptTable, kept_folder, kept_folders

    folders = [kept_folder(settings.data_dir, database, asked)]
    try:
        if not asked:
            folders = kept_folders(settings.data_dir, database)
        return KeptTable(folders[0]).load() if len(folders) == 1 else None
    except (OSError, ValueError):
        return None


def predict(
    station: Annotated[str, typer.Argument(help="Station id, as in /stations.")],
    hours: Annotated[int, typer.Option(help="Hours ahead, 1 to 168.")] = 24,
    system: Annotated[str, typer.Option(help="The system (city).")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say why: level and factors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a station's coming hours from the newest forecast table.

    Example: bikecast predict HB101 --hours 24 --explain
    """
    if not 1 <= hours <= MAX_HORIZON:
        raise InputError(f"--hours is {hours}", hint=f"write 1 to {MAX_HORIZON}")
    settings = read_settings()
    with opened(settings) as database:
        store = database.store
        store.check_readable()
        chosen = chosen_system(store, system or settings.system)
        issue = newest_issue(store, chosen)
        known = known_station(store, chosen, station)
        zone = ZoneInfo(store.system(chosen).timezone)
        origin = issue.as_of.astimezone(zone).replace(tzinfo=None)
        rows = store.forecast_frame(issue.issue_id).filter(
            (pl.col("station_id") == known) & (pl.col("hour") < origin + timedelta(hours=hours))
        )
        if rows.is_empty():
            raise not_in_table(chosen, known)
        told = rows.sort("hour", "target").to_dicts()
        if explain:
            _explain(store, issue, known, origin, told)
    if as_json:
        print_json(dataclasses.asdict(issue) | {"station_id": known, "hours": told})
    elif explain:
        _print_reasons(known, issue.simulated, told)
    else:
        _print_week(known, issue.simulated, rows)


def _explain(
    store: Store, issue: Issue, station: str, origin: datetime, told: list[dict[str, Any]]
) -> None:
    """Give each row of a forecast its ``explanation``."""
    from bikecast.models.portable import unpack

    inputs, packed = store.inputs(issue.issue_id, station), store.packed_model(issue.issue_id)
    if inputs is None:
        raise InputError(
            "a forecast of an older release cannot be explained",
            hint="issue it anew: `bikecast forecast`",
        )
    if packed is None:
        raise InputError(
            "a forecast by a model of an older release cannot be explained",
            hint="train another: `bikecast train --promote`, then `bikecast forecast`",
        )
    places = [((row["hour"] - origin) // HOUR, TARGETS.index(row["target"])) for row in told]
    means = np.full(inputs.level.shape, np.nan)
    for place, row in zip(places, told, strict=True):
        means[place] = row["mean"]
    hours = np.unique([hour for hour, _ in places])
    found = explain_hours(unpack(packed), inputs, hours, means[hours])
    whys = {hour: dict(why) for hour, why in zip(hours.tolist(), found, strict=True)}
    for (hour, _), row in zip(places, told, strict=True):
        row["explanation"] = whys[hour][row["target"]]


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


def _print_week(station: str, simulated: bool, rows: pl.DataFrame) -> None:
    told = [t for t in TARGETS if t in rows["target"].unique()]
    cells = []
    for (hour,), pair in rows.sort("hour").group_by("hour", maintain_order=True):
        by_target = {r["target"]: r for r in pair.to_dicts()}
        cells.append(
            [f"{hour:%a %d %b %H:%M}"] + [_interval(by_target.get(target)) for target in told]
        )
    if simulated:
        output.print("[yellow]simulated data[/]")
    print_table(f"Station {station}: mean and 80 % interval", ["hour", *told], cells)


def _interval(row: dict[str, Any] | None) -> str:
    return f"{row['mean']:.1f} ({row['q10']:.0f}–{row['q90']:.0f})" if row else "–"
