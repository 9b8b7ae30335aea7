"""Writes into a run's note where its model comes from, and what the gate said of it.

Tasks of Airflow 3 have no way to do so but the REST API, which would take a password; a listener in
the scheduler has the run in its hands.
"""

import json
import os
from typing import Any

from airflow.listeners import hookimpl
from airflow.models import DagRun
from airflow.models.xcom import XComModel
from airflow.plugins_manager import AirflowPlugin
from sqlalchemy import select
from sqlalchemy.orm import object_session

TRAINING = "model_training"


def result(run: DagRun, task: str) -> dict[str, Any]:
    """What a task of the run returned; empty where it has not."""
    asked = select(XComModel.value).where(
        XComModel.dag_id == run.dag_id,
        XComModel.run_id == run.run_id,
        XComModel.task_id == task,
        XComModel.key == "return_value",
    )
    value = object_session(run).scalars(asked).first()
    while isinstance(value, str):  # JSON, and the text in it, which is JSON again
        value = json.loads(value)
    return value or {}


def lineage(trained: dict[str, Any], judged: dict[str, Any], commit: str) -> str:
    """Some lines for people, in Markdown."""
    outcome = judged.get("outcome") or ("promote" if judged.get("passed") else "reject")
    facts = {
        "version": trained.get("version"),
        "model": trained.get("model"),
        "verdict": outcome if judged else "not judged",
        "data until": trained.get("trained_until"),
        "data hash": trained.get("data_hash"),
        "commit": commit,
        "MLflow run": trained.get("run_id"),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def write(run: DagRun) -> None:
    """Add the lineage to whatever the run's note says already."""
    trained = result(run, "train") if run.dag_id == TRAINING else {}
    if trained:
        said = lineage(trained, result(run, "validate"), os.environ.get("BIKECAST_COMMIT", ""))
        run.note = f"{run.note}\n\n{said}" if run.note else said


class Notes:
    """Told by the scheduler as runs end; what fails here is logged and fails no run."""

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        """A run of which every task ended well."""
        write(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """A run that may have trained a version all the same."""
        write(dag_run)


class BikecastPlugin(AirflowPlugin):
    """What Airflow finds here."""

    name = "bikecast"
    listeners = [Notes()]
