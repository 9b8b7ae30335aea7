"""A fitted forecaster as an MLflow pyfunc: a panel in, a forecast frame out."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from bikecast.history import build_history
from bikecast.models.base import Explainable
from bikecast.models.frames import forecast_frame
from bikecast.records import QUANTILE_COLUMNS, System

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec("string", "station_id"),
            ColSpec("datetime", "hour"),
            ColSpec("double", "pickups"),
            ColSpec("double", "returns"),
        ]
    ),
    outputs=Schema(
        [
            ColSpec("string", "station_id"),
            ColSpec("datetime", "hour"),
            ColSpec("string", "target"),
            *(ColSpec("float", name) for name in ("mean", *QUANTILE_COLUMNS)),
        ]
    ),
    params=ParamSchema([ParamSpec("horizon", "long", 24)]),
)


class PanelModel(PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Any MLflow client can load and ask this: recent hours in, the next hours out."""

    def __init__(self, forecaster: Explainable, system: System) -> None:
        self.forecaster = forecaster
        self.system = system

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast the hours after the last one of ``model_input`` (a panel, civil time)."""
        history = build_history(pl.from_pandas(model_input), self.system)
        horizon = int((params or {}).get("horizon", 24))
        origin = np.array([history.known])
        prediction = self.forecaster.predict(history, origin, horizon)
        return forecast_frame(prediction, history, origin).drop("origin").to_pandas()
