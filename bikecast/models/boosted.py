"""Gradient-boosted trees on counts, all stations and both targets in one model."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bikecast.features import NAMES, Features
from bikecast.history import Floats, History, Ints
from bikecast.models.base import Grid, Prediction
from bikecast.models.counts import dispersion, quantiles
from bikecast.models.naive import require_days
from bikecast.models.rows import Rows, predict_means, recency, training_rows, without_weather
from bikecast.records import TARGETS, WEATHER

if TYPE_CHECKING:
    import xgboost

LEAST_DAYS = 14
YEAR_DAYS = 730
"""Known days from which the day of the year is a feature: each season was seen twice. With 16
months known it still costs 2 % of MAE in the spring after."""

# The system's last day and week are the same for all stations and hours ahead: trees know each
# day by them and learn its weather by heart (see ``features.FRESH_HOURS``).
FEATURES = tuple(name for name in NAMES if name not in ("system_24h", "system_168h"))
_COLUMNS = [NAMES.index(name) for name in FEATURES]
_WEATHER = slice(NAMES.index(WEATHER[0]), NAMES.index(WEATHER[-1]) + 1)
SEED = 1
HALF_LIFE_DAYS = 180
MOST_ROWS = 500_000
FEW_ROWS = 20_000
FORGET_WEATHER = 0.5
ROUNDS = 400
TREES: dict[str, Any] = {
    "objective": "count:poisson",
    "tree_method": "hist",
    "max_depth": 6,
    "learning_rate": 0.05,
    "subsample": 0.7,
    "colsample_bytree": 0.6,
    "min_child_weight": 20,
    "max_bin": 128,
    "seed": SEED,
}


class BoostedTrees:
    """XGBoost with Poisson loss; the logarithm of the level is the base margin.

    The trees so learn by how much the level is off. Every tenth day is held out of the fit, and
    the dispersion of the negative binomial is estimated there.
    """

    name: ClassVar[str] = "xgboost"

    def __init__(self) -> None:
        self.params: dict[str, Any] = {
            **TREES,
            "rounds": ROUNDS,
            "half_life_days": HALF_LIFE_DAYS,
            "most_rows": MOST_ROWS,
        }
        self.booster: xgboost.Booster | None = None
        self.alpha: Floats = np.full(len(TARGETS), 0.2, np.float32)

    def fit(self, history: History, grid: Grid) -> None:
        """Learn from a sample of the pairs that the grid will ask.

        :raises InputError: for less than 14 days of history.
        """
        import xgboost

        require_days(history, LEAST_DAYS, self.name)
        self.params["time_of_year"] = history.known >= YEAR_DAYS * 24
        rows = training_rows(
            history, grid, MOST_ROWS, SEED, time_of_year=self.params["time_of_year"]
        )
        if history.weather is not None:
            rows = without_weather(rows, _WEATHER, FORGET_WEATHER, SEED)
        fitted, judged = rows.where(~rows.held_out), rows.where(rows.held_out)
        matrix = xgboost.QuantileDMatrix(
            fitted.values[:, _COLUMNS],
            fitted.actual,
            weight=recency(fitted, history.known, HALF_LIFE_DAYS),
            base_margin=np.log(fitted.level),
            feature_names=list(FEATURES),
            max_bin=TREES["max_bin"],
        )
        # Few rows are fitted sooner alone: threads would mostly wait for each other.
        threads = 1 if len(fitted.actual) < FEW_ROWS else 0
        self.booster = xgboost.train({**TREES, "nthread": threads}, matrix, ROUNDS)
        self.alpha = self._dispersion(judged)

    def _dispersion(self, rows: Rows) -> Floats:
        mean = self._mean(rows.values, rows.level)
        alone = rows.target[:, None] == np.arange(len(TARGETS))
        actual = np.where(alone, rows.actual[:, None], np.float32(np.nan))
        return dispersion(actual, np.broadcast_to(mean[:, None], actual.shape))

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast ``horizon`` hours from each origin, with weather where there is any."""

        def mean_of(seen: Features) -> Floats:
            flat = self._mean(seen.values.reshape(-1, len(NAMES)), seen.level.ravel())
            return flat.reshape(seen.level.shape)

        mean = predict_means(
            history, origins, horizon, mean_of, time_of_year=self.params["time_of_year"]
        )
        return Prediction(mean, quantiles(mean, self.alpha))

    def _mean(self, values: Floats, level: Floats) -> Floats:
        assert self.booster is not None, "fit comes before predict"
        found: Floats = self.booster.inplace_predict(
            values[:, _COLUMNS], base_margin=np.log(level), validate_features=False
        )
        return found
