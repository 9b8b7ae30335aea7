"""Why a number is what it is, and that the number comes also where that cannot be told."""

import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from fakes import FakeSource, fails, published
from made_up import small_history
from packaging.requirements import Requirement
from pydantic import TypeAdapter

from bikecast.features.inputs import Inputs
from bikecast.models import MODELS, boosted
from bikecast.models.base import Grid
from bikecast.models.portable import pack
from bikecast.serve import stored
from bikecast.serve.current import CurrentTable
from bikecast.serve.explain import Explainer
from bikecast.serve.stored import AT_ONCE, Stored
from bikecast.serve.table import build_table
from bikecast.serve.types import ExplainedForecast, ExplainedPrediction

TESTS = Path(__file__).parents[1]
UNKNOWN = SimpleNamespace(name="prophet", portable=dict)
TWICE = [{"group": "weather", "factor": 2.0}]


class Lacking(FakeSource):
    """A source that can be told what its inputs and its model are, or why there are none."""

    def __init__(self, **found):
        super().__init__(published())
        self.found = found
        self.asked = 0

    def inputs(self, issue, station_id):
        """As told."""
        return self._give("inputs", super().inputs(issue, station_id))

    def packed_model(self, issue):
        """As told."""
        self.asked += 1
        return self._give("model", super().packed_model(issue))

    def _give(self, name, usual):
        told = self.found.get(name, lambda: usual)
        return told()


def explainer_of(source):
    """An explainer of a source's table, and that table."""
    current = CurrentTable(source)
    current.refresh()
    return Explainer(Stored(current)), current.table


def hours(table, *steps):
    """Some hours of the first station as they are forecast."""
    found = [(step, *table.flows(0, step)) for step in steps]
    return [
        {"horizon_hours": table.horizon(step), "pickups": pickups, "returns": returns}
        for step, pickups, returns in found
    ]


def test_a_prediction_is_explained_where_that_is_asked_for(client):
    """The level times the factors is the forecast; all else is as without."""
    plain = client.post("/predict", json={"station_id": "B", "timestamp": "2018-07-16T05:00"}).json
    answer = client.post(
        "/predict?explain=true", json={"station_id": "B", "timestamp": "2018-07-16T05:00"}
    ).json
    TypeAdapter(ExplainedPrediction).validate_python(answer, strict=True)
    assert answer == plain | {
        "explanation": {
            "pickups": {"level": 3.5, "factors": TWICE},
            "returns": {"level": 3.75, "factors": TWICE},
        },
        "explanation_reason": None,
    }


def test_a_stations_hours_are_explained_each(client):
    """As many as are asked for."""
    answer = client.get("/stations/old-A/forecast?hours=3&explain=true").json
    TypeAdapter(ExplainedForecast).validate_python(answer, strict=True)
    levels = [h["explanation"]["pickups"]["level"] for h in answer["forecast"]]
    assert levels == [1.0, 1.5, 2.0] and answer["explanation_reason"] is None
    plain = client.get("/stations/A.10/forecast?hours=3&explain=false").json
    assert plain == client.get("/stations/A.10/forecast?hours=3").json


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("post", "/predict?explain=yes", {"station_id": "B"}, "write true or false"),
        ("post", "/predict?explian=true", {"station_id": "B"}, "there is only `explain`"),
        ("post", "/predict/batch?explain=true", {"predictions": []}, "leave it out"),
        ("get", "/stations/B/forecast?explain=1", None, "write true or false"),
        ("get", "/stations/B/forecast?hour=1", None, "there is only `hours`, `explain`"),
    ],
)
def test_other_words_of_the_query_are_refused(client, method, path, body, says):
    """A misspelt one would otherwise be ignored."""
    answer = getattr(client, method)(path, json=body)
    assert answer.status_code == 400 and answer.json["type"] == "/problems/invalid-request"
    assert says in answer.json["detail"]


