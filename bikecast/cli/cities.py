"""Where the demo's data come from: given files, the published months, or a simulated city."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

from bikecast import collect
from bikecast.cli.data import founding_store, reasons
from bikecast.cli.terminal import Steps, errors
from bikecast.config import Settings
from bikecast.errors import DownloadFailed
from bikecast.records import ImportReport, System
from bikecast.simulate import SimulatedCity, simulate_city
from bikecast.store import Store
from bikecast.trips import TripClient
from bikecast.weather import fetch_weather

JERSEY_CITY = System("citibike-jc", "Citi Bike Jersey City", "America/New_York", "US-NJ")
MONTHS = 6
SEED = 2024
OPEN_METEO = {
    "temperature": "temperature_2m (°C)",
    "precipitation": "precipitation (mm)",
    "wind_speed": "wind_speed_10m (km/h)",
    "cloud_cover": "cloud_cover (%)",
    "humidity": "relative_humidity_2m (%)",
}
LAG = timedelta(days=7)  # Open-Meteo's archive runs about five days behind.


Import = Callable[..., list[ImportReport]]


def local_city(store: Store, steps: Steps, trips: list[Path], weather: Path | None) -> System:
    """The files that the user gave, as Jersey City's."""
    store = founding_store(store, JERSEY_CITY)
    _import(steps, "import trips", collect.import_trips, store, JERSEY_CITY, trips)
    if weather:
        _import(steps, "import weather", collect.import_weather, store, JERSEY_CITY, [weather])
    return JERSEY_CITY


def published_city(store: Store, steps: Steps, settings: Settings, today: date) -> System:
    """The latest published months of Citi Bike Jersey City, and the weather of their days.

    :raises DownloadFailed: where the trips cannot be fetched.
    """
    cache = settings.data_dir / "downloads"
    with httpx.Client(follow_redirects=True) as http:
        paths = _download_trips(TripClient(http, settings.trips_url, cache), steps, today)
        store = founding_store(store, JERSEY_CITY)
        _import(steps, "import trips", collect.import_trips, store, JERSEY_CITY, paths)
        try:
            _weather_of_its_days(store, steps, settings, http, today)
        except DownloadFailed as error:
            # Models are trained to do without weather.
            errors.print(f"[yellow]without weather:[/] {error}")
    return JERSEY_CITY


def _download_trips(client: TripClient, steps: Steps, today: date) -> list[Path]:
    with steps.step("look for published months") as step:
        urls = client.newest(today, MONTHS)
        step.result(f"{len(urls)} found")
    paths = []
    for url in urls:
        with steps.step(f"download {url.rsplit('/', 1)[-1]}") as step:
            paths.append(client.download(url, step.progress))
    return paths


def _weather_of_its_days(
    store: Store, steps: Steps, settings: Settings, http: httpx.Client, today: date
) -> None:
    days = store.coverage(JERSEY_CITY.system_id)
    places = [s for s in store.stations(JERSEY_CITY.system_id) if s.lat is not None]
    lat = sum(s.lat or 0 for s in places) / len(places)
    lon = sum(s.lon or 0 for s in places) / len(places)
    first, last = days[0][0], min(days[-1][1], today - LAG)
    path = settings.data_dir / "downloads" / f"weather-{first}-{last}.csv"
    if not path.exists():
        with steps.step("download weather"):
            text = fetch_weather(http, settings.weather_url, lat, lon, first, last)
            part = path.with_suffix(".part")
            part.write_text(text)
            part.replace(path)
    _import(steps, "import weather", collect.import_weather, store, JERSEY_CITY, [path])


def simulated(store: Store, steps: Steps, settings: Settings, today: date) -> System:
    """A made-up city up to last midnight, through the same files and imports as a real one."""
    folder = settings.data_dir / "simulated"
    known = [s for s in store.systems() if s.simulated and store.coverage(s.system_id)]
    if known:
        return known[0]
    with steps.step("simulate a city") as step:
        city = simulate_city(SEED, datetime(today.year, today.month, today.day))
        files = _write(city, folder)
        store = founding_store(store, city.system)
        step.result(f"{len(city.stations)} stations")
    for kind, verb in (
        ("stations", collect.import_stations),
        ("weather", collect.import_weather),
        # The last, because a city with hours is one that is whole.
        ("panel", collect.import_panel),
    ):
        _import(steps, f"import {kind}", verb, store, city.system, [files[kind]])
    return city.system


def _write(city: SimulatedCity, folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "stations": folder / "stations.csv",
        "panel": folder / "panel.parquet",
        "weather": folder / "weather.csv",
    }
    pl.DataFrame([dataclasses.asdict(s) for s in city.stations]).write_csv(files["stations"])
    city.panel.write_parquet(files["panel"])
    time = pl.col("hour").dt.strftime("%Y-%m-%dT%H:%M").alias("time")
    city.weather.select(time, *(pl.col(ours).alias(n) for ours, n in OPEN_METEO.items())).write_csv(
        files["weather"]
    )
    return files


def _import(
    steps: Steps, what: str, verb: Import, store: Store, system: System, paths: list[Path]
) -> None:
    with steps.step(what) as step:
        reports = verb(store, system.system_id, paths, progress=step.progress)
        used = sum(r.rows_used for r in reports)
        again = sum(r.already_imported for r in reports)
        step.result(f"{used:,} rows" + (f", {again} imported before" if again else ""))
    fresh = [r for r in reports if not r.already_imported]
    for what, counts in (
        ("skipped", [r.skipped for r in fresh]),
        ("noted", [r.notes for r in fresh]),
    ):
        if total := sum(map(Counter, counts), Counter[str]()):
            errors.print(f"  [dim]{what}: {reasons(total)}[/]", highlight=False)
