"""A forecast asked anew: the hour as it was seen when the table was made, but with other weather.

The weather that is given is that of one hour. What was known of it, and of the weather of all other
hours, stays as it was: the features of the weather are made of both together, by the code that
made those of the table. What nobody knows stays unknown, and the means of a day are those of the
hours that are known.

What was done to the forecast behind the model, as it was reconciled with those of its day, is done
to this one as well: with the weather that the table was made with, it is the table's forecast.

An hour of the second week has none in the table, and is asked of the model for the first time: with
the weather that was known of it, if any, or with another one. The model learned up to 168 hours
ahead, and is told that it is as many (see ``features``). The flows of its day are not reconciled.
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
from bikecast.records import KEPT_HORIZON, MAX_HORIZON, TARGETS, WEATHER

NEEDED = ("temperature", "precipitation")
"""Without both, a model takes an hour for one without weather."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model saw of a station, ready to be asked.

    :param rows: an hour's targets, hour after hour.
    :param balance: what the model's means were multiplied by to be the forecast, [hours, targets].
    :param first: place of the first of these hours in the inputs.
    """

    rows: UnderSky
    balance: Floats
    sky: Sky
    first: int

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = self.balance, self.sky.hourly, self.sky.usual
        return self.rows.nbytes + sum(array.nbytes for array in arrays)


@dataclass(frozen=True, eq=False)
class SecondWeek:
    """What a model saw of a station's second week, and that model.

    :param values: an hour's targets, hour after hour, [rows, features]; :param level: [rows].
    """

    model: Explainable
    values: Floats
    level: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory of what is the station's own."""
        return self.values.nbytes + self.level.nbytes

    def at(self, step: int) -> Prediction:
        """An hour's forecast, with the weather that was known of it: [targets].

        :param step: place of the hour on the first axis of the inputs.
        """
        place = (step - MAX_HORIZON) * len(TARGETS)
        rows = slice(place, place + len(TARGETS))
        return self.model.forecasts(self.values[rows], self.level[rows])


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


def seen(model: Askable, inputs: Inputs, means: NDArray[np.floating], first: int = 0) -> Seen:
    """Inputs ready to be asked.

    :param means: the forecasts as they are shown, [hours, targets], NaN where there is none.
    :param first: place of the first of these hours in the inputs.
    :raises InputError: for inputs of a release with other features, or that kept no sky or less.
    """
    flat = _rows(inputs, first, first + len(means))
    if inputs.sky is None:
        raise _of_other_release("kept no weather")
    balance = np.ones(means.shape, np.float32)
    if not np.isnan(means).all():
        own = model.means(*flat).reshape(means.shape)
        # Where they differ by their last decimal alone, nothing was done to the forecast.
        same = np.isnan(means) | (np.abs(means - own) < LAST_DECIMAL)
        balance = np.where(same, 1, means / own).astype(np.float32)
    return Seen(model.under_sky(*flat), balance, inputs.sky, first)


def second_week(model: Explainable, inputs: Inputs) -> SecondWeek:
    """A station's second week, ready to be asked.

    :raises InputError: for inputs of a release with other features, or that kept one week alone.
    """
    return SecondWeek(model, *_rows(inputs, MAX_HORIZON, KEPT_HORIZON))


def _rows(inputs: Inputs, first: int, stop: int) -> tuple[Floats, Floats]:
    """Values and levels of some hours, an hour's targets side by side."""
    if inputs.names != NAMES:
        raise _of_other_release("has other features")
    if len(inputs.level) < stop:
        raise _of_other_release("kept what it saw of fewer hours")
    values, level = inputs.values[first:stop], inputs.level[first:stop]
    # Copies, as views would keep what was fetched of all other hours.
    return values.reshape(-1, len(NAMES)).copy(), level.flatten()


def _of_other_release(does: str) -> InputError:
    return InputError(
        f"the forecast was issued by a release that {does}",
        hint="issue it anew: `bikecast forecast`",
    )


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
    place = step - seen.first
    balance = seen.balance[place]
    rows = slice(place * len(balance), (place + 1) * len(balance))
    return seen.rows.again(rows, seen.sky.columns(step, above), balance), used


def _shortest(value: np.float32) -> float | None:
    """The shortest number that float32 takes for this one: 12.3 and not 12.300000190734863."""
    return None if math.isnan(value) else float(str(value))
