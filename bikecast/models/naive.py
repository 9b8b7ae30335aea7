"""Forecasts to beat: the same hour of the week, once or averaged."""

from typing import Any, ClassVar

import numpy as np

from bikecast.errors import InputError
from bikecast.features import NAMES, Features, features, level, pairs, weekly_mean
from bikecast.features.groups import GROUPS
from bikecast.history import Floats, History, Ints
from bikecast.models.base import Arrays, Grid, Prediction
from bikecast.models.counts import quantiles, recent_dispersion

DISPERSION_DAYS = 28


def require_days(history: History, days: int, model: str) -> None:
    """Refuse a history that is too short.

    :raises InputError: naming the days that there are and the days that are needed.
    """
    known = history.known // 24
    if known < days:
        raise InputError(
            f"{model} needs {days} days of history, there are {known}",
            hint="import more trips or take a simpler model",
        )


class WeeklyMean:
    """The mean of the known values of the same hour 168, 336, … hours before.

    :param weeks: how many; 1 is the seasonal naive forecast. The value 168 hours before is known
        for every hour of a horizon of a week; behind that, the first is the one 336 hours before.
    """

    name: ClassVar[str] = "mean4w"
    weeks: ClassVar[int] = 4

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"weeks": self.weeks}
        self.alpha: Floats = np.full(2, 0.2, np.float32)

    def fit(self, history: History, grid: Grid) -> None:
        """Measure how far the forecasts of the last four weeks were off; learn nothing else."""
        require_days(history, 7, self.name)
        self.alpha = recent_dispersion(self, history, grid, DISPERSION_DAYS)

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast ``horizon`` hours from each origin."""
        mean = self._mean(history, origins, horizon)
        return Prediction(mean, quantiles(mean, self.alpha))

    def inputs(self, history: History, origins: Ints, horizon: int) -> Features:
        """Features, which it does not look at, and its own forecast as their level."""
        seen = features(history, *pairs(origins, horizon))
        return Features(
            seen.values, self._mean(history, origins, horizon).reshape(seen.level.shape)
        )

    def forecasts(self, values: Floats, level: Floats) -> Prediction:
        """Their level, and how far such forecasts were off."""
        target = values[:, NAMES.index("returns")].astype(int)
        return Prediction(level, quantiles(level, self.alpha[target]))

    def explain(self, values: Floats, level: Floats) -> Floats:
        """Nothing: the forecast is the level."""
        return np.zeros((len(level), len(GROUPS)), np.float32)

    def portable(self) -> Arrays:
        """The dispersion."""
        return {"alpha": self.alpha}

    def restore(self, arrays: Arrays) -> None:
        """Take the dispersion back."""
        self.alpha = arrays["alpha"]

    def _mean(self, history: History, origins: Ints, horizon: int) -> Floats:
        asked = pairs(origins, horizon)
        mean = weekly_mean(history, *asked, self.weeks)
        mean = np.where(np.isnan(mean), level(history, *asked), mean)
        return mean.reshape(len(origins), horizon, *mean.shape[1:])


class SeasonalNaive(WeeklyMean):
    """The value 168 hours before."""

    name: ClassVar[str] = "naive"
    weeks: ClassVar[int] = 1
