"""Rolling-origin backtests: what would have been forecast, from what was known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from bikecast.errors import InputError
from bikecast.history import History, Ints
from bikecast.models.base import Forecaster, Grid
from bikecast.models.frames import forecast_frame
from bikecast.records import MAX_HORIZON, TARGETS

Make = Callable[[], Forecaster]


@dataclass(frozen=True)
class Fold:
    """Origins that one fit forecasts from, and the hours of them that count.

    :param fitted_at: grid index; the fit sees nothing at or after it.
    :param first: first target hour of the fold, ``stop`` the first after it (grid indices).
    """

    fitted_at: int
    origins: Ints
    first: int
    stop: int


def folds(history: History, start: datetime, days: int, grid: Grid, refit_days: int) -> list[Fold]:
    """Split a window into folds of ``refit_days``, with every origin that reaches into each.

    :raises InputError: for a horizon outside 1 … 168, an ``every`` that does not divide the day,
        or a window that the history does not cover.
    """
    _check(history, start, days, grid, refit_days)
    first, stop = history.index(start), history.index(start) + days * 24
    origins = np.arange(_grid_floor(first - grid.horizon, grid.every), stop, grid.every)
    origins = origins[(origins + grid.horizon > first) & (origins > 0)]
    found = []
    for begin in range(first, stop, refit_days * 24):
        end = min(begin + refit_days * 24, stop)
        # An origin belongs to the fold in which it lies; those before the window to the first.
        lower = -1 if begin == first else begin
        inside = origins[(origins >= lower) & (origins < end)]
        if len(inside):
            found.append(Fold(int(inside[0]), inside, first, stop))
    return found


def _grid_floor(index: int, every: int) -> int:
    return index // every * every


def _check(history: History, start: datetime, days: int, grid: Grid, refit_days: int) -> None:
    if not 1 <= grid.horizon <= MAX_HORIZON:
        raise InputError(f"horizon is {grid.horizon}", hint=f"choose 1 to {MAX_HORIZON} hours")
    if grid.every < 1 or (24 % grid.every and grid.every % 24):
        raise InputError(
            f"an origin every {grid.every} hours drifts through the day",
            hint="choose a divisor or a multiple of 24",
        )
    if days < 1 or refit_days < 1:
        raise InputError("days and refit days start at 1", hint="choose at least one day")
    end = start + timedelta(days=days)
    if start <= history.start or end > history.as_of:
        raise InputError(
            f"the window {start:%Y-%m-%d} … {end:%Y-%m-%d} is not inside the history, "
            f"{history.start:%Y-%m-%d} … {history.as_of:%Y-%m-%d}",
            hint="choose --start and --days inside it",
        )


def backtest(
    history: History,
    make: Make,
    *,
    start: datetime,
    days: int,
    grid: Grid,
    refit_days: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Forecast every hour of the window from every origin of the grid that reaches it.

    Each fold's model is fitted anew on what was known at the fold's first origin.

    :param start: first day of the window, local midnight.
    :returns: ``origin`` and the forecast columns; with observed weather, ``hindsight`` as well.
    """
    split = folds(history, start, days, grid, refit_days)
    frames = []
    for i, fold in enumerate(split):
        on_progress(i, len(split))
        model = make()
        model.fit(history.until(fold.fitted_at), grid)
        frames += list(_forecasts(history, model, fold, grid.horizon))
    on_progress(len(split), len(split))
    found = pl.concat(frames)
    if history.weather is not None and history.weather.hindsight:
        found = found.with_columns(hindsight=True)
    return found


def _forecasts(
    history: History, model: Forecaster, fold: Fold, horizon: int
) -> Iterator[pl.DataFrame]:
    first, stop = history.hour(fold.first), history.hour(fold.stop)
    # As many origins at once as keep the arrays of one call small.
    size = max(1, 4_000_000 // (horizon * len(history.stations) * len(TARGETS) * 8))
    for i in range(0, len(fold.origins), size):
        origins = fold.origins[i : i + size]
        frame = forecast_frame(model.predict(history, origins, horizon), history, origins)
        yield frame.filter(pl.col("hour").is_between(first, stop, closed="left"))
