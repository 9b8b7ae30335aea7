"""Small made-up histories for the tests of features and models."""

from dataclasses import replace
from datetime import datetime

import numpy as np

from bikecast.history import History, WeatherArchive
from bikecast.records import WEATHER, Station, System

NEW_YORK = System("made-up", timezone="America/New_York", holidays="US-NY")


def small_history(days: int = 60, stations: int = 3, start: datetime = datetime(2018, 2, 1)):
    """A city with commuters' peaks on working days and noise; the last day ends at noon.

    The first station has no unknown hour but the one that does not exist, the second begins after
    ten days, and the third lacks a week.
    """
    rng = np.random.default_rng(5)
    known = days * 24 - 12
    places = tuple(Station(f"s{i}", capacity=20 + i if i else None) for i in range(stations))
    flows = np.full((stations, days * 24, 2), np.nan, np.float32)
    history = History(NEW_YORK, places, start, flows, known)
    calendar = history.calendar(0, days * 24)
    peaks = np.exp(-((np.arange(24) - 8) ** 2) / 4) + np.exp(-((np.arange(24) - 18) ** 2) / 8)
    shape = np.where(calendar.workday, peaks[calendar.hour], 0.4 * np.sin(calendar.hour / 7.6))
    mean = np.linspace(2, 12, stations)[:, None, None] * (0.1 + shape)[None, :, None]
    flows[:] = rng.poisson(np.broadcast_to(mean, flows.shape))
    flows[1, : 10 * 24] = np.nan
    flows[2, 20 * 24 : 27 * 24] = np.nan
    flows[:, ~calendar.exists] = np.nan
    flows[:, known:] = np.nan
    return history


def with_weather(history: History, ahead: int = 168) -> History:
    """The same with a weather forecast issued every noon for the rest of the grid and a week.

    :param ahead: hours behind the grid that are forecast.
    """
    rng = np.random.default_rng(6)
    hours = history.flows.shape[1] + ahead
    truth = 12 + 8 * rng.standard_normal((hours, len(WEATHER)))
    vintages = []
    for issued in range(12, hours - ahead, 24):
        values = truth + rng.standard_normal(truth.shape)
        values[:issued] = np.nan
        vintages.append((issued, values.astype(np.float32)))
    return replace(history, weather=WeatherArchive(tuple(vintages)))


def mutated_after(history: History, origin: int) -> History:
    """The same history with everything that was not known at ``origin`` replaced by nonsense."""
    rng = np.random.default_rng(7)
    flows = history.flows.copy()
    flows[:, origin:] = rng.choice([0, 9999, np.nan], flows[:, origin:].shape)
    weather = history.weather
    if weather is not None:
        vintages = tuple(
            (since, np.full_like(values, 9999) if since > origin else values)
            for since, values in weather.vintages
        )
        weather = replace(weather, vintages=vintages)
    return replace(history, flows=flows, weather=weather)
