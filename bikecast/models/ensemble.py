"""Several forecasters in one: each is wrong in its own way, and their mean less than any."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bikecast.features import NAMES
from bikecast.features.groups import membership
from bikecast.features.recent import FRESH_HOURS
from bikecast.history import Floats
from bikecast.models.base import Arrays, part, within
from bikecast.models.boosted import Trees
from bikecast.models.learned import Learner, Open, Task
from bikecast.models.network import Network
from bikecast.models.rows import Rows, filled
from bikecast.models.statistical import CountRegression

WEIGHTS: Final = (0.4, 0.2, 0.4, 0.0)
"""Of trees, regression, network, and level by shares.

New York, MAE of the 84 days before 2018-07-16, day-ahead and a week ahead: trees alone 3.920 and
3.932, trees and regression (0.7, 0.3) 3.901 and 3.921, these 3.851 and 3.883. The weights were
chosen on these days; a week ahead on 30 % of the pairs of origin and hour."""
WEIGHTS_BEFORE_A_YEAR: Final = (0.3, 0.2, 0.25, 0.25)
"""What is learned in one season is less sure in the next one; the level has nothing learned.

Day-ahead after half a year, 84 days from 2017-07-17: 3.750; with ``WEIGHTS`` 3.785."""
WEIGHTS_SHORT_BEFORE_A_YEAR: Final = (0.5, 0.0, 0.5, 0.0)
"""Up to ``FRESH_HOURS`` ahead, where the last hours say more than the season does.

Two hours ahead after half a year, on 40 % of the pairs: 3.303, with ``WEIGHTS`` 3.312, with a
quarter of the level 3.324."""
WEIGHTS_APART: Final = (0.4, 0.0, 0.6, 0.0)
"""After a year, where networks know of which station a row is, and the regression does not.

Two hours ahead 3.172, with half of either 3.175; day-ahead with weather 3.366, with a tenth of the
regression 3.367."""
_SHARE = NAMES.index("share")
_OF_SHARE = membership(["share"])


@dataclass(frozen=True, eq=False)
class EnsembleUnderSky:
    """Rows of which only the weather is open: each member's, and what the level by shares adds.

    :param members: weights, which add up to 1 with that of the level by shares.
    :param fixed: [rows].
    """

    members: tuple[tuple[float, Open], ...]
    fixed: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.fixed.nbytes + sum(member.nbytes for _, member in self.members)

    def changes(self, rows: slice, sky: Floats) -> NDArray[np.floating]:
        """As :meth:`bikecast.models.learned.Open.changes`."""
        found: NDArray[np.floating] = self.fixed[rows]
        for weight, member in self.members:
            found = found + weight * member.changes(rows, sky)
        return found


class Ensemble:
    """A weighted geometric mean of trees, the count regression, networks, and a level by shares.

    Each member multiplies the level by factors, so their geometric mean does as well.
    """

    def __init__(self, task: Task) -> None:
        self.trees, self.regression = Trees(task.grid, task.weather), CountRegression()
        self.network = Network(task.grid, task.year, task.weather)
        self.weights = weights_for(task)
        members = {who: member.params for who, member in self._members().items()}
        weights = zip((*members, "level"), self.weights, strict=True)
        self.params: dict[str, Any] = {
            **{f"{who}_{k}": v for who, own in members.items() for k, v in own.items()},
            **{f"weight_{who}": weight for who, weight in weights},
        }

    def _members(self) -> dict[str, Learner]:
        return {"trees": self.trees, "regression": self.regression, "network": self.network}

    def learn(self, rows: Rows, known: int) -> None:
        """Fit the members on the same rows."""
        for member in self._members().values():
            member.learn(rows, known)

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        members = (*(member.means for member in self._members().values()), level_by_shares)
        logs = [
            w * np.log(of(values, level)) for w, of in zip(self.weights, members, strict=True) if w
        ]
        found: Floats = np.exp(sum(logs)).astype(np.float32)
        return found

    def under_sky(self, values: Floats, level: Floats) -> "EnsembleUnderSky":
        """The same rows, with the weather open."""
        *own, shares = self.weights
        members = tuple(
            (weight, member.under_sky(values, level))
            for weight, member in zip(own, self._members().values(), strict=True)
            if weight
        )
        fixed = shares * np.log(level_by_shares(values, level) / level)
        return EnsembleUnderSky(members, fixed.astype(np.float32))

    def explain(self, values: Floats, level: Floats) -> Floats:
        """The members' explanations, weighted as they are."""
        members = (*(member.explain for member in self._members().values()), _explain_shares)
        logs = [w * of(values, level) for w, of in zip(self.weights, members, strict=True) if w]
        found: Floats = np.sum(logs, axis=0)
        return found

    def portable(self) -> Arrays:
        """The members' arrays, and their weights."""
        found = {"weights": np.array(self.weights)}
        for who, member in self._members().items():
            found |= within(who, member.portable())
        return found

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        for who, member in self._members().items():
            member.restore(part(arrays, who))
        self.weights = tuple(arrays["weights"].tolist())


def weights_for(task: Task) -> tuple[float, ...]:
    """Of trees, regression, network, and level by shares."""
    short = task.grid.horizon <= FRESH_HOURS
    if not task.year:
        return WEIGHTS_SHORT_BEFORE_A_YEAR if short else WEIGHTS_BEFORE_A_YEAR
    return WEIGHTS_APART if short or task.weather else WEIGHTS


def _explain_shares(values: Floats, level: Floats) -> Floats:
    logs: Floats = np.log(level_by_shares(values, level) / level)[:, None] * _OF_SHARE
    return logs


def level_by_shares(values: Floats, level: Floats) -> Floats:
    """Half the level, half the station's usual share of what the system's level says."""
    share = np.exp(filled(values[:, _SHARE]))
    found: Floats = level * (1 + share) / 2
    return found
