"""A forecaster around whatever learns from rows: with weather and without, and how sure it is.

Rows that know their weather and rows that do not are learned apart. One model for both would
have to forget the weather of half of its rows: day-ahead MAE 3.556 with the weather instead of
3.515 (trees, New York, before 2018-07-16).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bikecast.errors import InputError, OtherRelease
from bikecast.features import NAMES, Features, features, pairs
from bikecast.history import Floats, History, Ints
from bikecast.models.base import MANY_ROWS, Arrays, Grid, Prediction, part, within
from bikecast.models.counts import recent_actuals
from bikecast.models.naive import require_days
from bikecast.models.reconcile import DAY, has_both, reconciled, shrinkage
from bikecast.models.rows import (
    Rows,
    has_weather,
    held_out_midnights,
    learning_rows,
    predict_rows,
    without_weather,
)
from bikecast.models.spread import Exact, Spread, fit_spread
from bikecast.records import QUANTILES

LEAST_DAYS = 14
SEED = 1
YEAR_DAYS = 396
"""Known days from which the day of the year is a feature: thirteen months. With half a year it
costs 16 % of MAE, as trees extrapolate it; from 13 months on it gains 0.3 to 0.7 % (New York,
before 2018-07-16)."""

FORM = 2
"""Of what learners make of the features. It is raised with each change of that: a model of another
form would take its inputs for others, and nobody would see it."""

_PARTS = {"without_weather": False, "with_weather": True}


@dataclass(frozen=True)
class Task:
    """What a learner is for.

    :param grid: what will be asked.
    :param year: a year of history is there.
    :param weather: every row knows its weather; else none does.
    """

    grid: Grid
    year: bool
    weather: bool


class Open(Protocol):
    """Rows of features of which only the columns of the weather are open."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...

    def changes(self, rows: slice, sky: Floats) -> NDArray[np.floating]:
        """How far off the level is: logarithms of factors of some of the rows, [rows].

        :param sky: ``bikecast.features.sky.COLUMNS``, the same of all these rows.
        """
        ...


class Learner(Protocol):
    """What learns from rows of features how far the level is off."""

    params: dict[str, Any]

    def learn(self, rows: Rows, known: int) -> None:
        """Fit on all of these rows.

        :param known: hours of the history that the rows come from.
        """
        ...

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        ...

    def under_sky(self, values: Floats, level: Floats) -> Open:
        """The same rows, with the weather open."""
        ...

    def explain(self, values: Floats, level: Floats) -> Floats:
        """As :meth:`bikecast.models.base.Explainable.explain`."""
        ...

    def portable(self) -> Arrays:
        """As :meth:`bikecast.models.base.Explainable.portable`."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """As :meth:`bikecast.models.base.Explainable.restore`."""
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """A learner that has learned, and how it errs on days held out.

    :param shrunk: share by which a day's net flow is too large.
    :param weather: it knows the weather.
    """

    learner: Learner
    spread: Spread
    shrunk: float
    weather: bool

    def portable(self) -> Arrays:
        """The learner's arrays, and those of its errors."""
        spread = {part.name: getattr(self.spread, part.name) for part in fields(self.spread)}
        errors = {**spread, "shrunk": np.array(self.shrunk)}
        return within("learner", self.learner.portable()) | within("errors", errors)


def restored(learner: Learner, arrays: Arrays, weather: bool) -> Fitted:
    """The inverse of :meth:`Fitted.portable`.

    :param learner: a new one of the same kind; it becomes the one that had learned.
    """
    learner.restore(part(arrays, "learner"))
    errors = part(arrays, "errors")
    spread = Spread(errors["coefficients"], errors["edges"], errors["levels"])
    return Fitted(learner, spread, float(errors["shrunk"]), weather)


