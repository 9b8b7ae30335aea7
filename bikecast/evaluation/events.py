"""Scores of probabilities: a station is empty or is not, it is full or is not."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def brier(probability: Floats, happened: Floats) -> float:
    """The mean squared error of probabilities; 0 is perfect, and always 0.5 gets 0.25.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review
    78(1), 1950.

    :param happened: 1 or 0.
    """
    return float(np.square(probability - happened).mean())


def skill(score: float, reference: float) -> float:
    """The share of a reference's Brier score that a forecast saves; negative where it is worse."""
    return 1 - score / reference


def reliability(probability: Floats, happened: Floats, bins: int = 10) -> pl.DataFrame:
    """What came of the forecasts, by what was forecast: ``forecast``, ``happened``, ``n``.

    :param bins: of equal width from 0 to 1; one without a forecast has no row.
    :returns: the mean probability, the share that happened, and the number of each bin.
    """
    frame = pl.DataFrame({"forecast": probability, "happened": happened})
    place = (pl.col("forecast") * bins).floor().clip(0, bins - 1).alias("bin")
    means = frame.group_by(place).agg(pl.col("forecast", "happened").mean(), n=pl.len())
    return means.sort("bin").drop("bin")
