"""``bikecast demo``: from nothing to a service that forecasts, step by step."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import httpx
import polars as pl
import typer

from bikecast.cli.models import issue_now, train_steps
from bikecast.cli.open import Opened, opened
from bikecast.cli.terminal import Steps, errors, output, print_json
from bikecast.config import Settings, read_settings
from bikecast.errors import DownloadFailed, InputError, OtherRelease, Unavailable
from bikecast.records import Issue, System
from bikecast.store import Store

READY_WITHIN = 60  # seconds


def demo(
    trips: Annotated[
        list[Path] | None,
        typer.Option(help="Trip file or folder instead of the download; may be repeated."),
    ] = None,
    weather: Annotated[
        Path | None, typer.Option(help="Hourly weather file that goes with --trips.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the database, downloads and models live.")
    ] = None,
    bind: Annotated[str, typer.Option(help="Address and port, as in 127.0.0.1:8000.")] = "",
    once: Annotated[
        bool, typer.Option("--once", help="Make one prediction over HTTP, print it and stop.")
    ] = False,
) -> None:
    """From nothing to forecasts over HTTP: database, data, models, gate, service.

    Without --trips it downloads the latest months of Citi Bike Jersey City; where the network
    cannot be reached it makes up a city and says so. A second run reuses what is there.

    Example: bikecast demo --trips trips/ --weather open-meteo.csv
    """
    if weather and not trips:
        raise InputError("--weather goes with --trips", hint="name the trip files as well")
    settings = read_settings()
    settings = dataclasses.replace(
        settings, data_dir=data_dir or settings.data_dir, bind=bind or settings.bind
    )
    # Here and below: other commands, which import this module too, do not wait for all of it.
    from bikecast.serve.server import listen

    listen(settings.bind).close()
    steps = Steps()
    with _database(settings, steps) as database:
        with steps.step("migrate the database"):
            database.store.upgrade()
        system = _data(database, steps, trips or [], weather)
        database = _with_model_name(database, system)
        _model(database, steps, system)
        try:
            issue = _table(database, steps, system)
        except OtherRelease as error:  # a folder is kept while bikecast is installed anew
            errors.print(error.what, markup=False, highlight=False)
            _train(database, steps, system)
            issue = _table(database, steps, system)
        with _service(database, steps, system) as url:
            station = _busiest(database.store, issue)
            if once:
                print_json(_ask(url, station))
            else:
                _welcome(url, station, issue)
                signal.pause()


@contextmanager
def _database(settings: Settings, steps: Steps) -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:
        with steps.step("start PostgreSQL") as step:
            database = stack.enter_context(opened(settings, share=False))
            step.result("of the settings" if settings.database_url else "embedded")
        yield database


def _data(database: Opened, steps: Steps, trips: list[Path], weather: Path | None) -> System:
    from bikecast.cli.cities import local_city, published_city, simulated

    store, settings = database.store, database.settings
    if trips:
        return local_city(store, steps, trips, weather)
    try:
        return published_city(store, steps, settings, date.today())
    except DownloadFailed as error:
        errors.print(
            f"[yellow]{error.what}[/]\n"
            "[yellow]The network cannot be reached: a simulated city takes the place of a real "
            "one.[/] Every answer says so.",
            highlight=False,
        )
        return simulated(store, steps, settings, date.today())


def _with_model_name(database: Opened, system: System) -> Opened:
    """A made-up city's models must never stand among a real one's."""
    if not system.simulated:
        return database
    name = f"{database.settings.model_name}-simulated"
    return dataclasses.replace(
        database, settings=dataclasses.replace(database.settings, model_name=name)
    )


def _model(database: Opened, steps: Steps, system: System) -> None:
    with steps.step("open the model registry"):
        from bikecast.train import is_trained

        done = is_trained(database.store, database.registry, system.system_id)
    if not done:
        _train(database, steps, system)


def _train(database: Opened, steps: Steps, system: System) -> None:
    from bikecast.promote import promote

    version = train_steps(database, system.system_id, steps, quick=True)
    with steps.step("gate and promotion") as step:
        verdict = promote(database.production, version.version)
        step.result(f"version {version.version} is in production")
    for check in verdict.checks:
        if "gain" in check.figures:
            errors.print(f"  [dim]{check.name} {check.detail}[/]", highlight=False)


def _table(database: Opened, steps: Steps, system: System) -> Issue:
    with steps.step("forecast table") as step:
        issue = issue_now(database, system.system_id)
        local = issue.as_of.astimezone(ZoneInfo(system.timezone))
        issue = dataclasses.replace(issue, as_of=local)
        step.result(f"from data up to {local:%Y-%m-%d %H:%M}")
    return issue


def _busiest(store: Store, issue: Issue) -> str:
    """The station with the most rides ahead makes the best example."""
    frame = store.forecast_frame(issue.issue_id)
    total = frame.group_by("station_id").agg(pl.col("mean").sum()).sort("mean", "station_id")
    return str(total["station_id"][-1])


@contextmanager
def _service(database: Opened, steps: Steps, system: System) -> Iterator[str]:
    """The service as a process of its own, ready to answer; stopped on exit."""
    settings = database.settings
    log = settings.data_dir / "service.log"
    environment = os.environ | {
        "BIKECAST_DATABASE_URL": database.url,
        "BIKECAST_SYSTEM": system.system_id,
        "BIKECAST_BIND": settings.bind,
        "BIKECAST_DATA_DIR": str(settings.data_dir),
        "BIKECAST_MODEL_NAME": settings.model_name,
    }
    url = f"http://{settings.bind}"
    with log.open("w") as out:
        # Our own interpreter and package, and fixed words.
        process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "bikecast", "serve"], env=environment, stdout=out, stderr=out
        )
    try:
        with steps.step("start the service"):
            _wait_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            ready = httpx.get(f"{url}/ready", timeout=5)
            # Until the new forecast is in use it may answer from that of an earlier demo.
            if ready.status_code == 200 and all("stale" in r for r in ready.json()["reasons"]):
                return
        time.sleep(0.1)
    last = " ".join(log.read_text().split("\n")[-6:])
    raise Unavailable(f"the service does not answer on {url}: {last}", hint=f"read {log}")


def _ask(url: str, station: str) -> Any:
    answer = httpx.post(f"{url}/predict", json={"station_id": station}, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _welcome(url: str, station: str, issue: Issue) -> None:
    simulated_note = " — [yellow]simulated data[/]" if issue.simulated else ""
    output.print(
        f"\nForecasts on [bold]{url}[/] from data up to {issue.as_of:%Y-%m-%d %H:%M}, "
        f"{issue.model} version {issue.model_version}{simulated_note}.\nCtrl-C stops.\n",
        highlight=False,
    )
    body = json.dumps({"station_id": station})
    for line in (
        f"curl {url}/stations",
        f"curl '{url}/stations/{station}/forecast?hours=24'",
        f"curl -X POST {url}/predict -H 'Content-Type: application/json' -d '{body}'",
    ):
        print(f"  {line}")
