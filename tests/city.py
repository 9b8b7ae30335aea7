"""Small files of a made-up city, and a forecast of it: what the tests of the store bring in."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bikecast.features import NAMES
from bikecast.features.inputs import Inputs
from bikecast.records import FORECAST_COLUMNS, System

CITY = System("city", "A city", "America/New_York", "US-NY")
HEADER = (
    "ride_id,rideable_type,started_at,ended_at,start_station_name,start_station_id,"
    "end_station_name,end_station_id,start_lat,start_lng,end_lat,end_lng,member_casual"
)
LEGACY = (
    "tripduration,starttime,stoptime,start station id,start station name,start station latitude,"
    "start station longitude,end station id,end station name,end station latitude,"
    "end station longitude,bikeid,usertype,birth year,gender"
)
PLACES = {
    "First St": "40.71,-74.01",
    "New Name": "40.7105,-74.01",  # 55 m from First St
    "Second St": "40.72,-74.02",
    "Far Rd": "40.80,-74.10",
}


def ride(n, start, a="A1", b="B2", a_name="First St", b_name="Second St"):
    """A ride of ten minutes."""
    end = start + timedelta(minutes=10)
    ends = f"{a_name},{a},{b_name},{b},{PLACES[a_name]},{PLACES[b_name]}"
    return f"R{n},classic_bike,{start},{end},{ends},member"


def old_ride(n, start, a="72", a_name="First St"):
    """A ride of the legacy schema, to Second St."""
    end = start + timedelta(minutes=10)
    ends = f"{a},{a_name},{PLACES[a_name]},79,Second St,{PLACES['Second St']}"
    return f"600,{start},{end},{ends},{n},Subscriber,1980,1"


def write(path: Path, header, rides) -> Path:
    """A trip file."""
    path.write_text("\n".join([header, *rides, ""]))
    return path


def given(folder: Path, *lines) -> Path:
    """A stations file."""
    return write(folder / "stations.csv", "station_id,name,lat,lon,capacity", lines)


def hourly_panel(folder: Path, station, first, hours, pickups) -> Path:
    """A panel file of one station with the same pickups and one return every hour."""
    lines = [f"{station},{first + timedelta(hours=h)},{pickups},1" for h in range(hours)]
    return write(
        folder / f"panel-{station}-{pickups}.csv", "station_id,hour,pickups,returns", lines
    )


def frame(*stations):
    """A forecast frame of one hour."""
    rows = [
        (s, datetime(2021, 5, 1), t, *[1.0] * 8) for s in stations for t in ("pickups", "returns")
    ]
    return pl.DataFrame(rows, schema=list(FORECAST_COLUMNS), orient="row")


def seen(*stations):
    """What a model saw of an hour of each station: all features are the station's place here."""
    shape = (1, 2, len(NAMES))
    return {
        s: Inputs(NAMES, np.full(shape, i, np.float32), np.ones((1, 2), np.float32))
        for i, s in enumerate(stations)
    }
