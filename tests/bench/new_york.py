"""The New York panels, and the days on which parameters may be chosen."""

import os
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from bikecast.history import History, build_history, build_weather
from bikecast.panels import read_stations
from bikecast.records import System
from bikecast.weather import read_weather

REFERENCE = datetime(2018, 7, 16)
"""The first of the days on which results are reported: nothing is chosen on it, or later."""
SYSTEM = System("new-york", timezone="America/New_York", holidays="US-NY")
PANELS = {
    "long": "nyc30_long_2017-01_2018-10-07.parquet",
    "published": "nyc30_published_2018-01_2018-10-07.parquet",
}
WEATHER = "weather/open_meteo_nyc_hourly_utc_2016_2022.csv.gz"


def data_folder() -> Path:
    """Where the real data lie; the project does not contain them."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("BIKECAST_SHARED_DATA", default))
    if not folder.is_dir():
        raise SystemExit(f"no real data in {folder}: set BIKECAST_SHARED_DATA")
    return folder


def before_reference(until: datetime = REFERENCE) -> History:
    """The long panel up to a moment that is not after ``REFERENCE``.

    The filter goes down into the reading of the file, so that no later row is ever loaded.

    :raises ValueError: for a later moment.
    """
    if until > REFERENCE:
        raise ValueError(f"{until:%Y-%m-%d} lies behind {REFERENCE:%Y-%m-%d}: choose nothing there")
    panel = pl.scan_parquet(data_folder() / "panel" / PANELS["long"])
    return _history(panel.filter(pl.col("hour") < until).collect())


def whole(name: str) -> History:
    """A panel with the days on which results are reported."""
    return _history(pl.read_parquet(data_folder() / "panel" / PANELS[name]))


def with_weather(history: History) -> History:
    """The same with the weather that was observed in its hours: hindsight."""
    end = history.hour(history.flows.shape[1])
    skipped: Counter[str] = Counter()
    sky, _ = read_weather(data_folder() / WEATHER, SYSTEM.timezone, end, skipped)
    hours = history.flows.shape[1]
    return replace(
        history, weather=build_weather(sky, SYSTEM, history.start, hours, hindsight=True)
    )


def _history(frame: pl.DataFrame) -> History:
    stations, _ = read_stations(data_folder() / "panel" / "nyc30_stations.csv", Counter())
    return build_history(frame, SYSTEM, stations)
