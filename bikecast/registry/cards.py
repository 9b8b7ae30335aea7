"""What MLflow keeps for a model's card."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow
from mlflow import MlflowClient

from bikecast.evaluation.card import Card
from bikecast.features.groups import GROUPS
from bikecast.models.base import Explainable
from bikecast.models.naive import WeeklyMean
from bikecast.records import ModelVersion, Promotion

CARD: Final = "card.html"
DETAIL: Final = "scores_detail.json"
FEATURES: Final = "features.json"
GATE: Final = "gate/report.json"


def log_detail(forecaster: Explainable, detail: dict[str, Any]) -> None:
    """Keep with the active run what else a card tells."""
    # Means of past weeks learn from no feature.
    mlflow.log_dict({} if isinstance(forecaster, WeeklyMean) else GROUPS, FEATURES)
    if detail:
        mlflow.log_dict(detail, DETAIL)


def read_card(client: MlflowClient, version: ModelVersion, moves: Sequence[Promotion]) -> Card:
    """All that is known of a version; of one that an older release registered it is less."""
    run = client.get_run(version.run_id)
    tags = run.data.tags
    there = _paths(client, version.run_id)
    found = {
        path: _document(client, version.run_id, path)
        for path in (DETAIL, FEATURES, GATE)
        if path in there
    }
    return Card(
        version=version,
        trained_at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        data_from=tags.get("data_from", ""),
        data_until=tags.get("data_until", ""),
        commit=tags.get("git_commit", ""),
        params=run.data.params,
        features=found.get(FEATURES) or {},
        detail=found.get(DETAIL),
        gate=found.get(GATE),
        moves=tuple(m for m in moves if m.to_version == version.version),
    )


def _paths(client: MlflowClient, run_id: str) -> set[str]:
    """The artifacts that may be of use, asked for by two short questions."""
    folder = GATE.partition("/")[0]
    top = {found.path for found in client.list_artifacts(run_id)}
    return top | (
        {f.path for f in client.list_artifacts(run_id, folder)} if folder in top else set()
    )


def _document(client: MlflowClient, run_id: str, path: str) -> Any:
    with TemporaryDirectory() as folder:
        return json.loads(Path(client.download_artifacts(run_id, path, folder)).read_text())
