"""Choose parameters, and see which ideas pay, on days before those that results are reported of.

`nox -s bench -- tune` tries them all, some two hours on 2 cores; `python tests/bench/tune.py NAME…`
some. All learn from 200,000 rows, so that it does not take a day; what all rows gain is a trial of
its own. As many are tried at once as there are cores, with one thread each.
The New York panel, day-ahead, two windows of 84 days in three folds: one with more than a year of
history before it, and one with half a year, as the published panel has. Two hours ahead for those
that are about the last hours.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from typing import Any
from unittest import mock

import numpy as np
from new_york import REFERENCE, before_reference, with_weather

from bikecast.cli.terminal import print_table
from bikecast.evaluation import backtest, score_overall
from bikecast.features import LONGER, NAMES, past
from bikecast.features.recent import NET_WINDOWS, SYSTEM_NOW
from bikecast.features.sky import RELATIVE
from bikecast.history import Floats, History
from bikecast.models import boosted, ensemble, learned, rows, statistical
from bikecast.models.base import Grid
from bikecast.models.ensemble import Ensemble
from bikecast.models.learned import Learner, LearnedForecaster, Task
from bikecast.models.rows import Rows

DAYS = 84
ROWS = 200_000
LONG, SHORT = datetime(2018, 4, 22), datetime(2017, 7, 17)
SHORT_END = datetime(2017, 10, 9)
DAY_AHEAD, TWO_HOURS = Grid(24, 24), Grid(2, 1)

Make = Callable[[Task], Learner]


class Without:
    """A learner that never sees some of the features."""

    def __init__(self, learner: Learner, names: tuple[str, ...]) -> None:
        self.learner, self.params = learner, learner.params
        self._columns = [NAMES.index(name) for name in names]

    def _blind(self, values: Floats) -> Floats:
        values = values.copy()
        values[:, self._columns] = np.nan
        return values

    def learn(self, rows: Rows, known: int) -> None:
        """Fit on the rows without those features."""
        self.learner.learn(replace(rows, values=self._blind(rows.values)), known)

    def means(self, values: Floats, level: Floats) -> Floats:
        """Means from the other features."""
        return self.learner.means(self._blind(values), level)


def without(*names: str) -> Make:
    """The ensemble without these features."""
    return lambda task: Without(Ensemble(task), names)


def strangers(task: Task) -> Ensemble:
    """The ensemble, whose networks tell no stations apart."""
    made = Ensemble(task)
    made.network._apart = False
    return made


@contextmanager
def setting(module: Any, **values: Any) -> Iterator[None]:
    """Other constants for a while."""
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def trees(**values: Any) -> Any:
    """Other parameters of the trees."""
    return setting(boosted, TREES={**boosted.TREES, **values})


def weights(*members: float) -> Any:
    """Other weights of trees, regression and level."""
    same = {name: members for name in dir(ensemble) if name.startswith("WEIGHTS")}
    return setting(ensemble, **same)


def nothing() -> Any:
    """All as it is."""
    return setting(learned)


# What is changed → (context in which it is, learner, windows on which it is tried).
BOTH = ("long", "short")
TRIALS: dict[str, tuple[Callable[[], Any], Make, tuple[str, ...]]] = {
    "as it is": (nothing, Ensemble, (*BOTH, "two hours", "weather")),
    "trees alone": (lambda: weights(1, 0, 0, 0), Ensemble, (*BOTH, "two hours", "weather")),
    "regression alone": (lambda: weights(0, 1, 0, 0), Ensemble, BOTH),
    "network alone": (lambda: weights(0, 0, 1, 0), Ensemble, (*BOTH, "two hours", "weather")),
    "level by shares alone": (lambda: weights(0, 0, 0, 1), Ensemble, BOTH),
    "weights .3 .2 .25 .25": (lambda: weights(0.3, 0.2, 0.25, 0.25), Ensemble, BOTH),
    "weights .7 .3 0 0": (lambda: weights(0.7, 0.3, 0, 0), Ensemble, BOTH),
    "weather of the hour alone": (nothing, without(*RELATIVE), ("weather",)),
    "no network knows a station": (nothing, strangers, ("two hours", "weather")),
    "no usual flows, no longer means": (nothing, without(*LONGER, "share"), BOTH),
    "nothing of the opposite flow": (
        nothing,
        without("log_other_level", *(n for n in NAMES if n.startswith("other_"))),
        (*BOTH, "two hours"),
    ),
    "nothing of the whole system": (
        nothing,
        without("share", *SYSTEM_NOW, *(n for n in NAMES if n.startswith("system_"))),
        (*BOTH, "two hours"),
    ),
    "no bikes gained": (nothing, without(*(f"net_{w}h" for w in NET_WINDOWS)), ("two hours",)),
    "no neighbours of holidays": (
        nothing,
        without(*(n for n in NAMES if n.endswith(("day_before", "day_after")))),
        BOTH,
    ),
    "no day of the year": (lambda: setting(learned, YEAR_DAYS=10**6), Ensemble, ("long",)),
    "day of the year from half a year on": (
        lambda: setting(learned, YEAR_DAYS=150),
        Ensemble,
        ("short",),
    ),
    "outages and absurd hours learned": (
        lambda: setting(past, OUTAGE=np.inf, MOST=(np.inf, np.inf)),
        Ensemble,
        BOTH,
    ),
    "half-life of 180 days": (lambda: setting(boosted, HALF_LIFE_DAYS=180), Ensemble, BOTH),
    "all days weigh alike": (lambda: setting(boosted, HALF_LIFE_DAYS=10**6), Ensemble, BOTH),
    "Tweedie loss": (lambda: trees(objective="reg:tweedie"), Ensemble, BOTH),
    "depth 4": (lambda: trees(max_depth=4), Ensemble, BOTH),
    "depth 8": (lambda: trees(max_depth=8), Ensemble, BOTH),
    "all columns for each tree": (lambda: trees(colsample_bytree=1.0), Ensemble, BOTH),
    "200 rounds": (lambda: setting(boosted, ROUNDS=200), Ensemble, BOTH),
    "800 rounds": (lambda: setting(boosted, ROUNDS=800), Ensemble, BOTH),
    "two hours: rounds and columns of a day": (
        lambda: setting(boosted, SHORT={}, SHORT_ROUNDS=boosted.ROUNDS),
        Ensemble,
        ("two hours",),
    ),
    "a million rows": (lambda: setting(sys.modules[__name__], ROWS=1_000_000), Ensemble, BOTH),
    "errors of every tenth day alone": (lambda: setting(rows, LAST_DAYS=0), Ensemble, BOTH),
    "intervals do not know how much an hour varied": (nothing, without("scatter"), BOTH),
    "regression without ridge": (lambda: setting(statistical, RIDGE=1e-9), Ensemble, ("long",)),
}


def window(name: str) -> tuple[History, datetime, Grid]:
    """The history, first day and grid of a window."""
    history = before_reference(SHORT_END if name == "short" else REFERENCE)
    if name == "weather":
        history = with_weather(history)
    start = SHORT if name == "short" else LONG
    return history, start, TWO_HOURS if name == "two hours" else DAY_AHEAD


def tried(name: str, where: str) -> list[str]:
    """One line of the table."""
    context, make, _ = TRIALS[name]
    history, start, grid = window(where)
    began = time.monotonic()
    with context():
        frame = backtest(
            history,
            lambda: LearnedForecaster("trial", make, most_rows=ROWS),
            start=start,
            days=DAYS,
            grid=grid,
            refit_days=28,
        )
    found = score_overall(frame, history)
    # Hours forecast one by one are no forecast of a day's net flow.
    scores = ("mae", "rmse", "net_flow_mae", "pinball")
    figures = [f"{found[score]:.3f}" if score in found else "" for score in scores]
    return [where, name, *figures, f"{time.monotonic() - began:.0f}"]


def main(names: list[str]) -> None:
    """Try and print."""
    asked = [(name, where) for name in names or TRIALS for where in TRIALS[name][2]]
    # A child that is spawned reads it before it loads what makes threads.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    lines = []
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for line in pool.map(tried, *zip(*asked, strict=True)):
            lines.append(line)
            print("\t".join(line), flush=True)
    columns = ["window", "what is changed", "MAE", "RMSE", "net flow", "pinball", "seconds"]
    print_table("Days before 2018-07-16", columns, sorted(lines, key=lambda line: line[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
