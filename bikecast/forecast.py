"""Issue the forecast table: every station, every hour of the coming week, in one batch.

What the model saw is stored beside it, and the model itself: a forecast can be explained, and asked
anew with other weather, without its history and without a registry. It is kept of the week behind
the table as well, whose hours are asked for too seldom to be forecast before.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from bikecast.errors import DiskFull
from bikecast.features import NAMES, Features, sky_ahead
from bikecast.features.inputs import Inputs, inputs_of
from bikecast.history import History
from bikecast.models.base import Explainable
from bikecast.models.frames import forecast_frame
from bikecast.models.portable import pack
from bikecast.records import KEPT_HORIZON, MAX_HORIZON, Issue
from bikecast.registry import PRODUCTION, Registry
from bikecast.store import Store

OPEN_HOURS = 28 * 24

log = logging.getLogger(__name__)


def issue_forecast(
    store: Store,
    registry: Registry,
    system_id: str,
    now: datetime,
    room_later: Callable[[DiskFull], bool] = lambda error: False,
) -> Issue:
    """Forecast from the end of the data with the model in production, and store the table.

    Stations that saw no bike in the last four weeks are taken for closed and left out.

    Nothing is done where the newest table has the same model and the same data already, and its
    inputs as this release keeps them, which a table of an older one has not.

    :param now: wall clock with time zone; becomes ``issued_at``.
    :param room_later: asked where the database has no room for what was forecast, which took long;
        it waits as it likes, and says whether to try to store the same once more.
    :raises DiskFull: where it says no.
    """
    version = registry.get(PRODUCTION)
    zone = ZoneInfo(store.system(system_id).timezone)
    as_of = store.data_end(system_id).replace(tzinfo=zone)
    newest = store.newest_issue(system_id)
    if newest and _is_current(store, newest, version.version, as_of):
        return newest
    # Before the history, which is long to read: a model that cannot be had is asked for again soon.
    model = registry.load(version)
    history = store.history(system_id)
    origin = np.array([history.known])
    prediction = model.predict(history, origin, MAX_HORIZON)
    issue = Issue(
        system_id=system_id,
        issued_at=now,
        as_of=history.as_of.replace(tzinfo=zone),
        model=version.model,
        model_version=version.version,
        simulated=history.system.simulated,
    )
    frame = forecast_frame(prediction, history, origin).drop("origin")
    ids = open_stations(history)
    inputs = _inputs(model.inputs(history, origin, KEPT_HORIZON), history, ids)
    rows = frame.filter(pl.col("station_id").is_in(ids))
    kept = issue, rows, inputs, packed(model)
    while True:
        try:
            store.save_issue(*kept)
            break
        except DiskFull as error:
            if not room_later(error):
                raise
    saved = store.newest_issue(system_id)
    assert saved is not None
    return saved


def _is_current(store: Store, issue: Issue, model_version: str, as_of: datetime) -> bool:
    alike = issue.model_version == model_version and issue.as_of == as_of
    return alike and store.has_inputs(issue.issue_id)


def _inputs(seen: Features, history: History, ids: list[str]) -> dict[str, Inputs]:
    places = {s.station_id: i for i, s in enumerate(history.stations)}
    above = sky_ahead(history, history.known, KEPT_HORIZON)
    return {i: inputs_of(seen, NAMES, places[i], above) for i in ids}


def packed(model: Explainable) -> bytes | None:
    """The model as it is stored; None for one of a release that kept less of what it learned."""
    try:
        return pack(model)
    except AttributeError as error:
        log.warning("the forecast cannot be explained until the next training: %s", error)
        return None


def open_stations(history: History) -> list[str]:
    """The ids of the stations with a known hour in the last four weeks."""
    recent = history.flows[:, max(history.known - OPEN_HOURS, 0) : history.known]
    seen = np.flatnonzero(np.isfinite(recent).any(axis=(1, 2)))
    return [history.stations[i].station_id for i in seen]
