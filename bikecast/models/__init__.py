"""The models by name; each entry makes one that is not fitted yet.

statsmodels, XGBoost and most of SciPy are imported when they are first needed: the service installs
no statsmodels, and a what-if needs none of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from bikecast.models.base import Explainable
from bikecast.models.boosted import Trees
from bikecast.models.ensemble import Ensemble
from bikecast.models.learned import LearnedForecaster, Task
from bikecast.models.naive import SeasonalNaive, WeeklyMean
from bikecast.models.statistical import MOST_ROWS, CountRegression


def _regression(task: Task) -> CountRegression:
    return CountRegression()


def _trees(task: Task) -> Trees:
    return Trees(task.grid, task.weather)


MODELS: Final[dict[str, Callable[[], Explainable]]] = {
    "naive": SeasonalNaive,
    "mean4w": WeeklyMean,
    "glm": partial(LearnedForecaster, "glm", _regression, most_rows=MOST_ROWS),
    "xgboost": partial(LearnedForecaster, "xgboost", _trees),
    "ensemble": partial(LearnedForecaster, "ensemble", Ensemble),
}
