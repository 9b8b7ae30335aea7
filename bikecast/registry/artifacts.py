"""The files of a training run that the gate reads and writes."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow
import polars as pl

from bikecast.evaluation.gate import Evidence, facts_document, facts_from

ROWS: Final = "gate/evidence.parquet"
FACTS: Final = "gate/evidence.json"
ANSWER: Final = "gate/report.json"
PAGE: Final = "gate/report.html"
LEFT: Final = "evidence"
"""Tag of the runs that left some: files that cannot be had now are not files that never were."""


def log_evidence(evidence: Evidence) -> None:
    """Keep it with the active run."""
    mlflow.set_tag(LEFT, "yes")
    mlflow.log_dict(facts_document(evidence.facts), FACTS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(ROWS).name
        evidence.rows.write_parquet(path, compression="zstd")
        mlflow.log_artifact(str(path), str(Path(ROWS).parent))


def fetch_evidence(client: Any, run_id: str, folder: Path) -> Evidence | None:
    """The inverse, by way of a folder; None where there is none.

    :raises InputError: for facts that lack what this release needs.
    """
    run = client.get_run(run_id)
    if LEFT not in run.data.tags:
        return None
    # By the address: by the run's id MLflow keeps to itself why a file cannot be had.
    path, facts = (
        mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/{name}", dst_path=str(folder))
        for name in (ROWS, FACTS)
    )
    return Evidence(pl.read_parquet(path), facts_from(json.loads(Path(facts).read_text())))
