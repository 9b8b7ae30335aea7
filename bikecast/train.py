"""Train: compare every model on the last weeks, fit the best on everything, register it.

What every model forecast of these weeks goes to the registry too, as evidence for the gate.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import numpy as np

from bikecast.errors import BikecastError, InputError, OtherRelease
from bikecast.evaluation.detail import detail
from bikecast.evaluation.gate import (
    CHALLENGER,
    CHAMPION,
    NAIVE,
    WEEKLY,
    Evidence,
    Facts,
    Trial,
    as_good,
    beats_naive,
    facts_of,
    leak,
    rain_before,
    side_by_side,
    trial,
)
from bikecast.history import History, Ints
from bikecast.models import MODELS
from bikecast.models.base import Forecaster, Grid, Prediction
from bikecast.records import MAX_HORIZON, ModelVersion
from bikecast.registry import PRODUCTION, Registry, TrainingRun
from bikecast.store import Store

GATE_DAYS = 28
LEAST_DAYS = 28
# Every second midnight for the week ahead: each hour is forecast 3 or 4 times, 1 to 168 h ahead.
GATE_GRID = Grid(horizon=MAX_HORIZON, every=48)
SERVING_GRID = Grid(horizon=MAX_HORIZON, every=1)
# A week ahead MAE is 3.99 with so many, and 4.03 with the few (New York, before 2018-07-16).
ROWS, QUICK_ROWS = 600_000, 100_000

Make = Callable[[], Forecaster]
Progress = Callable[[float, float | None, str], None]


def data_hash(history: History) -> str:
    """A fingerprint of all that a model would learn from: stations, hours, flows, weather."""
    digest = hashlib.sha256()
    digest.update(repr((history.stations, history.start, history.known)).encode())
    digest.update(history.flows.tobytes())
    for since, values in history.weather.vintages if history.weather else ():
        digest.update(repr(since).encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def is_trained(store: Store, registry: Registry, system_id: str) -> bool:
    """Whether the version in production has learned from just the data that are there now."""
    version = registry.find(PRODUCTION)
    if version is None or version.system_id != system_id:
        return False
    return version.data_hash == data_hash(store.history(system_id))


@dataclass(frozen=True)
class AsItIs:
    """A fitted forecaster that is judged without being fitted again."""

    forecaster: Forecaster
    name: ClassVar[str] = CHAMPION

    def fit(self, history: History, grid: Grid) -> None:
        """Keep what was learned before."""

    def predict(self, history: History, origins: Ints, horizon: int) -> Prediction:
        """Forecast with what was learned before."""
        return self.forecaster.predict(history, origins, horizon)


def gate_window(history: History) -> tuple[datetime, int]:
    """First day and number of the recent days on which models are compared.

    Four weeks, or the last quarter of a history that is shorter than sixteen.

    :raises InputError: for a history of less than four weeks.
    """
    days = history.known // 24
    if days < LEAST_DAYS:
        raise InputError(
            f"{history.system.system_id} has {days} days of history, training needs {LEAST_DAYS}",
            hint="import more months",
        )
    window = min(GATE_DAYS, days // 4)
    return history.hour((days - window) * 24), window


def train(
    store: Store,
    registry: Registry,
    system_id: str,
    *,
    commit: str = "",
    quick: bool = False,
    progress: Progress = lambda done, total, detail: None,
) -> ModelVersion:
    """Compare every entry of MODELS on recent hours, fit the best on all of them, register it.

    They are compared as they are served, see :func:`as_served`. What is the best, :func:`chosen`
    tells.

    :param commit: the git commit of the code that trains.
    :param quick: learn from ``QUICK_ROWS``: sooner, and a little less accurate.
    """
    registry.check_owner(system_id)
    history = store.history(system_id)
    window = gate_window(history)
    rows = QUICK_ROWS if quick else ROWS
    champion = registry.find(PRODUCTION)
    makers = contenders(registry, champion, window[0])
    trials = tried(history, makers, window, rows, champion.model if champion else "", progress)
    best, evidence = chosen(history, trials, window, champion)
    if champion is not None:
        facts = replace(evidence.facts, champion_answers=answers(registry, champion))
        evidence = replace(evidence, facts=facts)
    judged = {name: found.scores for name, found in trials.items()}
    progress(len(makers), len(makers) + 1, f"fit of {best}")
    forecaster = MODELS[best]()
    forecaster.fit(history, replace(SERVING_GRID, rows=rows))
    run = TrainingRun(
        system=history.system,
        model=best,
        params=getattr(forecaster, "params", {}),
        scores=judged,
        data_from=history.start.isoformat(),
        data_until=history.as_of.isoformat(),
        data_hash=data_hash(history),
        commit=commit,
        pictures={"scores.png": picture(judged)},
        detail=detail(
            {n: t.parts for n, t in trials.items() if n in (best, NAIVE, CHAMPION)}, best
        ),
        evidence=evidence,
    )
    return registry.register(forecaster, run)


def as_served(history: History, window: tuple[datetime, int]) -> History:
    """What there was to forecast a window with: of its weather the forecasts that were stored.

    Without any, it is forecast without weather. What was observed later nobody knew.
    """
    if history.weather is None:
        return history
    first = history.index(window[0])
    return replace(history, weather=history.weather.foreseen(first, first + 24 * window[1]))


def contenders(
    registry: Registry, champion: ModelVersion | None, start: datetime
) -> dict[str, Make]:
    """Every entry of MODELS, and the champion itself where it has not seen the window."""
    found: dict[str, Make] = dict(MODELS)
    if champion and champion.trained_until <= start.isoformat():
        found[CHAMPION] = lambda: AsItIs(registry.load(champion))
    return found


def answers(registry: Registry, champion: ModelVersion) -> bool:
    """Whether this release can ask the champion."""
    try:
        registry.load(champion)
    except BikecastError as error:
        return not isinstance(error, OtherRelease)
    return True


def tried(
    history: History,
    makers: dict[str, Make],
    window: tuple[datetime, int],
    rows: int,
    recipe: str,
    progress: Progress,
) -> dict[str, Trial]:
    """A trial of each contender on the window, fitted before it, from as many rows as later.

    :param recipe: the champion's entry in MODELS; where the champion itself has seen the window,
        or is of another release, its recipe stands for it.
    """
    found: dict[str, Trial] = {}
    seen = as_served(history, window)
    for i, (name, make) in enumerate(makers.items()):
        progress(i, len(makers) + 1, f"backtest of {name}")
        try:
            found[name] = trial(seen, make, *window, replace(GATE_GRID, rows=rows))
        except InputError:
            # A champion of another release cannot be asked any more.
            if name != CHAMPION:
                raise
        _forget(found, {NAIVE, WEEKLY, recipe, best_of(found)})
    if CHAMPION not in found and recipe in found:
        found[CHAMPION] = found[recipe]
    return found


def best_of(trials: dict[str, Trial]) -> str:
    """The entry of MODELS with the lowest RMSE but for naive; empty where there is none yet."""
    learned = (n for n in trials if n in MODELS and n != NAIVE)
    return min(learned, key=lambda n: trials[n].scores["rmse"], default="")


def chosen(
    history: History,
    trials: dict[str, Trial],
    window: tuple[datetime, int],
    champion: ModelVersion | None,
) -> tuple[str, Evidence]:
    """The entry of MODELS that is fitted on everything, and what the gate will look at.

    It has the lowest RMSE. Where it does not err less than naive beyond doubt and there is no
    champion, naive is taken; where it could not take the champion's place, the champion's recipe:
    with newer data that is a gain, and another recipe would be held against it in vain every week.
    """
    best = best_of(trials) or NAIVE
    evidence = gathered(history, trials, best, window, champion)
    other = best
    if champion is None:
        other = best if beats_naive(evidence) else NAIVE
    elif champion.model in trials.keys() - {best} and not as_good(evidence):
        other = champion.model
    if other == best:
        return best, evidence
    return other, gathered(history, trials, other, window, champion)


def _forget(trials: dict[str, Trial], needed: set[str]) -> None:
    """Let forecasts go that nobody will look at: each row takes some 50 bytes."""
    for name in trials.keys() & (MODELS.keys() - needed):
        trials[name] = replace(trials[name], frame=trials[name].frame.clear())


def gathered(
    history: History,
    trials: dict[str, Trial],
    best: str,
    window: tuple[datetime, int],
    champion: ModelVersion | None,
) -> Evidence:
    """What the gate will look at."""
    roles = {r: trials[r] for r in (CHAMPION, NAIVE, WEEKLY) if r in trials}
    roles[CHALLENGER] = trials[best]
    facts = Facts(
        model=best,
        start=window[0].isoformat(),
        days=window[1],
        data_until=history.as_of.isoformat(),
        scores={role: found.scores for role, found in roles.items()},
        champion=champion.version if champion else "",
        champion_until=champion.trained_until if champion else "",
        leak=leak(as_served(history, window), trials[best].forecaster, *window),
        rain_before=rain_before(history, window[0]),
        **facts_of(history),
    )
    return Evidence(side_by_side(roles, history, window[0]), facts)


def picture(judged: dict[str, dict[str, float]]) -> Any:
    """MAE and RMSE of every contender as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(judged))
    for i, score in enumerate(("mae", "rmse")):
        axes.bar(at + 0.4 * i - 0.2, [s[score] for s in judged.values()], 0.4, label=score.upper())
    axes.set_xticks(at, list(judged))
    axes.set_ylabel("bikes per station-hour")
    axes.legend()
    return figure
