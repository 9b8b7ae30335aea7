"""All MLflow of the product: versions of one registered model, and who is in production."""

import os

# MLflow reads these when it is first imported; nobody's training run is reported to anyone, and
# stdout is for what was asked: with a server it prints there where a run is to be seen.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from bikecast.registry.versions import CHALLENGER, PRODUCTION, Registry, TrainingRun  # noqa: E402

__all__ = ["CHALLENGER", "PRODUCTION", "Registry", "TrainingRun", "fail_soon"]


# A server that takes the question and does not answer it is asked once more, and again.
NO_ANSWER_AFTER = "10"  # seconds
TRIES_AGAIN = "2"


def fail_soon() -> None:
    """Let MLflow's client say within a minute that a server does not answer, unless it is set.

    By itself it tries for four minutes, with pauses of up to two, and waits two for each answer:
    right for a training that ends, too long for who comes back in a few seconds anyway. Where
    nothing listens it is said within seconds.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", TRIES_AGAIN)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", NO_ANSWER_AFTER)