@dataclass(frozen=True, eq=False)
class LearnedUnderSky:
    """Rows of which only the weather is open, and how sure a learner is of them.

    :param fixed: what the dispersions are made of beside the means; :param level: [rows].
    """

    learner: Open
    spread: Spread
    fixed: Exact
    level: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.learner.nbytes + self.fixed.nbytes + self.level.nbytes

    def again(self, rows: slice, sky: Floats, balance: Floats) -> Prediction:
        """As :meth:`bikecast.models.base.UnderSky.again`."""
        asked = (self.learner.changes(rows, sky), self.level[rows], self.fixed[rows], balance)
        means, quantiles = [], []
        for change, level, fixed, share in zip(*(part.tolist() for part in asked), strict=True):
            own = level * math.exp(change)
            means.append(own * share)
            quantiles.append(self.spread.of_one(fixed, own, own * share))
        return Prediction(np.array(means, np.float32), np.array(quantiles, np.float32))


class LearnedForecaster:
    """Forecasts every row with the learner that saw rows like it.

    Some days are held out of a first fit, for the errors; the fit that stays has seen all days
    (MAE 3.95 with them, 3.97 without). Censored hours are unknown to it, in the past as in the fit.

    :param make: gives a new learner for a task.
    :param most_rows: of the sample that it learns from, where the grid allows as many.
    """

    def __init__(
        self, name: str, make: Callable[[Task], Learner], most_rows: int = MANY_ROWS
    ) -> None:
        self.name = name
        self.params: dict[str, Any] = {"most_rows": most_rows}
        self._make = make
        self._most_rows = most_rows
        self._year = False
        self._features = NAMES
        self._form = FORM
        self._fitted: dict[bool, Fitted] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What was stored comes back, where this release has the features that it knows.

        :raises OtherRelease: where it has others.
        """
        if (state.get("_features"), state.get("_form")) != (NAMES, FORM):
            raise OtherRelease(
                f"{state.get('name')} was trained by a release with other features",
                hint="train another: `bikecast train --promote`",
            )
        vars(self).update(state)

    def fit(self, history: History, grid: Grid) -> None:
        """Learn from a sample of the pairs that the grid will ask.

        :raises InputError: for less than 14 days of history.
        """
        require_days(history, LEAST_DAYS, self.name)
        history = history.uncensored
        self._year = history.known >= YEAR_DAYS * 24
        most = min(self._most_rows, grid.rows)
        rows = learning_rows(history, grid, most, SEED, time_of_year=self._year)
        self._fitted = {False: self._learned(without_weather(rows), history, grid, False)}
        seeing = has_weather(rows.values)
        # With less, what it gains by the weather it loses by the days.
        if seeing.mean() >= 0.5:
            self._fitted[True] = self._learned(rows.where(seeing), history, grid, True)
        self.params = {
            "most_rows": most,
            "time_of_year": self._year,
            "weather": True in self._fitted,
            **self._fitted[False].learner.params,
        }

    def _learned(self, rows: Rows, history: History, grid: Grid, weather: bool) -> Fitted:
        task = Task(grid, self._year, weather)
        first = self._make(task)
        unseen = rows.held_out
        if unseen.all():
            raise InputError(
                f"{self.name} finds too few known hours until {history.as_of:%Y-%m-%d} to learn",
                hint="close the gaps in the data, or import more",
            )
        first.learn(rows.where(~unseen), history.known)
        held = rows.where(unseen)
        spread = fit_spread(held.values, first.means(held.values, held.level), held.actual)
        shrunk = self._shrinkage(first, held, history, weather) if grid.horizon >= DAY else 0.0
        learner = self._make(task)
        learner.learn(rows, history.known)
        return Fitted(learner, spread, shrunk, weather)

    def _shrinkage(self, learner: Learner, held: Rows, history: History, weather: bool) -> float:
        """By how much net flows are too large on the last of the days held out."""
        seen = history if weather else replace(history, weather=None)
        midnights = held_out_midnights(held, history)
        if not len(midnights):
            return 0.0
        mean = predict_rows(seen, midnights, DAY, learner.means, time_of_year=self._year)
        return shrinkage(mean, recent_actuals(history, midnights, DAY))

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast ``horizon`` hours from each origin, with weather where there is any."""
        history = history.uncensored
        found = predict_rows(
            history, origins, horizon, self._mean_and_spread, time_of_year=self._year
        )
        sees = found[..., 2] > 0
        shrunk = [self._fitted[bool(origin.any())].shrunk for origin in sees]
        both = has_both(history, origins)
        mean = reconciled(found[..., 0], origins, both, np.array(shrunk, np.float32))
        return self._with_quantiles(mean, found[..., 1], sees)

    def forecasts(self, values: Floats, level: Floats) -> Prediction:
        """Of rows of inputs, each as the learner says it that saw rows like it: [rows]."""
        mean, alpha, sees = self._mean_and_spread(values, level).T
        return self._with_quantiles(mean, alpha, sees > 0)

    def _with_quantiles(self, mean: Floats, alpha: Floats, sees: NDArray[np.bool_]) -> Prediction:
        levels = np.empty((*mean.shape, len(QUANTILES)), np.float32)
        for weather, fitted in self._fitted.items():
            at = sees == weather
            levels[at] = fitted.spread.quantiles(mean[at], alpha[at])
        return Prediction(mean, levels)

    @property
    def sees_weather(self) -> bool:
        """It learned what the weather does."""
        return True in self._fitted

    def means(self, values: Floats, level: Floats) -> Floats:
        """Means of rows of inputs as the learners say them: [rows]."""
        found: Floats = self._mean_and_spread(values, level)[:, 0]
        return found

    def under_sky(self, values: Floats, level: Floats) -> "LearnedUnderSky":
        """The same rows, ready to be asked with other weather."""
        fitted = self._fitted[True]
        return LearnedUnderSky(
            fitted.learner.under_sky(values, level),
            fitted.spread,
            fitted.spread.fixed(values),
            level,
        )

    def _mean_and_spread(self, values: Floats, level: Floats) -> Floats:
        return self._each(values, level, _mean_and_spread)

    def inputs(self, history: History, origins: Ints, horizon: int) -> Features:
        """Features and level, as the learners see them."""
        return features(history.uncensored, *pairs(origins, horizon), time_of_year=self._year)

    def portable(self) -> Arrays:
        """What was learned with weather and without, how it errs, and what was there to learn."""
        found = {"year": np.array(self._year), "features": np.array(self._features)}
        found["form"] = np.array(self._form)
        for name, weather in _PARTS.items():
            if fitted := self._fitted.get(weather):
                found |= within(name, fitted.portable())
        return found

    def restore(self, arrays: Arrays) -> None:
        """Take it back."""
        self._year = bool(arrays["year"])
        if tuple(arrays["features"].tolist()) != NAMES:
            raise KeyError("features of this release")
        if int(arrays["form"]) != FORM:
            raise KeyError("inputs of this release")
        for name, weather in _PARTS.items():
            if own := part(arrays, name):
                learner = self._make(Task(Grid(DAY), self._year, weather))
                self._fitted[weather] = restored(learner, own, weather)
        if False not in self._fitted:
            raise KeyError("without_weather")

    def explain(self, values: Floats, level: Floats) -> Floats:
        """What the learner says that saw rows like these."""
        return self._each(values, level, lambda fitted, *rows: fitted.learner.explain(*rows))

    def _each(
        self, values: Floats, level: Floats, of: Callable[[Fitted, Floats, Floats], Floats]
    ) -> Floats:
        """Let each row be answered by the learner that saw rows like it: [rows, …]."""
        seeing = has_weather(values) & (True in self._fitted)
        answers = [
            (mask, of(self._fitted[sees], values[mask], level[mask]))
            for sees, mask in ((False, ~seeing), (True, seeing))
            if mask.any()
        ]
        out = np.empty((len(values), *answers[0][1].shape[1:]), np.float32)
        for mask, answer in answers:
            out[mask] = answer
        return out


def _mean_and_spread(fitted: Fitted, values: Floats, level: Floats) -> Floats:
    mean = fitted.learner.means(values, level)
    sees = np.full(len(mean), fitted.weather, np.float32)
    return np.column_stack([mean, fitted.spread.dispersion(values, mean), sees])
