"""Versions of the registered model, their scores, and the aliases that say who serves."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion as Registered
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from bikecast.errors import DiskFull, InputError, OtherRelease, Unavailable, UnknownName
from bikecast.evaluation.card import Card
from bikecast.evaluation.gate import Evidence, Loaded
from bikecast.evaluation.report.card import card_html
from bikecast.models.base import Explainable
from bikecast.records import ModelVersion, Promotion, System
from bikecast.registry import apart, artifacts
from bikecast.registry.cards import CARD, log_detail, read_card
from bikecast.registry.flavour import SIGNATURE, PanelModel

PRODUCTION = "production"
CHALLENGER = "challenger"

# What the pyfunc needs beside bikecast itself, which travels along as code.
REQUIREMENTS = ("numpy", "polars", "scipy", "pandas", "holidays", "statsmodels", "xgboost-cpu")

# What a model is loaded from here. Others take the code of bikecast as well, in some 170 files: a
# server that hangs would be waited for at each.
NEEDED = ("MLmodel", "python_model.pkl")

# What errors say of a disk that takes nothing: of a failed download MLflow hands on the text alone.
NO_ROOM = (
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
    "No usable temporary directory",
)


@dataclass(frozen=True)
class TrainingRun:
    """What is written down about one training.

    :param scores: entry of MODELS (and ``champion``) → score → value, on the same hours.
    :param pictures: file name → matplotlib figure.
    :param detail: its scores by part of these hours, for the model's card.
    :param evidence: what the gate looks at; without it no version passes.
    """

    system: System
    model: str
    params: dict[str, Any]
    scores: dict[str, dict[str, float]]
    data_from: str
    data_until: str
    data_hash: str
    commit: str = ""
    pictures: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None


class Registry:
    """One registered model in one MLflow.

    :param uri: a tracking server, or the URL of MLflow's own database.
    :param name: of the registered model.
    :param artifacts: folder for model files where MLflow has no server of its own.
    """

    def __init__(self, uri: str, name: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.name = name
        self.artifacts = artifacts
        # MLflow and Alembic narrate their set-up on stderr.
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with self._reaching():
            if uri.startswith("postgresql"):
                # MLflow itself would try for two minutes to reach a server that is not there.
                create_engine(uri, poolclass=NullPool).connect().close()
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(uri)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (SQLAlchemyError, MlflowException, OSError) as error:
            if any(words in str(error) for words in NO_ROOM):
                raise DiskFull(
                    f"no room left for the files of the model {self.name}",
                    hint="make room for temporary files (TMPDIR) and where MLflow keeps its own",
                ) from error
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise Unavailable(
                f"MLflow does not answer as it should: {first}",
                hint="check BIKECAST_MLFLOW_TRACKING_URI and that the server is up",
            ) from error

    def register(self, forecaster: Explainable, run: TrainingRun) -> ModelVersion:
        """Log a fitted forecaster with all that is known of its training; make it challenger."""
        with self._reaching():
            with mlflow.start_run(experiment_id=self._experiment(), run_name=run.model) as active:
                self._log(run)
                log_detail(forecaster, run.detail)
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=PanelModel(forecaster, run.system),
                    signature=SIGNATURE,
                    code_paths=[str(Path(__file__).parents[1])],
                    pip_requirements=list(REQUIREMENTS),
                )
            version = self._version_of(info, active.info.run_id)
            tags = {"model": run.model, "system_id": run.system.system_id}
            tags |= {"trained_until": run.data_until, "data_hash": run.data_hash}
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, version, key, value)
            self.client.set_registered_model_alias(self.name, CHALLENGER, version)
        registered = self.get(version)
        self.keep_card(registered)
        return registered

    def card(self, version: ModelVersion, moves: Sequence[Promotion] = ()) -> Card:
        """All that is known of a version.

        :param moves: of production, of which those to this version are told.
        """
        with self._reaching():
            return read_card(self.client, version, moves)

    def keep_card(self, version: ModelVersion, moves: Sequence[Promotion] = ()) -> None:
        """Leave its card with its run, as a page, in the place of an earlier one."""
        with self._reaching():
            page = card_html(read_card(self.client, version, moves))
            self.client.log_text(version.run_id, page, CARD)

    def _version_of(self, info: Any, run_id: str) -> str:
        if not self.client.search_registered_models(f"name='{self.name}'"):
            self.client.create_registered_model(self.name)
        # A server takes a logged model for a source only where it is told whose it is.
        made = self.client.create_model_version(
            self.name, info.model_uri, run_id=run_id, model_id=info.model_id
        )
        return str(made.version)

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        where = self.artifacts.resolve().as_uri() if self.artifacts else None
        return str(self.client.create_experiment(self.name, artifact_location=where))

    def _log(self, run: TrainingRun) -> None:
        mlflow.log_params({"model": run.model, **run.params})
        mlflow.set_tags(
            {
                "system_id": run.system.system_id,
                "data_from": run.data_from,
                "data_until": run.data_until,
                "data_hash": run.data_hash,
                "git_commit": run.commit or "unknown",
            }
        )
        mlflow.log_metrics(
            {f"{entry}.{score}": v for entry, s in run.scores.items() for score, v in s.items()}
        )
        mlflow.log_dict(run.scores, "scores.json")
        for name, figure in run.pictures.items():
            mlflow.log_figure(figure, name)
        if run.evidence is not None:
            artifacts.log_evidence(run.evidence)

    def versions(self) -> list[ModelVersion]:
        """All versions, the newest first; empty where nothing was ever registered."""
        with self._reaching():
            found = self.client.search_model_versions(f"name='{self.name}'")
            # The search leaves aliases out of what it returns.
            return [self.get(str(v.version)) for v in sorted(found, key=lambda v: -int(v.version))]

    def get(self, which: str) -> ModelVersion:
        """The version with this number or alias.

        :raises UnknownName: where there is none.
        """
        with self._reaching():
            return self._record(self._registered(which))

    def check_owner(self, system_id: str) -> None:
        """See that the registered model belongs to this system.

        :raises InputError: where its newest version was trained for another one.
        """
        newest = next(iter(self.versions()), None)
        if newest is not None and newest.system_id != system_id:
            raise InputError(
                f"the registered model {self.name} belongs to {newest.system_id}, not {system_id}",
                hint="give each system a name of its own in BIKECAST_MODEL_NAME",
            )

    def find(self, which: str) -> ModelVersion | None:
        """Like :meth:`get`, or None."""
        try:
            return self.get(which)
        except UnknownName:
            return None

    def in_production(self) -> str:
        """The number of the version in production, empty for none: one short question."""
        with self._reaching(), suppress(UnknownName):
            return str(self._registered(PRODUCTION).version)
        return ""

    def _registered(self, which: str) -> Registered:
        try:
            if which.isdecimal():
                return self.client.get_model_version(self.name, which)
            return self.client.get_model_version_by_alias(self.name, which)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise UnknownName(
                f"no version {which!r} of model {self.name}",
                hint="`bikecast model list` shows what there is; `bikecast train` makes one",
            ) from error

    def _record(self, found: Registered) -> ModelVersion:
        scores: dict[str, dict[str, float]] = {}
        for key, value in self.client.get_run(found.run_id).data.metrics.items():
            entry, _, score = key.partition(".")
            scores.setdefault(entry, {})[score] = value
        return ModelVersion(
            version=str(found.version),
            model=found.tags.get("model", ""),
            run_id=found.run_id,
            system_id=found.tags.get("system_id", ""),
            aliases=tuple(sorted(found.aliases)),
            trained_until=found.tags.get("trained_until", ""),
            data_hash=found.tags.get("data_hash", ""),
            scores=scores,
            previous=found.tags.get("previous", ""),
        )

    def load(self, version: ModelVersion) -> Explainable:
        """The fitted forecaster of a version.

        :raises OtherRelease: for one whose code or features this release does not have.
        :raises DiskFull: where its files find no room here.
        """
        try:
            # Into a folder of ours: MLflow leaves its own behind, and a refresher loads for years.
            with self._reaching(), TemporaryDirectory() as folder, _same_path():
                uri = f"models:/{self.name}/{version.version}"
                for file in NEEDED:
                    mlflow.artifacts.download_artifacts(f"{uri}/{file}", dst_path=folder)
                loaded = mlflow.pyfunc.load_model(folder)
            forecaster = loaded.unwrap_python_model().forecaster
            # What was a model once can be a part of one now, under the same name.
            if not isinstance(forecaster, Explainable):
                raise TypeError(f"its {type(forecaster).__name__} is no model here")
        except (AttributeError, ImportError, TypeError) as error:
            raise OtherRelease(
                f"version {version.version} of {self.name} was trained by another release: {error}",
                hint="train another: `bikecast train --promote`",
            ) from error
        return forecaster

    def evidence(self, version: ModelVersion) -> Evidence | None:
        """What its training left for the gate; None where it left nothing."""
        with self._reaching(), TemporaryDirectory() as folder:
            return artifacts.fetch_evidence(self.client, version.run_id, Path(folder))

    def load_apart(self, version: ModelVersion) -> Loaded:
        """Load a version and ask it in a process that knows nothing but the registry.

        :raises OtherRelease: where it cannot be loaded there, or not be asked.
        """
        return apart.load_apart(self.uri, self.name, version.version)

    def keep_answer(self, version: ModelVersion, document: dict[str, Any], page: str) -> None:
        """Keep what the gate said with the version's training run."""
        with self._reaching():
            self.client.log_dict(version.run_id, document, artifacts.ANSWER)
            self.client.log_text(version.run_id, page, artifacts.PAGE)

    def put_in_production(self, version: ModelVersion) -> ModelVersion:
        """Point the production alias at a version, and remember which one it replaced."""
        with self._reaching():
            now = self.find(PRODUCTION)
            if now is not None and now.version != version.version:
                self.client.set_model_version_tag(
                    self.name, version.version, "previous", now.version
                )
            self._point_production(version.version)
            # Asked anew: a training may have made another one challenger while this one was judged.
            with suppress(UnknownName):
                if str(self._registered(CHALLENGER).version) == version.version:
                    self.client.delete_registered_model_alias(self.name, CHALLENGER)
        return self.get(version.version)

    def put_back(self, version: ModelVersion) -> ModelVersion:
        """Point the production alias at an earlier version; its own way back stays as it was."""
        with self._reaching():
            self._point_production(version.version)
        return self.get(version.version)

    def _point_production(self, version: str) -> None:
        self.client.set_registered_model_alias(self.name, PRODUCTION, version)


@contextmanager
def _same_path() -> Iterator[None]:
    """Leave ``sys.path`` as it was: MLflow puts the code of a model first, in whichever folder.

    Whoever may make that folder again, once it is gone, could have us import what he likes.
    """
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
