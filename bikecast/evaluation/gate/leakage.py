"""Whether a forecast looks at what comes after its origin."""

from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np

from bikecast.evaluation.gate.checks import Check
from bikecast.history import History, Ints
from bikecast.models.base import Forecaster

MOST: Final = 1e-5
"""Relative change of a forecast that is let pass: what float32 rounds."""
SEED: Final = 7
HORIZON: Final = 48


def leak(history: History, forecaster: Forecaster, start: datetime, days: int) -> float:
    """The largest relative change of a forecast when all that comes after its origin is altered.

    Asked a third and two thirds into the window, so that there is much to look at.

    :param forecaster: fitted before the window; ``start`` is its first day, local midnight.
    :returns: ``inf`` where a forecast appears or disappears.
    """
    first = history.index(start)
    origins = [np.array([first + days * part // 3 * 24]) for part in (1, 2)]
    return max(_change(history, forecaster, origin) for origin in origins)


def leakage(change: float | None) -> Check:
    """The gate's answer to what :func:`leak` found; None where it was not looked for."""
    name = "forecasts do not look ahead"
    if change is None:
        return Check(name, "inconclusive", "it was not looked for; train anew")
    if change <= MOST:
        return Check(
            name, "promote", "they stay when all later hours are altered", {"change": change}
        )
    return Check(
        name,
        "reject",
        "they change when hours after their origin are altered",
        {"change": change if np.isfinite(change) else None},
    )


def _change(history: History, forecaster: Forecaster, origin: Ints) -> float:
    as_it_was = forecaster.predict(history, origin, HORIZON)
    altered = forecaster.predict(_altered(history, int(origin[0])), origin, HORIZON)
    pairs = ((as_it_was.mean, altered.mean), (as_it_was.quantiles, altered.quantiles))
    largest = 0.0
    for one, other in pairs:
        if not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return float("inf")
        change = np.abs(one - other) / np.maximum(np.abs(one), 1)
        largest = max(largest, float(np.nanmax(change, initial=0)))
    return largest


def _altered(history: History, origin: int) -> History:
    """The same with nonsense in place of all that was not known at an origin."""
    rng = np.random.default_rng(SEED)
    flows = history.flows.copy()
    flows[:, origin:] = rng.choice(np.array([0, 9999, np.nan], np.float32), flows[:, origin:].shape)
    censored = None if history.censored is None else history.censored.copy()
    if censored is not None:
        censored[:, origin:] = rng.random(censored[:, origin:].shape) < 0.5
    weather = history.weather
    if weather is not None:
        vintages = tuple(
            (since, np.full_like(values, 9999) if since > origin else values)
            for since, values in weather.vintages
        )
        weather = replace(weather, vintages=vintages)
    return replace(history, flows=flows, censored=censored, weather=weather)
