"""How many bikes a station will hold: the distribution of its stock through the coming hours.

The stock is a Markov chain from hour to hour, censored at 0 and at the capacity: a pickup that
finds no bike and a return that finds no dock do not happen. With Poisson demand this is the
model of Raviv and Kolka, "Optimal inventory management of a bike-sharing station", IIE
Transactions 45(10), 2013, in hourly steps, pickups before returns within the hour.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, pdtrc

Chances = NDArray[np.float64]


def stock_distribution(
    bikes: int, capacity: int, pickups: NDArray[np.floating], returns: NDArray[np.floating]
) -> Chances:
    """The distribution of the stock at the end of each hour.

    :param bikes: in the station now, 0 … ``capacity``.
    :param pickups: expected demand for bikes in each hour, [hours]; ``returns`` for docks.
    :returns: [hours, capacity + 1]; entry b is the probability of b bikes, so the first is that
        of an empty station and the last that of a full one.
    :raises ValueError: for bikes outside 0 … capacity.
    """
    if not 0 <= bikes <= capacity:
        raise ValueError(f"{bikes} bikes in a station of {capacity}")
    chances = np.zeros(capacity + 1)
    chances[bikes] = 1.0
    hours = []
    for out, back in zip(pickups, returns, strict=True):
        chances = chances @ _fall(float(out), capacity)
        # Returns into a station are pickups of its free docks.
        chances = chances @ _fall(float(back), capacity)[::-1, ::-1]
        hours.append(chances)
    return np.array(hours)


def _fall(demand: float, capacity: int) -> Chances:
    """From b bikes to what demand leaves of them: [before, after], rows sum to 1."""
    n = np.arange(capacity + 1)
    counts = np.exp(n * np.log(max(demand, 1e-12)) - demand - gammaln(n + 1))
    before, after = np.indices((capacity + 1, capacity + 1))
    step = np.where(after <= before, counts[np.abs(before - after)], 0.0)
    # All demand that the bikes cannot meet ends at zero.
    step[0, 0] = 1.0
    step[1:, 0] = pdtrc(n[:-1], demand)
    return step
