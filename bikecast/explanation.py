"""Why a forecast is what it is: factors in words, whose product with the level is the forecast."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

# typing's own cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from bikecast.errors import InputError
from bikecast.features import NAMES
from bikecast.features.groups import GROUPS
from bikecast.features.inputs import Inputs
from bikecast.history import Floats, Ints

if TYPE_CHECKING:
    # The service explains seldom, and models take two seconds to be imported.
    from bikecast.models.base import Explainable

BALANCE = "balance"
"""The last factor, where the forecast was changed after the model: to what it was changed by."""
LAST_DECIMAL = 0.000501
PRECISION = 1e-4
"""What comes nearer to the forecast than half of the last of its three decimals, or than models
promise of their factors, needs no balance."""


class Factor(TypedDict):
    """What one group of features multiplies the forecast by."""

    group: str
    factor: float


class Explanation(TypedDict):
    """``level`` in bikes, times all ``factors``, is the forecast; the strongest come first."""

    level: float
    factors: list[Factor]


class HourExplanation(TypedDict):
    """Of both targets; None for one without a forecast."""

    pickups: Explanation | None
    returns: Explanation | None


def explain_hours(
    model: "Explainable", inputs: Inputs, hours: Ints, means: NDArray[np.floating]
) -> list[HourExplanation]:
    """Why some hours of a station are forecast as they are.

    :param hours: places on the first axis of the inputs, which the model must have made.
    :param means: the forecasts as they are shown, [hours, targets], NaN where there is none.
    :raises InputError: for inputs of a release with other features.
    """
    if inputs.names != NAMES:
        raise InputError(
            "the forecast was issued by a release with other features",
            hint="issue it anew: `bikecast forecast`",
        )
    values, level = inputs.values[hours], inputs.level[hours]
    logs = model.explain(values.reshape(-1, len(NAMES)), level.ravel())
    logs = logs.reshape(*level.shape, len(GROUPS))
    both = [
        [
            None if math.isnan(mean) else explanation(start, factors, mean)
            for start, factors, mean in zip(*hour, strict=True)
        ]
        for hour in zip(level.tolist(), logs, means.tolist(), strict=True)
    ]
    return [{"pickups": pickups, "returns": returns} for pickups, returns in both]


def explanation(level: float, logs: Floats, mean: float) -> Explanation:
    """The explanation of one forecast.

    :param logs: logarithms of the factors of ``GROUPS``.
    :param mean: the forecast as it is shown; what is missing to it is the balance.
    """
    level = _rounded(level)
    strongest = np.argsort(-np.abs(logs), kind="stable")
    shown = [(list(GROUPS)[i], _rounded(math.exp(logs[i]))) for i in strongest]
    factors = [Factor(group=group, factor=factor) for group, factor in shown if factor != 1]
    product = level * math.prod(f["factor"] for f in factors)
    if not math.isclose(product, mean, rel_tol=PRECISION, abs_tol=LAST_DECIMAL):
        factors.append({"group": BALANCE, "factor": _rounded(mean / product)})
    return {"level": level, "factors": factors}


def _rounded(value: float) -> float:
    """To seven digits, all that float32 has."""
    return float(f"{value:.7g}")
