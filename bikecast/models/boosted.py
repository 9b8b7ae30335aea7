"""Gradient-boosted trees on counts, all stations and both targets in one model."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bikecast.features import NAMES
from bikecast.features.groups import membership
from bikecast.features.recent import FRESH_HOURS
from bikecast.features.sky import COLUMNS
from bikecast.history import Floats
from bikecast.models.base import Arrays, Grid
from bikecast.models.onnx import margins, session
from bikecast.models.rows import Rows, recency

if TYPE_CHECKING:
    import xgboost
    from onnxruntime import InferenceSession

# The system's last day and week are the same for all stations and hours ahead: trees know each
# day by them and learn its weather by heart (see ``features.FRESH_HOURS``).
_LEFT_OUT = ("system_24h", "system_168h", "share", "scatter", "station")
FEATURES = tuple(name for name in NAMES if name not in _LEFT_OUT)
_COLUMNS = np.array([NAMES.index(name) for name in FEATURES])
# XGBoost's last column is the level and what the trees add to it on the whole.
_MEMBERSHIP = membership((*FEATURES, "log_level"))
_SKY = slice(FEATURES.index(COLUMNS[0]), FEATURES.index(COLUMNS[-1]) + 1)
HALF_LIFE_DAYS = 3_650
"""Trees learn by how much the level is off, which changes less than the level does. Of 16 months
nearly nothing is forgotten: the ensemble's day-ahead MAE, from 200,000 rows, is 3.860 where all
days weigh alike, 3.867 with a half-life of two years and 3.877 with half of one; after half a year
of history, and two hours ahead, all are within 0.001 (New York, before 2018-07-16)."""
HALF_LIFE_WITH_WEATHER = 365
"""With observed weather, day-ahead MAE of trees 3.432, with half a year 3.450; two years and more
are no better."""
FEW_ROWS = 20_000
ROUNDS = 400
TREES: dict[str, Any] = {
    "objective": "count:poisson",
    "tree_method": "hist",
    "max_depth": 6,
    "learning_rate": 0.05,
    "subsample": 0.7,
    "colsample_bytree": 0.3,
    "min_child_weight": 20,
    "max_bin": 128,
    "seed": 1,
}
SHORT: dict[str, Any] = {"colsample_bytree": 0.6}
SHORT_ROUNDS = 800
"""While the last hours still tell much, there is more to learn: two hours ahead MAE 3.23 with 400
rounds of the others, 3.19 with these (New York, before 2018-07-16)."""


@dataclass(frozen=True, eq=False)
class TreesUnderSky:
    """Rows of which only the weather is open.

    :param values: ``FEATURES`` of the rows.
    """

    session: "InferenceSession"
    values: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes

    def changes(self, rows: slice, sky: Floats) -> Floats:
        """As :meth:`bikecast.models.learned.Open.changes`."""
        seen = self.values[rows].copy()
        seen[:, _SKY] = sky
        return margins(self.session, seen)


class Trees:
    """XGBoost with Poisson loss; the logarithm of the level is the base margin.

    The trees so learn by how much the level is off.

    :param grid: what will be asked; :param weather: the rows know their weather, as in ``Task``.
    """

    def __init__(self, grid: Grid, weather: bool) -> None:
        self._half_life = HALF_LIFE_WITH_WEATHER if weather else HALF_LIFE_DAYS
        short = grid.horizon <= FRESH_HOURS
        self._trees = {**TREES, **SHORT} if short else TREES
        self._rounds = SHORT_ROUNDS if short else ROUNDS
        self.params: dict[str, Any] = {
            **self._trees,
            "rounds": self._rounds,
            "half_life_days": self._half_life,
        }
        self.booster: xgboost.Booster | None = None

    _stored = b""
    """The trees that were restored, in XGBoost's UBJSON."""

    def learn(self, rows: Rows, known: int) -> None:
        """Fit the trees on all of these rows."""
        import xgboost

        matrix = xgboost.QuantileDMatrix(
            rows.values[:, _COLUMNS],
            rows.actual,
            weight=recency(rows, known, self._half_life),
            base_margin=np.log(rows.level),
            feature_names=list(FEATURES),
            max_bin=TREES["max_bin"],
        )
        # Few rows are fitted sooner alone: threads would mostly wait for each other.
        threads = 1 if len(rows.actual) < FEW_ROWS else 0
        self.booster = xgboost.train({**self._trees, "nthread": threads}, matrix, self._rounds)

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        seen = values[:, _COLUMNS]
        if self._stored:
            return level * np.exp(margins(self._session, seen))
        assert self.booster is not None, "learn comes before means"
        found: Floats = self.booster.inplace_predict(
            seen, base_margin=np.log(level), validate_features=False
        )
        return found

    def under_sky(self, values: Floats, level: Floats) -> "TreesUnderSky":
        """The same rows, with the weather open."""
        return TreesUnderSky(self._session, values[:, _COLUMNS])

    def explain(self, values: Floats, level: Floats) -> Floats:
        """TreeSHAP (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9), 3 ms a row.

        Afterwards the trees keep to one thread: a process that was forked from one in which
        others ran would wait for them forever.
        """
        import xgboost

        booster = self._explaining()
        booster.set_param({"nthread": 1})
        start = np.log(level)
        matrix = xgboost.DMatrix(
            values[:, _COLUMNS], base_margin=start, feature_names=list(FEATURES), nthread=1
        )
        contributions = booster.predict(matrix, pred_contribs=True)
        contributions[:, -1] -= start
        found: Floats = contributions @ _MEMBERSHIP
        return found

    def portable(self) -> Arrays:
        """The trees in XGBoost's own UBJSON."""
        if self._stored:
            return {"trees": np.frombuffer(self._stored, np.uint8)}
        assert self.booster is not None, "learn comes before portable"
        return {"trees": np.frombuffer(self.booster.save_raw("ubj"), np.uint8)}

    def restore(self, arrays: Arrays) -> None:
        """Take them back; ONNX Runtime asks them, and XGBoost is loaded to explain alone."""
        self._stored = arrays["trees"].tobytes()

    @cached_property
    def _session(self) -> "InferenceSession":
        return session(self._stored)

    def _explaining(self) -> "xgboost.Booster":
        """The booster, also after a fork: with several threads that would wait forever."""
        import xgboost

        if self.booster is None:
            assert self._stored, "learn comes before explain"
            with xgboost.config_context(nthread=1):
                self.booster = xgboost.Booster(model_file=bytearray(self._stored))
        return self.booster
