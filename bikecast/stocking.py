"""What a station should hold at an hour, and what that is worth beside the stock it has now."""

from dataclasses import dataclass

import numpy as np

from bikecast.inventory import Floats, expected_failures, stock_distribution, target

MAX_DOCKS = 500
"""No station has more; what a stock costs to reckon grows with their square."""


@dataclass(frozen=True)
class Drift:
    """What becomes of the stock there is now, until another is set.

    :param bikes: in the station now.
    :param p_empty: the chance that the station is empty then; ``p_full`` that it is full.
    :param avoided: trips that are expected to fail with this stock, and not with the best.
    """

    bikes: int
    p_empty: float
    p_full: float
    avoided: float


@dataclass(frozen=True)
class Stocking:
    """The stock to set, in bikes, and the trips that are expected to fail with it.

    :param low: … ``high``: the stocks that are about as good as the best.
    :param expected_failures: with the best stock; ``worst_failures`` with the worst.
    :param drift: None where the stock now is not known.
    """

    best: int
    low: int
    high: int
    expected_failures: float
    worst_failures: float
    drift: Drift | None


def stocking(capacity: int, before: Floats, ahead: Floats, bikes: int | None) -> Stocking:
    """The stock to set at a station.

    :param before: expected pickups and returns of each hour until it is set, [hours, 2].
    :param ahead: those of the hours that it is set for, [hours, 2].
    :param bikes: in the station now, 0 … ``capacity``; None where that is not known.
    """
    failures = expected_failures(capacity, *ahead.T)
    found = target(failures)
    drift = None
    if bikes is not None:
        then = (np.arange(capacity + 1) == bikes).astype(np.float64)
        if len(before):
            then = stock_distribution(bikes, capacity, *before.T)[-1]
        drift = Drift(bikes, float(then[0]), float(then[-1]), float(then @ found.avoided))
    best, worst = float(failures.min()), float(failures.max())
    return Stocking(found.best, found.low, found.high, best, worst, drift)
