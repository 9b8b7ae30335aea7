"""Several forecasters in one: each is wrong in its own way, and their mean less than any."""

from typing import Any, Final

import numpy as np

from bikecast.features import NAMES
from bikecast.features.groups import membership
from bikecast.history import Floats
from bikecast.models.base import Arrays, part, within
from bikecast.models.boosted import Trees
from bikecast.models.learned import Task
from bikecast.models.rows import Rows
from bikecast.models.statistical import CountRegression

WEIGHTS: Final = (0.7, 0.3, 0.0)
"""Of trees, regression, and level by shares."""
WEIGHTS_BEFORE_A_YEAR: Final = (0.5, 0.25, 0.25)
"""What is learned in one season is less sure in the next one; the level has nothing learned.

Day-ahead, New York, MAE of 84 days: after 16 months 3.900 with the former and 3.929 with these,
after half a year 3.815 and 3.779."""
WEIGHTS_WITH_WEATHER: Final = (1.0, 0.0, 0.0)
"""The regression knows too little of rain: 3.575 with it at 0.3, and 3.529 with the trees alone."""
_SHARE = NAMES.index("share")
_OF_SHARE = membership(["share"])


class Ensemble:
    """A weighted geometric mean of boosted trees, the count regression, and a level by shares.

    Each member multiplies the level by factors, so their geometric mean does as well.
    """

    def __init__(self, task: Task) -> None:
        self.trees, self.regression = Trees(task.grid), CountRegression()
        self.weights = weights_for(task)
        members = {"trees": self.trees.params, "regression": self.regression.params}
        weights = zip((*members, "level"), self.weights, strict=True)
        self.params: dict[str, Any] = {
            **{f"{who}_{k}": v for who, own in members.items() for k, v in own.items()},
            **{f"weight_{who}": weight for who, weight in weights},
        }

    def learn(self, rows: Rows, known: int) -> None:
        """Fit the members on the same rows."""
        for member in (self.trees, self.regression):
            member.learn(rows, known)

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        members = (self.trees.means, self.regression.means, level_by_shares)
        logs = [
            w * np.log(of(values, level)) for w, of in zip(self.weights, members, strict=True) if w
        ]
        found: Floats = np.exp(np.sum(logs, axis=0)).astype(np.float32)
        return found

    def explain(self, values: Floats, level: Floats) -> Floats:
        """The members' explanations, weighted as they are."""
        members = (self.trees.explain, self.regression.explain, _explain_shares)
        logs = [w * of(values, level) for w, of in zip(self.weights, members, strict=True) if w]
        found: Floats = np.sum(logs, axis=0)
        return found

    def portable(self) -> Arrays:
        """The members' arrays, and their weights."""
        members = within("trees", self.trees.portable())
        members |= within("regression", self.regression.portable())
        return members | {"weights": np.array(self.weights)}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.trees.restore(part(arrays, "trees"))
        self.regression.restore(part(arrays, "regression"))
        self.weights = tuple(arrays["weights"].tolist())


def weights_for(task: Task) -> tuple[float, ...]:
    """Of trees, regression, and level by shares."""
    if not task.year:
        return WEIGHTS_BEFORE_A_YEAR
    return WEIGHTS_WITH_WEATHER if task.weather else WEIGHTS


def _explain_shares(values: Floats, level: Floats) -> Floats:
    logs: Floats = np.log(level_by_shares(values, level) / level)[:, None] * _OF_SHARE
    return logs


def level_by_shares(values: Floats, level: Floats) -> Floats:
    """Half the level, half the station's usual share of what the system's level says."""
    share = np.exp(np.nan_to_num(values[:, _SHARE]))
    found: Floats = level * (1 + share) / 2
    return found
