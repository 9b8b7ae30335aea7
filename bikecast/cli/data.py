"""``bikecast db`` and ``bikecast import``: the database and what goes in."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from bikecast import collect
from bikecast.cli.open import opened
from bikecast.cli.terminal import Steps, output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError
from bikecast.history import check_zone, public_holidays
from bikecast.records import ImportReport, System
from bikecast.store import Store

db = typer.Typer(no_args_is_help=True, help="The database: migrate it, look at it, find it.")
imports = typer.Typer(no_args_is_help=True, help="Bring files in; importing one twice is harmless.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Paths = Annotated[list[Path], typer.Argument(help="Files or folders.", show_default=False)]
SystemId = Annotated[
    str,
    typer.Option(
        "--system",
        help="The system (city), as in citibike-jc: letters, digits, dot, hyphen, underscore.",
        show_default=False,
    ),
]
Timezone = Annotated[
    str,
    typer.Option(help="Its time zone; needed the first time, as in America/New_York."),
]
Holidays = Annotated[str, typer.Option(help="Its holiday calendar, as in US-NJ; empty for none.")]


@db.command(epilog="Example: bikecast db upgrade")
def upgrade() -> None:
    """Bring the schema up to this release's."""
    with opened(read_settings()) as database:
        database.store.upgrade()
        output.print(f"schema {database.store.status().schema}")


@db.command(epilog="Example: bikecast db status --json")
def status(as_json: Json = False) -> None:
    """Say which schema the database has and what is pending."""
    with opened(read_settings()) as database:
        found = dataclasses.asdict(database.store.status())
    if as_json:
        print_json(found)
    else:
        print_table("Schema", ["", ""], [[k, str(v)] for k, v in found.items()])


@db.command(epilog='Example: psql "$(bikecast db url)"')
def url() -> None:
    """Print the database's URL as libpq writes it; the embedded one lives while bikecast runs."""
    with opened(read_settings()) as database:
        typer.echo(database.url.replace("postgresql+psycopg2://", "postgresql://", 1))


@imports.command(epilog="Example: bikecast import trips JC-202104.csv.zip --system citibike-jc")
def trips(
    paths: Paths,
    system: SystemId,
    timezone: Timezone = "",
    holidays: Holidays = "",
    as_json: Json = False,
) -> None:
    """Bring in trip files: csv, gz or zip, in any schema of the Lyft-run systems."""
    _bring_in(collect.import_trips, paths, System(system, "", timezone, holidays), as_json)


@imports.command(epilog="Example: bikecast import weather open-meteo.csv --system citibike-jc")
def weather(
    paths: Paths,
    system: SystemId,
    timezone: Timezone = "",
    holidays: Holidays = "",
    as_json: Json = False,
) -> None:
    """Bring in hourly weather: Open-Meteo (UTC) or Visual Crossing (local, metric)."""
    _bring_in(collect.import_weather, paths, System(system, "", timezone, holidays), as_json)


@imports.command(epilog="Example: bikecast import panel hours.parquet --system nyc")
def panel(
    paths: Paths,
    system: SystemId,
    timezone: Timezone = "",
    holidays: Holidays = "",
    as_json: Json = False,
) -> None:
    """Bring in hourly pickups and returns per station: parquet or csv."""
    _bring_in(collect.import_panel, paths, System(system, "", timezone, holidays), as_json)


@imports.command(epilog="Example: bikecast import stations stations.csv --system nyc")
def stations(
    paths: Paths,
    system: SystemId,
    timezone: Timezone = "",
    holidays: Holidays = "",
    as_json: Json = False,
) -> None:
    """Bring in names, places and capacities of stations: csv."""
    _bring_in(collect.import_stations, paths, System(system, "", timezone, holidays), as_json)


Import = Callable[..., list[ImportReport]]


def _bring_in(verb: Import, paths: list[Path], system: System, as_json: bool) -> None:
    steps, reports = Steps(), list[ImportReport]()
    try:
        with opened(read_settings()) as database:
            database.store.upgrade()
            store = founding_store(database.store, system)
            with steps.step(f"import {len(paths)} path(s)") as step:
                verb(
                    store,
                    system.system_id,
                    paths,
                    progress=step.progress,
                    on_report=reports.append,
                )
    finally:
        # What is in is said also where a later file is refused, or the command stopped.
        if reports and as_json:
            print_json([dataclasses.asdict(r) for r in reports])
        elif reports:
            print_reports(reports)


SYSTEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def founding_store(store: Store, system: System) -> Store:
    """The store for a system's imports; the first that is kept makes the system known.

    :raises InputError: for an id that is none, for a new system without a time zone, or another
        one than it has.
    """
    if not SYSTEM_ID.fullmatch(system.system_id):
        raise InputError(
            f"--system is {system.system_id!r}",
            hint="write up to 63 letters, digits, dots, hyphens and underscores, "
            "a letter or digit first, as in citibike-jc",
        )
    known = {s.system_id: s for s in store.systems()}.get(system.system_id)
    if known is None and not system.timezone:
        raise InputError(
            f"system {system.system_id!r} is new and its time zone is not known",
            hint="add --timezone, as in --timezone America/New_York",
        )
    if known is not None:
        given = {k: v for k, v in dataclasses.asdict(system).items() if v}
        system = dataclasses.replace(known, **given)
    check_zone(system.timezone)
    public_holidays(system.holidays, [])
    if known is not None and store.has_imports(known.system_id):
        _check_same(system, known)
    return store.founding(system)


def _check_same(system: System, known: System) -> None:
    for name in ("timezone", "holidays"):
        if getattr(system, name) != getattr(known, name):
            raise InputError(
                f"system {system.system_id!r} has {name} {getattr(known, name)!r}, "
                f"not {getattr(system, name)!r}",
                hint=f"leave --{name} out, or use another --system",
            )


def print_reports(reports: list[ImportReport]) -> None:
    """What became of each file: rows, and why some could not be used."""
    rows = [
        [
            Path(r.file).name,
            f"{r.rows_read:,}",
            f"{r.rows_used:,}",
            "imported before" if r.already_imported else reasons(r.skipped),
            reasons(r.notes),
        ]
        for r in reports
    ]
    print_table("Imported", ["file", "rows", "used", "skipped", "noted"], rows)


def reasons(counts: Mapping[str, int]) -> str:
    """Counts in words, as in ``12 negative duration, 3 no ride id``."""
    return ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())) or "–"
