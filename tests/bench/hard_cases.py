"""Where forecasts are hard: a lockdown, new stations, and targets without any meaning."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from new_york import REFERENCE, before_reference, data_folder

from bikecast.evaluation import backtest
from bikecast.evaluation.scores import scored_rows
from bikecast.features import pairs, weekly_mean
from bikecast.history import Floats, History, build_history
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.records import System

DAY_AHEAD = Grid(24, 24)
NEW_DAYS, JUDGED_DAYS = 14, 28


def found(model: str) -> Iterator[tuple[str, float, float]]:
    """What was measured, and what it must not exceed."""
    yield from lockdown(model)
    yield new_stations(model)
    yield shuffled(model)


def lockdown(model: str) -> Iterator[tuple[str, float, float]]:
    """MAE in each month of Jersey City's 2020 beside that of the four-week mean."""
    panel = pl.read_parquet(data_folder() / "panel" / "jc2020_station_hourly.parquet")
    system = System("jersey-city", timezone="America/New_York", holidays="US-NJ")
    history = build_history(panel.select("station_id", "hour", "pickups"), system)
    by_month = [_by_month(history, name) for name in (model, "mean4w")]
    for month, ours in by_month[0].items():
        yield f"Jersey City, 2020-{month:02d}, to the 4-week mean's MAE", ours, by_month[1][month]


def _by_month(history: History, name: str) -> dict[int, float]:
    start = datetime(2020, 2, 1)
    days = (datetime(2021, 1, 1) - start).days
    frame = backtest(history, MODELS[name], start=start, days=days, grid=DAY_AHEAD, refit_days=28)
    rows = scored_rows(frame, history)
    errors = rows.group_by(pl.col("hour").dt.month()).agg(
        (pl.col("mean") - pl.col("actual")).abs().mean()
    )
    return dict(errors.sort("hour").iter_rows())


def new_stations(model: str) -> tuple[str, float, float]:
    """MAE at stations of two weeks' history, beside the others' mean profile by capacity.

    Every third station has its older past taken away.
    """
    history = before_reference()
    at = history.known - JUDGED_DAYS * 24
    new = np.arange(len(history.stations)) % 3 == 0
    new &= [bool(s.capacity) for s in history.stations]
    flows = history.flows.copy()
    flows[new, : at - NEW_DAYS * 24] = np.nan
    cut = replace(history, flows=flows)
    made = MODELS[model]()
    made.fit(cut.until(at), DAY_AHEAD)
    origins = np.arange(at, history.known, 24)
    ours = made.predict(cut, origins, 24).mean
    came = flows.transpose(1, 0, 2)[origins[:, None] + np.arange(24)]
    profile = _profile(cut, origins, new)
    own, theirs = (float(np.nanmean(np.abs(m - came)[:, :, new])) for m in (ours, profile))
    return "stations of two weeks, to the mean profile's MAE", own, theirs


def _profile(history: History, origins: np.ndarray, new: np.ndarray) -> Floats:
    """The other stations' four-week mean per dock, times each station's docks."""
    docks = np.array([s.capacity or np.nan for s in history.stations])
    mean = weekly_mean(history, *pairs(origins, 24), 4)
    per_dock = np.nansum(mean[:, ~new], axis=1) / np.nansum(docks[~new])
    return (per_dock[:, None] * docks[:, None]).reshape(len(origins), 24, len(docks), 2)


def shuffled(model: str) -> tuple[str, float, float]:
    """Skill where the hours of each station were shuffled in time: there is nothing to know.

    The best forecast is then each station's mean, known or not; a lower error would be a leak.
    """
    history = before_reference(REFERENCE - timedelta(days=200))
    rng = np.random.default_rng(1)
    flows = history.flows.copy()
    for station in range(len(flows)):
        flows[station, : history.known] = rng.permutation(flows[station, : history.known])
    mixed = replace(history, flows=flows)
    at = history.known - JUDGED_DAYS * 24
    made = MODELS[model]()
    made.fit(mixed.until(at), DAY_AHEAD)
    origins = np.arange(at, history.known, 24)
    came = flows.transpose(1, 0, 2)[origins[:, None] + np.arange(24)]
    errors = np.square(made.predict(mixed, origins, 24).mean - came)
    best = np.square(np.nanmean(flows[:, :at], axis=1)[None, None] - came)
    skill = 1 - float(np.sqrt(np.nanmean(errors) / np.nanmean(best)))
    return "skill on shuffled hours, by RMSE", skill, 0.01
