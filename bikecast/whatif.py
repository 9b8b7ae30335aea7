"""A forecast asked anew: the hour as it was seen when the table was made, but with other weather.

The weather that is given is that of one hour. What was known of it, and of the weather of all other
hours, stays as it was: the features of the weather are made of both together, by the code that
made those of the table. What nobody knows stays unknown, and the means of a day are those of the
hours that are known.

What was done to the forecast behind the model, as it was reconciled with those of its day, is done
to this one as well: with the weather that the table was made with, it is the table's forecast.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bikecast.errors import InputError, NotLearned
from bikecast.explanation import LAST_DECIMAL
from bikecast.features import NAMES
from bikecast.features.inputs import Inputs
from bikecast.features.sky import Sky
from bikecast.history import Floats
from bikecast.models.base import Askable, Explainable, Prediction, UnderSky
from bikecast.records import WEATHER

NEEDED = ("temperature", "precipitation")
"""Without both, a model takes an hour for one without weather."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model saw of a station, ready to be asked.

    :param rows: an hour's targets, hour after hour.
    :param balance: what the model's means were multiplied by to be the forecast, [hours, targets].
    """

    rows: UnderSky
    balance: Floats
    sky: Sky

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = self.balance, self.sky.hourly, self.sky.usual
        return self.rows.nbytes + sum(array.nbytes for array in arrays)


def asks_weather(model: Explainable) -> Askable:
    """A model that can be asked with other weather.

    :raises NotLearned: for one that cannot.
    """
    if not isinstance(model, Askable):
        raise NotLearned(
            f"the model behind the forecast is {model.name}, which does not look at the weather",
            hint="leave `weather` out",
        )
    if not model.sees_weather:
        raise NotLearned(
            f"the model behind the forecast, {model.name}, was trained without weather",
            hint="leave `weather` out; or import weather, train and forecast anew",
        )
    return model


def seen(model: Askable, inputs: Inputs, means: NDArray[np.floating]) -> Seen:
    """Inputs ready to be asked.

    :param means: the forecasts as they are shown, [hours, targets], NaN where there is none.
    :raises InputError: for inputs of a release with other features, or one that kept no sky.
    """
    if inputs.names != NAMES or inputs.sky is None:
        raise InputError(
            "the forecast was issued by a release with other features, or that kept no weather",
            hint="issue it anew: `bikecast forecast`",
        )
    flat = inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()
    own = model.means(*flat).reshape(inputs.level.shape)
    # Where they differ by their last decimal alone, nothing was done to the forecast.
    same = np.isnan(means) | (np.abs(means - own) < LAST_DECIMAL)
    balance = np.where(same, 1, means / own).astype(np.float32)
    return Seen(model.under_sky(*flat), balance, inputs.sky)


def what_if(
    seen: Seen, step: int, weather: dict[str, float]
) -> tuple[Prediction, dict[str, float | None]]:
    """An hour's forecast with other weather, [targets], and the weather that it is of.

    :param step: place of the hour on the first axis of the inputs.
    :param weather: the variables that are given; the others are as they were known.
    :raises NotLearned: where too little is known of the weather to ask the model.
    """
    above = seen.sky.weather(step).copy()
    used: dict[str, float | None] = {}
    for i, name in enumerate(WEATHER):
        if name in weather:
            above[i] = used[name] = weather[name]
        else:
            used[name] = _shortest(above[i])
    if unknown := [name for name in NEEDED if used[name] is None]:
        raise NotLearned(
            f"nothing is known of the {' and the '.join(unknown)} of this hour",
            hint="give it in `weather` as well",
        )
    targets = len(seen.balance[step])
    rows = slice(step * targets, (step + 1) * targets)
    return seen.rows.again(rows, seen.sky.columns(step, above), seen.balance[step]), used


def _shortest(value: np.float32) -> float | None:
    """The shortest number that float32 takes for this one: 12.3 and not 12.300000190734863."""
    return None if math.isnan(value) else float(str(value))
