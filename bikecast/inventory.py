"""How many bikes a station will hold, and how many it should: its stock through the coming hours.

The stock is a Markov chain in continuous time, censored at 0 and at the capacity: riders who
come for a bike or a dock are Poisson with the hour's mean, and one who finds none fails and
changes nothing. That is the model of Raviv and Kolka, "Optimal inventory management of a
bike-sharing station", IIE Transactions 45(10), 2013. They prove that the expected failures are
convex in the first stock: a range of stocks that are about as good as the best has no gaps.

Each hour is exact, by uniformization: the state after N riders, N being Poisson (Jensen, "Markoff
chains as an aid in the study of Markoff processes", Skandinavisk Aktuarietidskrift 36, 1953). A
step of a whole hour, pickups before returns, is no substitute: the returns at its end leave
hardly any station empty.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, pdtrc, xlogy

Floats = NDArray[np.float64]

TOLERANCE = 0.5
"""Trips; a stock that is expected to fail no more of them beyond the best is in the range."""


@dataclass(frozen=True, eq=False)
class Target:
    """The stock to set, in bikes.

    :param best: has the fewest expected failures; of several, the fewest bikes.
    :param low: … ``high``: the stocks that fail at most ``TOLERANCE`` trips more than the best,
        so that nobody crosses the city to carry a single bike.
    :param avoided: failures that the best avoids, by the stock that there is, [capacity + 1].
    """

    best: int
    low: int
    high: int
    avoided: Floats


def stock_distribution(
    bikes: int | NDArray[np.integer],
    capacity: int,
    pickups: NDArray[np.floating],
    returns: NDArray[np.floating],
) -> Floats:
    """The distribution of the stock at the end of each hour.

    :param bikes: in the station now, 0 … ``capacity``; of one station, or of many, [...].
    :param pickups: expected demand for bikes in each hour, [..., hours]; ``returns`` for docks.
    :returns: [..., hours, capacity + 1]; entry b is the probability of b bikes, so the first is
        that of an empty station and the last that of a full one.
    :raises ValueError: for bikes outside 0 … capacity.
    """
    stock = np.asarray(bikes)
    if (outside := stock[(stock < 0) | (stock > capacity)]).size:
        raise ValueError(f"{outside.flat[0]} bikes in a station of {capacity}")
    chances = (stock[..., None] == np.arange(capacity + 1)).astype(np.float64)
    hours = np.empty((*pickups.shape, capacity + 1))
    for hour in range(pickups.shape[-1]):
        out, back = pickups[..., hour], returns[..., hour]
        rider = np.swapaxes(_rider(out, back, capacity), -1, -2)
        count, _ = _riders(out + back)
        hours[..., hour, :] = chances = _mixed(chances[..., None], rider, count[..., None])
    return hours


def expected_failures(
    capacity: int, pickups: NDArray[np.floating], returns: NDArray[np.floating]
) -> Floats:
    """Riders who find no bike or no dock, by the stock at the beginning.

    Dynamic programming, from the last hour back to the first.

    :param pickups: expected demand for bikes in each hour, [..., hours]; ``returns`` for docks.
    :returns: trips over all hours, [..., capacity + 1]; entry b is for b bikes.
    """
    failures = np.zeros((*pickups.shape[:-1], capacity + 1))
    for hour in reversed(range(pickups.shape[-1])):
        out, back = pickups[..., hour], returns[..., hour]
        rider = _rider(out, back, capacity)
        # Who changes nothing fails: the chance of staying is that of a failure.
        fails = np.diagonal(rider, axis1=-2, axis2=-1)
        both = np.stack([failures, fails], axis=-1)
        failures = _mixed(both, rider, np.stack(_riders(out + back), axis=-1))
    return failures


def target(failures: Floats) -> Target:
    """The stock to set at a station.

    :param failures: expected, by the stock that is set, [capacity + 1].
    """
    avoided = failures - failures.min()
    near = np.flatnonzero(avoided <= TOLERANCE)
    return Target(int(failures.argmin()), int(near[0]), int(near[-1]), avoided)


def _rider(out: NDArray[np.floating], back: NDArray[np.floating], capacity: int) -> Floats:
    """What one rider does to the stock: the chance of going from b bikes to a, [..., b, a]."""
    demand = np.maximum(np.asarray(out + back, np.float64), np.finfo(float).tiny)
    moves = np.zeros((*demand.shape, capacity + 1, capacity + 1))
    bikes = np.arange(capacity)
    moves[..., bikes + 1, bikes] = (out / demand)[..., None]
    moves[..., bikes, bikes + 1] = (back / demand)[..., None]
    moves[..., 0, 0] += out / demand
    moves[..., -1, -1] += back / demand
    return moves


def _riders(demand: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Chances of exactly n riders in the hour, and of more than n, [n, ...], until all have come.

    The last n lies more than six deviations over the mean.
    """
    most = float(np.max(demand, initial=0))
    n = np.arange(int(most + 6 * most**0.5) + 12).reshape(-1, *[1] * np.ndim(demand))
    mu = np.asarray(demand, np.float64)
    return np.exp(xlogy(n, mu) - mu - gammaln(n + 1)), pdtrc(n, mu)


def _mixed(first: Floats, rider: Floats, weights: Floats) -> Floats:
    """The sum over n of ``weights`` [n, ..., k] times ``first`` [..., b, k] after n riders."""
    states = np.empty((len(weights), *first.shape))
    states[0] = first
    for n in range(1, len(weights)):
        np.matmul(rider, states[n - 1], out=states[n])
    return np.asarray(np.einsum("n...k,n...bk->...b", weights, states))
