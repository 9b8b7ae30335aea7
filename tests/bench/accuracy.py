"""The accuracy that the project promises, on the reference days of the New York panels.

`nox -s bench -- accuracy`, hours on one core; `python tests/bench/accuracy.py WORD…` for the
lines whose names hold one of the words. As many are evaluated at once as there are cores, with one
thread each. Exits 1 where a bar is missed. Nothing is chosen here: that is what tune.py is for,
which cannot load these days.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import hard_cases
import polars as pl
from new_york import REFERENCE, whole, with_weather

from bikecast.cli.backtest import DEFAULT_MODEL as CHAMPION
from bikecast.cli.terminal import print_table
from bikecast.evaluation import backtest, score_models
from bikecast.evaluation.bands import negative_binomial_pinball
from bikecast.history import History
from bikecast.models import MODELS
from bikecast.models.base import Grid

DAYS = 84
REFIT = 28
DAY_AHEAD, TWO_HOURS, WEEK = Grid(24, 24), Grid(2, 1), Grid(168, 24)

Scores = dict[str, Any]
Loader = Callable[[], History]


@dataclass(frozen=True)
class Bar:
    """A figure and what it must not exceed."""

    what: str
    figure: float
    most: float

    @property
    def held(self) -> bool:
        """Whether it does not."""
        return self.figure <= self.most


@dataclass(frozen=True)
class Line:
    """One line of the table: what is asked, the bars, and the reference's best figures beside.

    :param most: MAE and RMSE, where a bar is set; :param failures: trips, where one is.
    """

    name: str
    history: Loader
    grid: Grid
    reference: str
    most: tuple[float, float] | None = None
    failures: float | None = None


LINES = (
    Line("long, day-ahead", lambda: whole("long"), DAY_AHEAD, "3.859 / 6.605", (3.78, 6.45)),
    Line(
        "long, day-ahead, observed weather",
        lambda: with_weather(whole("long")),
        DAY_AHEAD,
        "3.472 / 5.903",
        (3.38, 5.75),
    ),
    Line("long, 1-2 h", lambda: whole("long"), TWO_HOURS, "3.282 / 5.314", (3.20, 5.20)),
    Line("long, 1-168 h", lambda: whole("long"), WEEK, ""),
    Line(
        "published, day-ahead",
        lambda: whole("published"),
        DAY_AHEAD,
        "3.957 / 6.923",
        (3.85, 6.75),
        119_000,
    ),
    Line("published, 1-2 h", lambda: whole("published"), TWO_HOURS, "3.371 / 5.650", (3.30, 5.55)),
)
"""The reference's figures are those of an untuned XGBoost, published beside the panels."""


def scored(history: History, grid: Grid) -> tuple[Scores, Scores, float]:
    """The champion's scores, the four-week mean's, and what its quantiles gain over a plain band.

    The backtest begins a fold earlier: the plain band's dispersion is fitted on it.
    """
    frames = {}
    for name in (CHAMPION, "mean4w"):
        frames[name] = backtest(
            history,
            MODELS[name],
            start=REFERENCE - timedelta(days=REFIT),
            days=DAYS + REFIT,
            grid=grid,
            refit_days=REFIT,
        )
    band = negative_binomial_pinball(frames[CHAMPION], history, REFERENCE, REFIT)
    window = pl.concat(
        frame.filter(pl.col("hour") >= REFERENCE).select(pl.lit(name).alias("model"), pl.all())
        for name, frame in frames.items()
    )
    found = score_models(window, history)
    return found[CHAMPION], found["mean4w"], band["gain_percent"]


def bars(line: Line, own: Scores, weekly: Scores, gain: float) -> Iterator[Bar]:
    """What a line must hold."""
    overall = own["overall"]
    if line.most is not None:
        yield Bar(f"{line.name}: MAE", overall["mae"], line.most[0])
        yield Bar(f"{line.name}: RMSE", overall["rmse"], line.most[1])
    yield Bar(f"{line.name}: miss of the quantiles", own["calibration"]["largest_miss"], 0.0)
    yield Bar(f"{line.name}: pinball to a plain band, %", -gain, -3.0)
    if "net_flow_mae" in overall:
        yield Bar(
            f"{line.name}: net flow, to the 4-week mean's",
            overall["net_flow_mae"],
            weekly["overall"]["net_flow_mae"],
        )
    if line.failures is not None:
        yield Bar(f"{line.name}: failed trips", overall["failed_trips"], line.failures)


def judged(place: int) -> tuple[list[str], list[Bar]]:
    """One line of the table, and its bars."""
    line = LINES[place]
    began = time.monotonic()
    own, weekly, gain = scored(line.history(), line.grid)
    overall, mean4w = own["overall"], weekly["overall"]
    row = [
        line.name,
        *(f"{overall[score]:.3f}" for score in ("mae", "rmse", "mae_q50")),
        line.reference,
        f"{mean4w['mae']:.3f} / {mean4w['rmse']:.3f}",
        f"{overall['coverage_80']:.3f}",
        f"{gain:.1f} %",
        f"{time.monotonic() - began:.0f}",
    ]
    print("\t".join(row), flush=True)
    return row, list(bars(line, own, weekly, gain))


def hard() -> list[Bar]:
    """Where forecasts are hard."""
    return [Bar(*case) for case in hard_cases.found(CHAMPION)]


def main(words: list[str]) -> None:
    """Evaluate, print, and hold against the bars."""
    asked = [i for i, line in enumerate(LINES) if not words or any(w in line.name for w in words)]
    if not asked and "hard" not in words:
        sys.exit(f"no line holds {' or '.join(words)}: {'; '.join(line.name for line in LINES)}")
    # A child that is spawned reads it before it loads what makes threads.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    held: list[Bar] = []
    rows = []
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = pool.map(judged, asked)
        cases = pool.submit(hard) if not words or "hard" in words else None
        for row, of_line in found:
            rows.append(row)
            held += of_line
        held += cases.result() if cases else []
    columns = ["", "MAE", "RMSE", "MAE of q50", "reference", "4-week mean", "in 80 %"]
    print_table("Reference days", [*columns, "pinball gain", "seconds"], rows)
    for bar in held:
        print(f"{'held  ' if bar.held else 'MISSED'}  {bar.what}: {bar.figure:.3f}, {bar.most:.3f}")
    sys.exit(0 if all(bar.held for bar in held) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
