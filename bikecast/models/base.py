"""The contract of every model: fit on a history, then forecast from any origin."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from bikecast.features import Features
from bikecast.history import Floats, History, Ints

Arrays = dict[str, NDArray[Any]]
"""A fitted model in a portable form: no Python objects, and no library's own."""


def within(name: str, arrays: Arrays) -> Arrays:
    """The arrays of a part, under its name."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def part(arrays: Arrays, name: str) -> Arrays:
    """The inverse of :func:`within`; nothing where there is no such part."""
    start = f"{name}."
    return {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}


MANY_ROWS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """What will be asked of a model, and how much it may take to learn that.

    :param horizon: hours ahead, 1 … 168; step 1 is the hour that starts at the origin.
    :param every: hours between two origins; 24 means every midnight.
    :param rows: that a fit learns from at most, each one hour of a station seen from an origin.
    """

    horizon: int
    every: int = 24
    rows: int = MANY_ROWS


@dataclass(frozen=True, eq=False)
class Prediction:
    """Forecasts of a set of origins, in bikes per hour.

    :param mean: [origins, horizon, stations, targets]; never negative, NaN only where a station
        has no history at all.
    :param quantiles: the same with the levels of ``QUANTILES`` as a last axis; whole numbers of
        bikes or not, never negative, never crossing.
    """

    mean: Floats
    quantiles: Floats


class Forecaster(Protocol):
    """A model of all stations and both targets, as a backtest asks it.

    ``predict`` sees the whole history it is given, and must use nothing at or after an origin
    except the calendar and the weather that ``WeatherArchive.at`` hands out for that origin.
    """

    @property
    def name(self) -> str:
        """The entry in the table of models."""
        ...

    def fit(self, history: History, grid: Grid) -> None:
        """Learn from all known hours of ``history``; the same input gives the same model."""
        ...

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast ``horizon`` hours from each origin (grid indices of ``history``).

        Stations that the model was not fitted on are forecast as well as their history allows.
        """
        ...


@runtime_checkable
class Explainable(Forecaster, Protocol):
    """A forecaster that can say why, as every entry of MODELS can; a backtest does not ask."""

    def inputs(self, history: History, origins: Ints, horizon: int) -> Features:
        """What :meth:`predict` sees of these hours, the steps running fastest; kept with a table.

        Its level is what this model starts from; it may be 0.
        """
        ...

    def forecasts(self, values: Floats, level: Floats) -> Prediction:
        """Forecasts of rows of :meth:`inputs`, before a day's are reconciled: [rows].

        It may be called after a fork, and by several threads at once.

        :param values: [rows, features]; :param level: theirs, [rows].
        """
        ...

    def explain(self, values: Floats, level: Floats) -> Floats:
        """Why the mean is not the level: logarithms of factors, [rows, ``GROUPS``].

        Their sum and the logarithm of the level are the logarithm of the mean, to float32's
        precision. It may be called after a fork.

        :param values: rows of :meth:`inputs`, [rows, features]; :param level: theirs, [rows].
        """
        ...

    def portable(self) -> Arrays:
        """All that forecasts and explanations take, as plain arrays."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Become the fitted model whose :meth:`portable` form this is.

        :raises KeyError: for what another model, or one of another release, has left.
        """
        ...


@runtime_checkable
class Askable(Explainable, Protocol):
    """A forecaster that looks at the weather of its inputs, and can be asked with another one.

    All of it may be called after a fork, and by several threads at once.
    """

    @property
    def sees_weather(self) -> bool:
        """It learned what the weather does; where it had none to learn from, it ignores it."""
        ...

    def means(self, values: Floats, level: Floats) -> Floats:
        """Forecasts of rows of :meth:`inputs`, before a day's are reconciled: [rows].

        :param values: [rows, features]; :param level: theirs, [rows].
        """
        ...

    def under_sky(self, values: Floats, level: Floats) -> "UnderSky":
        """The same rows, ready to be asked with other weather: all else is computed once."""
        ...


class UnderSky(Protocol):
    """Rows of inputs of which only the weather is open."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...

    def again(self, rows: slice, sky: Floats, balance: Floats) -> Prediction:
        """Forecasts of a few of the rows, of one hour: [rows], and their quantiles.

        :param sky: ``bikecast.features.sky.COLUMNS`` of that hour.
        :param balance: what each mean is multiplied by, as reconciling did with the day's, [rows].
        """
        ...
