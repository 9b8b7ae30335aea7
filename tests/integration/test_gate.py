"""The gate on a real registry: evidence comes back, a version is loaded alone, the report stays."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import planted
import polars as pl
import pytest
from environments import make
from evidence import made_evidence
from polars.testing import assert_frame_equal

from bikecast.errors import OtherRelease, Unavailable
from bikecast.evaluation.gate import overall
from bikecast.evaluation.gate.loading import loading
from bikecast.history import build_history
from bikecast.models import MODELS, boosted, network
from bikecast.models.base import Grid
from bikecast.promote import Rule, validate
from bikecast.records import Promotion, System
from bikecast.registry import Registry, TrainingRun
from bikecast.registry.apart import SCRIPT

pytestmark = pytest.mark.integration

CITY = System("city", timezone="America/New_York")
DEV = Path(__file__).parents[2] / "deploy" / "locks" / "dev.txt"


def fitted():
    """A forecaster of three weeks of a station."""
    hours = [datetime(2018, 5, 1) + timedelta(hours=i) for i in range(24 * 21)]
    flows = {"pickups": [h.hour for h in hours], "returns": [23 - h.hour for h in hours]}
    forecaster = MODELS["mean4w"]()
    forecaster.fit(
        build_history(pl.DataFrame({"station_id": "a", "hour": hours, **flows}), CITY), Grid(24)
    )
    return forecaster


def run(evidence):
    """What is written down about a training."""
    scores = {"mean4w": {"mae": 1.0}}
    days = ("2018-05-01", "2018-05-22")
    return TrainingRun(CITY, "mean4w", {}, scores, *days, "abc", evidence=evidence)


@pytest.fixture
def registry(mlflow_url, tmp_path):
    """An empty registry."""
    return Registry(mlflow_url, "bike-demand-forecaster", tmp_path / "models")


def test_the_answer_stays_with_the_run_where_that_can_be_written(registry, tmp_path, monkeypatch):
    """As a page and as JSON; whoever may only read is told the same."""
    version = registry.register(fitted(), run(made_evidence("mean4w", leak=float("inf"))))
    back = registry.evidence(version)
    assert_frame_equal(back.rows, made_evidence("mean4w").rows)
    assert back.facts == made_evidence("mean4w", leak=float("inf")).facts
    move = Promotion(datetime.now(UTC), "promote", "", version.version, "ann", "winter is in it")
    verdict = validate(registry, version.version, Rule(strict=True), lambda: [move])
    assert verdict.kept and verdict.outcome == "reject"
    kept = registry.client.download_artifacts(version.run_id, "gate", str(tmp_path))
    document = json.loads((Path(kept) / "report.json").read_text())
    assert document == verdict.document() | {"checks": document["checks"]}
    assert [c["name"] for c in document["checks"]] == [c.name for c in verdict.checks]
    page = (Path(kept) / "report.html").read_text()
    assert "stays out of production" in page and "http://" not in page.replace("http://www.w3", "")
    card = registry.client.download_artifacts(version.run_id, "card.html", str(tmp_path))
    assert "Not validated" not in Path(card).read_text()
    assert "ann" in Path(card).read_text() and "winter is in it" in Path(card).read_text()

    def refused(*_):
        raise Unavailable("not yours to write")

    monkeypatch.setattr(registry, "keep_answer", refused)
    again = validate(registry, version.version, Rule(strict=True))
    assert not again.kept and again.checks == verdict.checks


def test_a_version_without_evidence_is_inconclusive(registry):
    """As an earlier release has left them."""
    version = registry.register(fitted(), run(None))
    verdict = validate(registry, version.version)
    assert verdict.outcome == "inconclusive"
    assert [c.name for c in verdict.checks if not c.passed] == ["evidence"]


def test_a_version_is_loaded_where_nothing_but_the_registry_is_known(registry, monkeypatch):
    """No setting of ours, no path of ours, and no address in a list of processes."""
    version = registry.register(fitted(), run(made_evidence("mean4w")))
    asked = []
    real = subprocess.run

    def watched(words, **more):
        asked.append((words, more["env"]))
        return real(words, **more)

    monkeypatch.setattr(subprocess, "run", watched)
    monkeypatch.setenv("BIKECAST_DATABASE_URL", "postgresql://secret@nowhere/none")
    found = registry.load_apart(version)
    [(words, environment)] = asked
    assert not any(registry.uri in word for word in words)
    assert not [name for name in environment if name.startswith(("BIKECAST_", "PYTHON"))]
    assert found.good == found.rows == found.asked == 96 and 1_000 < found.nbytes
    assert overall(loading(found)) == "promote"


def test_any_client_of_mlflow_can_load_a_version(registry, mlflow_url, tmp_path, monkeypatch):
    """With what the version says it requires, and without an installed bikecast."""
    for module, names, few in ((boosted, ("ROUNDS",), 20), (network, ("EPOCHS", "SEEDS"), 1)):
        for name in names:
            monkeypatch.setattr(module, name, few)
    forecaster = MODELS["ensemble"]()
    forecaster.fit(planted.city(), Grid(168, rows=5_000))
    version = registry.register(forecaster, run(None))
    (required,) = tmp_path.glob("models/**/requirements.txt")
    # The driver is this registry's; what it is pinned to, what all tests run with.
    words = ("psycopg2-binary", "-r", str(required), "-c", str(DEV))
    python = make(tmp_path / "environment", *words)
    folder = tmp_path / "files"
    folder.mkdir()
    done = subprocess.run(
        [python, "-I", "-c", SCRIPT, registry.name, version.version, folder],
        env={"PATH": os.environ["PATH"], "MLFLOW_TRACKING_URI": mlflow_url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["good"] == found["rows"] == found["asked"] == 96


def test_a_version_that_cannot_be_asked_is_refused(registry):
    """What is wrong with it is told."""
    forecaster = fitted()
    forecaster.alpha = None
    version = registry.register(forecaster, run(made_evidence("mean4w")))
    with pytest.raises(OtherRelease, match="cannot be loaded alone: "):
        registry.load_apart(version)
    verdict = validate(registry, version.version)
    no = [c.name for c in verdict.checks if c.outcome == "reject"]
    assert no == ["forecasts where it is loaded alone"]
