"""Explanations on demand: a station's stored inputs, asked of the model that made its forecast.

Where one cannot be had there is a reason in the place of the explanation.
"""

import logging
import math
import threading
from collections.abc import Sequence

import numpy as np

from bikecast.errors import InputError
from bikecast.explanation import HourExplanation, explain_hours
from bikecast.serve.stored import FAILED, OTHER_RELEASE, NotNow, Stored
from bikecast.serve.table import ForecastTable
from bikecast.serve.types import Flow, HourAhead

log = logging.getLogger(__name__)


class Explainer:
    """Explains forecasts of whatever table is current, a few requests at a time."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        # XGBoost may not be asked while another thread loads it or sets its parameters.
        self._asking = threading.Lock()

    def explain(
        self, table: ForecastTable, station: int, asked: Sequence[HourAhead]
    ) -> tuple[list[HourExplanation] | None, str | None]:
        """Explanations of some hours, or None and the reason.

        :param station: its place in the table; :param asked: its hours as they are forecast.
        """
        try:
            with self._stored.place():
                return self._explain(table, station, asked), None
        except NotNow as reason:
            return None, str(reason)
        except InputError as error:
            log.warning("no explanation: %s", error)
            return None, OTHER_RELEASE
        except Exception as error:  # whatever it is, riders get their forecast
            log.warning("no explanation: %s", error, exc_info=error)
            return None, FAILED

    def _explain(
        self, table: ForecastTable, station: int, asked: Sequence[HourAhead]
    ) -> list[HourExplanation]:
        inputs = self._stored.inputs(table.issue, table.stations[station].station_id)
        hours = np.array([hour["horizon_hours"] - 1 for hour in asked])
        means = np.array([[_mean(hour["pickups"]), _mean(hour["returns"])] for hour in asked])
        with self._asking:
            model = self._stored.model(table.issue)
            return explain_hours(model, inputs, hours, means)


def _mean(flow: Flow | None) -> float:
    return flow["mean"] if flow else math.nan