def test_hours_count_from_the_end_of_the_data():
    """The hour that spring skips has inputs but no forecast; those behind it keep their own."""
    made = published(datetime(2018, 3, 11), hours=6)
    explainer, table = explainer_of(FakeSource(made))
    lacking = build_table(
        replace(made, frame=made.frame.filter(pl.col("hour") != datetime(2018, 3, 11, 2)))
    )
    assert table.issue == lacking.issue
    found, _ = explainer.explain(lacking, 0, hours(lacking, 0, 1, 3))
    assert [f["pickups"]["level"] for f in found] == [1.0, 1.5, 2.5]


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        ({"inputs": fails(ConnectionError("gone"))}, stored.NO_DATABASE),
        ({"inputs": lambda: None}, stored.NO_INPUTS),
        ({"inputs": lambda: Inputs(("x",), None, None)}, stored.OTHER_RELEASE),
        ({"model": fails(TimeoutError("gone"))}, stored.NO_DATABASE),
        ({"model": lambda: None}, stored.NO_MODEL),
        ({"model": lambda: pack(UNKNOWN)}, stored.OTHER_RELEASE),
        ({"model": lambda: b"nonsense"}, stored.FAILED),
    ],
)
def test_what_cannot_be_explained_is_forecast_with_a_reason(make_client, lack, reason):
    """Of a prediction and of a station's hours; status 200."""
    current = CurrentTable(Lacking(**lack))
    current.refresh()
    client = make_client(current)
    answer = client.post("/predict?explain=true", json={"station_id": "B"})
    assert answer.status_code == 200 and answer.json["pickups"]["mean"] == 2.0
    assert (answer.json["explanation"], answer.json["explanation_reason"]) == (None, reason)
    week = client.get("/stations/B/forecast?explain=true").json
    assert {h["explanation"] for h in week["forecast"]} == {None}
    assert week["explanation_reason"] == reason


def test_a_database_that_is_known_to_be_gone_is_not_waited_for(make_client):
    """The table in memory answers at once."""
    source = Lacking(inputs=fails(AssertionError("asked")))
    current = CurrentTable(source)
    current.refresh()
    source.broken = True
    current.refresh()
    answer = make_client(current).post("/predict?explain=true", json={"station_id": "B"}).json
    assert answer["explanation_reason"] == stored.NO_DATABASE


def test_a_model_is_taken_from_the_database_once_per_issue():
    """Another issue may be another model's; one that could not be had is asked for again."""
    source = Lacking()
    explainer, table = explainer_of(source)
    newer = replace(table, issue=replace(table.issue, issue_id=2))
    for asked, loads in ((table, 1), (table, 1), (newer, 2), (newer, 2)):
        assert explainer.explain(asked, 0, hours(asked, 0))[1] is None and source.asked == loads
    source.found["model"] = fails(OSError("no route"))
    assert explainer.explain(newer, 0, hours(newer, 0))[1] is None
    assert explainer.explain(table, 0, hours(table, 0)) == (None, stored.NO_DATABASE)
    source.found.clear()
    assert explainer.explain(table, 0, hours(table, 0))[1] is None


def test_explanations_leave_threads_for_look_ups():
    """One more than may be at work is told so and not kept waiting."""
    hold, held = threading.Event(), threading.Semaphore(0)

    def slow():
        held.release()
        hold.wait(30)
        return seen

    source = Lacking()
    explainer, table = explainer_of(source)
    seen = source.inputs(table.issue, "B")
    source.found["inputs"] = slow
    waiting = [
        threading.Thread(target=explainer.explain, args=(table, 1, hours(table, 0)))
        for _ in range(AT_ONCE)
    ]
    for thread in waiting:
        thread.start()
        assert held.acquire(timeout=30)
    assert explainer.explain(table, 1, hours(table, 0)) == (None, stored.BUSY)
    hold.set()
    for thread in waiting:
        thread.join(30)
    assert explainer.explain(table, 1, hours(table, 0))[1] is None


EXPLAIN = """
import sys
from pathlib import Path
sys.modules |= dict.fromkeys(sys.argv[3:])  # none of them can be imported from now on
sys.path.insert(0, sys.argv[1])
import bikecast.cli, bikecast.serve.server, bikecast.store
from bikecast.config import Settings
from bikecast.serve.app import create_app
from bikecast.serve.current import CurrentTable
from fakes import FakeSource, published

class Source(FakeSource):
    def packed_model(self, issue):
        return Path(sys.argv[2]).read_bytes()

current = CurrentTable(Source(published()))
current.refresh()
client = create_app(current, Settings()).test_client()
print(client.post("/predict?explain=true", json={"station_id": "B"}).json["explanation_reason"])
"""


def test_the_service_explains_where_nothing_is_installed_for_training(tmp_path, monkeypatch):
    """As in its image: of the extra `train`, and of what MLflow brings, it needs nothing."""
    monkeypatch.setattr(boosted, "ROUNDS", 5)
    model = MODELS["ensemble"]()
    model.fit(small_history(days=21), Grid(24))
    (tmp_path / "model").write_bytes(pack(model))
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    train = [Requirement(line).name for line in project["optional-dependencies"]["train"]]
    lacking = [name.replace("-", "_") for name in train] + ["sklearn"]
    assert {"mlflow", "statsmodels", "pandas"} < set(lacking)
    done = subprocess.run(
        [sys.executable, "-c", EXPLAIN, str(TESTS), str(tmp_path / "model"), *lacking],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "None\n", done.stderr
