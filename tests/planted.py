"""A made-up city whose true rates are known, and forecasters planted in it."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import numpy as np

from bikecast.history import History
from bikecast.models.base import Prediction
from bikecast.models.counts import quantiles
from bikecast.models.naive import WeeklyMean
from bikecast.records import Station, System

NEW_YORK = System("made-up", timezone="America/New_York", holidays="US-NY")
DAYS, STATIONS = 84, 9
START = datetime(2018, 2, 1)
NEARLY_POISSON = np.array([1e-3, 1e-3], np.float32)


def rates():
    """Bikes an hour of every station, hour and target: commuters' peaks, quiet nights."""
    hour = np.arange(DAYS * 24 + 192)
    calendar = History(NEW_YORK, (), START, np.zeros((0, 0, 2), np.float32), 0).calendar(
        0, len(hour)
    )
    peaks = np.exp(-((np.arange(24) - 8) ** 2) / 4) + np.exp(-((np.arange(24) - 18) ** 2) / 8)
    shape = np.where(calendar.workday, peaks[calendar.hour], 0.4 * np.sin(calendar.hour / 7.6))
    shape = np.where(calendar.hour < 6, 0.15 * shape, shape)
    size = np.geomspace(2, 12, STATIONS)
    return (size[:, None, None] * (0.02 + shape)[None, :, None] * [1, 1]).astype(np.float32)


def city(seed=5):
    """Counts around the rates."""
    truth = rates()[:, : DAYS * 24]
    flows = np.random.default_rng(seed).poisson(truth).astype(np.float32)
    places = tuple(Station(f"s{i}", capacity=20 + 3 * i) for i in range(STATIONS))
    history = History(NEW_YORK, places, START, flows, DAYS * 24)
    flows[:, ~history.calendar(0, DAYS * 24).exists] = np.nan
    return history


@dataclass
class Truth:
    """Knows the true rates, which the calendar alone decides."""

    name: ClassVar[str] = "truth"

    def fit(self, history, grid):
        """It knows already."""

    def predict(self, history, origins, horizon):
        """The rates."""
        hours = origins[:, None] + np.arange(horizon)
        return self.around(np.moveaxis(rates()[:, hours], 0, 2).copy(), hours, history)

    def around(self, mean, hours, history):
        """A band around means."""
        return Prediction(mean, quantiles(mean, NEARLY_POISSON))


class Leaky(Truth):
    """Half of it is what will have come."""

    def around(self, mean, hours, history):
        """Looks ahead as far as there is anything."""
        inside = np.minimum(hours, history.flows.shape[1] - 1)
        ahead = np.moveaxis(history.flows[:, inside], 0, 2)
        known = (hours < history.flows.shape[1])[:, :, None, None] & np.isfinite(ahead)
        return super().around(np.where(known, (mean + ahead) / 2, mean), hours, history)


class Constant(Truth):
    """Says the same of every hour."""

    def around(self, mean, hours, history):
        """The mean of all."""
        return super().around(np.full_like(mean, rates().mean()), hours, history)


class RuinousAtNight(Truth):
    """Right by day; three times too much from midnight to six."""

    def around(self, mean, hours, history):
        """Few bikes are picked up then, so that the whole hardly shows it."""
        night = (hours % 24 < 6)[:, :, None, None]
        return super().around(np.where(night, 3 * mean, mean), hours, history)


class NoNumber(Truth):
    """Right but for one station."""

    def around(self, mean, hours, history):
        """NaN for ``s3``."""
        mean[:, :, 3] = np.nan
        return super().around(mean, hours, history)


class Profile(Truth):
    """Learns the mean of each station and hour of the week."""

    def fit(self, history, grid):
        """From what is known."""
        flows = self.targets(history.flows[:, : history.known // 168 * 168])
        self.learned = np.nanmean(flows.reshape(len(flows), -1, 168, 2), axis=1)

    def targets(self, flows):
        """As they came."""
        return flows

    def around(self, mean, hours, history):
        """The profile."""
        own = np.moveaxis(self.learned[:, hours % 168], 0, 2)
        return super().around(own.astype(np.float32), hours, history)


class Shuffled(Profile):
    """Learned from targets that somebody had put out of order."""

    def targets(self, flows):
        """The hours of all stations, shuffled."""
        return np.random.default_rng(3).permuted(flows, axis=1)


class Equal(WeeklyMean):
    """The champion once more."""
