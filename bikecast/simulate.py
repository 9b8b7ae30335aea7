"""A city that does not exist: commuters, weekends, weather and holidays, from one seed."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bikecast.history import HOUR, public_holidays
from bikecast.records import TARGETS, WEATHER, Station, System

CENTRE = (40.70, -74.02)
PLACES = (
    *("Harbour Square", "Mill Street", "Old Market", "Station North", "Station South", "Park Gate"),
    *("Museum", "Library", "Canal Bridge", "University", "Hospital", "Town Hall", "Theatre"),
    *("Lindenhof", "East Quay", "West Quay", "Brewery", "Stadium", "Observatory", "Botanic Garden"),
    *("Ferry Pier", "Weavers' Row", "Chapel Hill", "Windmill"),
)
SYSTEM = System("simulated-city", "Simulated city", "America/New_York", "US-NY", simulated=True)
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SimulatedCity:
    """A made-up system with everything that a real one is imported from.

    :param panel: ``station_id, hour, pickups, returns``, every hour that exists.
    :param weather: observations as ``read_weather`` gives them.
    """

    system: System
    stations: tuple[Station, ...]
    panel: pl.DataFrame
    weather: pl.DataFrame


def simulate_city(seed: int, end: datetime, days: int = 180, stations: int = 24) -> SimulatedCity:
    """Make a city up; the same arguments make the same city.

    :param end: local midnight after the last day.
    :param stations: up to 24.
    """
    rng = np.random.default_rng(seed)
    hours = [end + (i - days * 24) * HOUR for i in range(days * 24)]
    hour = np.arange(days * 24) % 24
    free = public_holidays(SYSTEM.holidays, [hours[0].year, end.year])
    workday = np.array([h.weekday() < 5 and h.date() not in free for h in hours])
    sky = _sky(rng, hours)
    nice = 1 / (1 + np.exp(-(sky["temperature"] - 8) / 6)) * np.exp(-0.5 * sky["precipitation"])
    homes = rng.uniform(0.05, 0.95, stations)  # share of homes; the rest are offices
    size = rng.lognormal(0.3, 0.5, stations)
    out, back = _day(homes, hour, workday)
    flows = [rng.negative_binomial(3, 3 / (3 + size[:, None] * d * nice)) for d in (out, back)]
    places = _stations(rng, size)
    panel = pl.DataFrame(
        {
            "station_id": np.repeat([s.station_id for s in places], len(hours)),
            "hour": hours * stations,
            **{t: f.reshape(-1) for t, f in zip(TARGETS, flows, strict=True)},
        }
    )
    utc = pl.col("hour").dt.replace_time_zone(
        SYSTEM.timezone, ambiguous="earliest", non_existent="null"
    )
    exists = utc.is_not_null()
    weather = pl.DataFrame({"hour": hours, **sky}).filter(exists)
    weather = weather.with_columns(
        utc.dt.convert_time_zone("UTC"), issued_at=pl.lit(None, pl.Datetime("us", "UTC"))
    ).select("hour", "issued_at", *WEATHER)
    return SimulatedCity(SYSTEM, places, panel.filter(exists), weather)


def _sky(rng: np.random.Generator, hours: list[datetime]) -> dict[str, Array]:
    n = len(hours)
    season = np.array([np.cos(2 * np.pi * (h.timetuple().tm_yday - 200) / 365) for h in hours])
    hour = np.array([h.hour for h in hours])
    front = _drift(rng, n)
    rain = np.maximum(_drift(rng, n) - 1.2, 0) * rng.gamma(1, 2, n)
    cloud = np.clip(50 + 25 * front + 40 * (rain > 0), 0, 100)
    warmth = 12 + 12 * season + 4 * np.cos(2 * np.pi * (hour - 15) / 24) + 3 * _drift(rng, n)
    return {
        "temperature": warmth.round(1),
        "precipitation": rain.round(1),
        "wind_speed": np.abs(12 + 6 * _drift(rng, n)).round(1),
        "cloud_cover": cloud.round(),
        "humidity": np.clip(60 + 10 * front + 20 * (rain > 0), 5, 100).round(),
    }


def _drift(rng: np.random.Generator, n: int) -> Array:
    """Noise that remembers about a day, of variance 1."""
    noise = rng.normal(size=n)
    out = np.empty(n)
    value = 0.0
    for i in range(n):
        value = 0.96 * value + 0.28 * noise[i]
        out[i] = value
    return out


def _day(homes: Array, hour: NDArray[np.int64], workday: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Expected pickups and returns of a station of size 1: [stations, hours]."""

    def peak(at: float, width: float) -> Array:
        bump: Array = np.exp(-0.5 * ((hour - at) / width) ** 2)
        return bump

    leisure = peak(14.5, 4) * np.where(workday, 0.7, 2.0) + 0.03
    to_work, to_home = (np.where(workday, p, 0.05) for p in (peak(8, 1.1), peak(17.5, 1.5)))
    home, office = homes[:, None], 1 - homes[:, None]
    out = 4 * (to_work * home + to_home * office) + leisure
    back = 4 * (to_work * office + to_home * home) + leisure
    return out, back


def _stations(rng: np.random.Generator, size: Array) -> tuple[Station, ...]:
    lat, lon = (c + rng.uniform(-0.02, 0.02, len(size)) for c in CENTRE)
    return tuple(
        Station(
            f"SIM{i + 1:03d}",
            f"Simulated: {PLACES[i]}",
            round(float(lat[i]), 5),
            round(float(lon[i]), 5),
            int(15 + 8 * size[i]),
        )
        for i in range(len(size))
    )
