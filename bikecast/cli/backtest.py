"""``bikecast backtest``: hold models against the past of a panel."""

import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from bikecast.collect import latest_now
from bikecast.cli.terminal import Steps, errors, print_json, print_table
from bikecast.errors import BikecastError, InputError, UnknownName
from bikecast.gbfs import read_status
from bikecast.history import History, build_history, build_weather, censored_hours, check_zone
from bikecast.panels import read_panel, read_stations
from bikecast.records import MAX_HORIZON, System
from bikecast.weather import read_weather

DEFAULT_MODEL = "ensemble"
# Score → (heading, how it is written).
SHOWN = {
    **{name: (name, "{:.3f}") for name in ("mae", "rmse", "wape", "mase", "pinball")},
    "coverage_80": ("cover 80", "{:.3f}"),
    "net_flow_mae": ("net flow", "{:.3f}"),
    "failed_trips": ("failed", "{:,.0f}"),
    "skill": ("skill", "{:.3f}"),
}


class WeatherMode(StrEnum):
    """What a weather file is to a backtest."""

    OBSERVED = "observed"
    FORECAST = "forecast"


def backtest(
    panel: Annotated[Path, typer.Argument(help="Panel: parquet or csv.", show_default=False)],
    start: Annotated[str, typer.Option(help="First day, as in 2018-07-16.", show_default=False)],
    stations: Annotated[Path | None, typer.Option(help="Stations file: place, capacity.")] = None,
    status: Annotated[
        Path | None,
        typer.Option(help="Station status: hours without a bike or dock are not learned."),
    ] = None,
    weather: Annotated[Path | None, typer.Option(help="Hourly weather file.")] = None,
    weather_mode: Annotated[
        WeatherMode, typer.Option(help="observed stands for a forecast and marks hindsight.")
    ] = WeatherMode.OBSERVED,
    timezone: Annotated[
        str, typer.Option(help="Time zone of the panel, as in America/New_York.")
    ] = "UTC",
    holidays: Annotated[str, typer.Option(help="Holiday calendar, as in US-NY.")] = "",
    days: Annotated[int, typer.Option(help="Length of the window.", min=1)] = 28,
    horizon: Annotated[int, typer.Option(help="Hours ahead, 1 to 168.")] = 24,
    every: Annotated[str, typer.Option(help="Step of the origins, as in 24h or 1h.")] = "24h",
    refit_days: Annotated[int, typer.Option(help="Days between two fits.", min=1)] = 28,
    model: Annotated[
        list[str] | None, typer.Option(help="Model; may be repeated; all for every one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions: parquet.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Write the scores: json.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with scores and pictures: html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Forecast a window of the past from what was known, and score it.

    Example: bikecast backtest panel.parquet --start 2018-07-16 --days 84 --model all
    """
    if not 1 <= horizon <= MAX_HORIZON:
        raise InputError(f"--horizon is {horizon}", hint=f"write 1 to {MAX_HORIZON}")
    began, step_hours = _day(start), _hours(every)
    for option, path in (("--out", out), ("--scores", scores), ("--report", report)):
        if path and not path.parent.is_dir():
            raise InputError(f"{option}: no folder {path.parent}", hint="make it first")
    check_zone(timezone)
    steps = Steps()
    with steps.step("read the panel") as step:
        system = System("backtest", timezone=timezone, holidays=holidays)
        history = _history(panel, stations, status, weather, weather_mode, system)
        step.result(f"{len(history.stations)} stations until {history.as_of:%Y-%m-%d}")
    from bikecast.evaluation import backtest as run
    from bikecast.evaluation import remarks, score_models
    from bikecast.models import MODELS
    from bikecast.models.base import Grid

    frames, seconds = [], {}
    refused: dict[str, InputError] = {}
    for name in _models(model or [DEFAULT_MODEL], list(MODELS)):
        started = time.monotonic()
        try:
            with steps.step(f"backtest of {name}") as step:
                frame = run(
                    history,
                    MODELS[name],
                    start=began,
                    days=days,
                    grid=Grid(horizon, step_hours),
                    refit_days=refit_days,
                    on_progress=lambda done, total: step.progress(done, total),
                )
        except InputError as error:
            refused[name] = error
            continue
        seconds[name] = round(time.monotonic() - started, 1)
        frames.append(frame.select(pl.lit(name).alias("model"), pl.all()))
    if not frames:
        raise _none_can_run(refused)
    left_out = {name: str(error) for name, error in refused.items()}
    for name, reason in left_out.items():
        errors.print(f"[yellow]left out:[/] {name}: {escape(reason)}", highlight=False)
    predictions = pl.concat(frames)
    for what, n in remarks(history, began, days).items():
        errors.print(f"[yellow]noted:[/] {what}: {n:,}", highlight=False)
    with steps.step("score"):
        found = score_models(predictions, history)
    for name, took in seconds.items():
        found[name]["seconds"] = took
    document = {
        "window": {"start": start, "days": days, "horizon": horizon, "every": every},
        "models": found,
        "left_out": left_out,
    }
    _write(predictions, document, out, scores)
    if report:
        from bikecast.evaluation.report import report_html

        with steps.step("report"), _writing():
            report.write_text(report_html(document, predictions, history), encoding="utf-8")
    _print(document, as_json)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError as error:
        raise InputError(
            f"--start is {text!r}, which is no date", hint="write it as in 2018-07-16"
        ) from error


def _hours(text: str) -> int:
    """The hours of ``24h``.

    >>> _hours("24h")
    24
    """
    found = re.fullmatch(r"([1-9]\d*)h", text)
    if not found:
        raise InputError(f"--every is {text!r}", hint="write it as in 24h or 1h")
    return int(found[1])


def _models(asked: list[str], known: list[str]) -> list[str]:
    names = known if "all" in asked else list(dict.fromkeys(asked))
    for name in names:
        if name not in known:
            raise UnknownName(f"no model {name!r}", hint=f"choose of {', '.join(known)}, all")
    return names


def _none_can_run(refused: dict[str, InputError]) -> InputError:
    """What to say where every model refuses; where they say the same, it is said once."""
    reasons = {str(error): error for error in refused.values()}
    if len(reasons) == 1:
        return next(iter(reasons.values()))
    said = "; ".join(error.what for error in reasons.values())
    return InputError(f"no model can run: {said}", hint="give a longer panel, or a later --start")


def _history(
    panel: Path,
    stations: Path | None,
    status: Path | None,
    weather: Path | None,
    mode: WeatherMode,
    system: System,
) -> History:
    skipped: Counter[str] = Counter()
    latest = latest_now(system.timezone)
    frame, _ = read_panel(panel, latest, skipped)
    places = read_stations(stations, skipped)[0] if stations else ()
    history = build_history(frame, system, places)
    if status:
        told = read_status(status, system.timezone, skipped)
        strangers = told.filter(~pl.col("station_id").is_in(list(history.position)))["station_id"]
        if len(strangers):
            skipped["stations with a status that the panel does not have"] += strangers.n_unique()
        history = replace(history, censored=censored_hours(told, history))
    if weather:
        sky, _ = read_weather(weather, system.timezone, latest, skipped)
        observed = pl.col("issued_at").is_null()
        sky = sky.filter(observed if mode is WeatherMode.OBSERVED else ~observed)
        if sky.is_empty():
            raise InputError(
                f"{weather} has no {mode} weather",
                hint="a forecast has a column issued_at, an observation has none",
            )
        archive = build_weather(
            sky,
            system,
            history.start,
            history.known + MAX_HORIZON,
            hindsight=mode is WeatherMode.OBSERVED,
        )
        history = replace(history, weather=archive)
    for reason, n in sorted(skipped.items()):
        errors.print(f"[yellow]skipped:[/] {n:,} {reason}", highlight=False)
    return history


def _write(
    predictions: pl.DataFrame, document: dict[str, Any], out: Path | None, scores: Path | None
) -> None:
    import json

    with _writing():
        if out:
            predictions.write_parquet(out)
        if scores:
            scores.write_text(json.dumps(document, indent=2))


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BikecastError(
            f"cannot write the results: {error}", hint="choose another path"
        ) from error


def _print(document: dict[str, Any], as_json: bool) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    gigabytes = memory / (2**30 if sys.platform == "darwin" else 2**20)
    if as_json:
        print_json(document)
    else:
        rows = [
            [name]
            + [
                form.format(s["overall"][k]) if k in s["overall"] else "–"
                for k, (_, form) in SHOWN.items()
            ]
            + [f"{s['calibration']['largest_miss']:.3f}"]
            + [f"{s['overall']['n']:,}", f"{s['seconds']:.1f}"]
            for name, s in document["models"].items()
        ]
        window = document["window"]
        title = f"{window['days']} days from {window['start']}, {window['horizon']} h ahead"
        headings = [heading for heading, _ in SHOWN.values()]
        print_table(title, ["model", *headings, "miss", "n", "seconds"], rows)
    errors.print(f"peak memory {gigabytes:.2f} GB", highlight=False)
