"""The contract of every model: fit on a history, then forecast from any origin."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from bikecast.history import Floats, History, Ints


@dataclass(frozen=True)
class Grid:
    """What will be asked of a model.

    :param horizon: hours ahead, 1 … 168; step 1 is the hour that starts at the origin.
    :param every: hours between two origins; 24 means every midnight.
    """

    horizon: int
    every: int = 24


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
    """A model of all stations and both targets.

    ``predict`` sees the whole history it is given, and must use nothing at or after an origin
    except the calendar and the weather that ``WeatherArchive.at`` hands out for that origin.
    """

    name: ClassVar[str]

    def fit(self, history: History, grid: Grid) -> None:
        """Learn from all known hours of ``history``; the same input gives the same model."""
        ...

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast ``horizon`` hours from each origin (grid indices of ``history``).

        Stations that the model was not fitted on are forecast as well as their history allows.
        """
        ...
