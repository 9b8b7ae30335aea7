"""All MLflow of the product: versions of one registered model, and who is in production."""

import os

# MLflow reads these when it is first imported; nobody's training run is reported to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from bikecast.registry.versions import CHALLENGER, PRODUCTION, Registry, TrainingRun  # noqa: E402

__all__ = ["CHALLENGER", "PRODUCTION", "Registry", "TrainingRun", "fail_soon"]


def fail_soon() -> None:
    """Let MLflow's client say within seconds that a server does not answer, unless it is set.

    By itself it tries for four minutes, with pauses of up to two: right for a training that ends,
    too long for who comes back in a few seconds anyway.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
