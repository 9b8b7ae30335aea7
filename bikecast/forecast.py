"""Issue the forecast table: every station, every hour of the coming week, in one batch."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from bikecast.history import History
from bikecast.models.frames import forecast_frame
from bikecast.records import MAX_HORIZON, Issue
from bikecast.registry import PRODUCTION, Registry
from bikecast.store import Store

OPEN_HOURS = 28 * 24


def issue_forecast(store: Store, registry: Registry, system_id: str, now: datetime) -> Issue:
    """Forecast from the end of the data with the model in production, and store the table.

    Stations that saw no bike in the last four weeks are taken for closed and left out.

    Nothing is done where the newest table has the same model and the same data already.

    :param now: wall clock with time zone; becomes ``issued_at``.
    """
    version = registry.get(PRODUCTION)
    history = store.history(system_id)
    as_of = _with_zone(history)
    newest = store.newest_issue(system_id)
    if newest and newest.model_version == version.version and newest.as_of == as_of:
        return newest
    origin = np.array([history.known])
    prediction = registry.load(version).predict(history, origin, MAX_HORIZON)
    issue = Issue(
        system_id=system_id,
        issued_at=now,
        as_of=as_of,
        model=version.model,
        model_version=version.version,
        simulated=history.system.simulated,
    )
    frame = forecast_frame(prediction, history, origin).drop("origin")
    store.save_issue(issue, frame.filter(pl.col("station_id").is_in(open_stations(history))))
    saved = store.newest_issue(system_id)
    assert saved is not None
    return saved


def open_stations(history: History) -> list[str]:
    """The ids of the stations with a known hour in the last four weeks."""
    recent = history.flows[:, max(history.known - OPEN_HOURS, 0) : history.known]
    seen = np.flatnonzero(np.isfinite(recent).any(axis=(1, 2)))
    return [history.stations[i].station_id for i in seen]


def _with_zone(history: History) -> datetime:
    return history.as_of.replace(tzinfo=ZoneInfo(history.system.timezone))
