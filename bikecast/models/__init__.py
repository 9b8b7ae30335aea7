"""The models by name; each entry makes one that is not fitted yet.

statsmodels and XGBoost are imported when they are first needed: the service answers from the
forecast table and installs neither.
"""

from collections.abc import Callable
from typing import Final

from bikecast.models.base import Forecaster
from bikecast.models.boosted import BoostedTrees
from bikecast.models.naive import SeasonalNaive, WeeklyMean
from bikecast.models.statistical import CountRegression

MODELS: Final[dict[str, Callable[[], Forecaster]]] = {
    model.name: model for model in (SeasonalNaive, WeeklyMean, CountRegression, BoostedTrees)
}
