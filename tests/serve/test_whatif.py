"""What a number would be in other weather; and that look-ups go on where that cannot be told."""

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from fakes import Told, fails, published, seen
from made_up import small_history, with_weather
from pydantic import TypeAdapter

from bikecast.models import MODELS, boosted
from bikecast.models.base import Grid
from bikecast.models.portable import pack
from bikecast.serve import stored, whatif
from bikecast.serve.types import MAX_WHAT_IFS, WhatIfPrediction

TESTS = Path(__file__).parents[1]
WARMER = {"temperature": 2}
KNOWN = {"temperature": 1, "precipitation": 0, "wind_speed": 0, "cloud_cover": 0, "humidity": 0}


def ask(client, **question):
    """The answer to a what-if of station B."""
    return client.post("/predict", json={"station_id": "B", "weather": WARMER} | question)


def test_a_what_if_is_a_prediction_with_other_weather(client):
    """It says that it is one, and of which weather; all else is as without."""
    plain = client.post("/predict", json={"station_id": "B", "timestamp": "2018-07-16T05:00"}).json
    answer = ask(client, timestamp="2018-07-16T05:00", weather=WARMER | {"humidity": 12.3}).json
    TypeAdapter(WhatIfPrediction).validate_python(answer, strict=True)
    assert plain["pickups"]["mean"] == 7 and answer["pickups"]["mean"] == 14
    assert answer["pickups"]["lower"] < 14 < answer["pickups"]["upper"]
    assert answer["weather"] == KNOWN | WARMER | {"humidity": 12.3}
    assert answer == plain | {
        key: answer[key] for key in ("pickups", "returns", "what_if", "weather")
    }
    assert answer["what_if"] is True


@pytest.mark.parametrize("weather", [KNOWN, {}, {"temperature": None, "humidity": 0}])
def test_the_weather_of_the_table_gives_the_table(client, weather):
    """Of both flows; what is not given is as it was known."""
    plain = client.post("/predict", json={"station_id": "B"}).json
    answer = ask(client, weather=weather).json
    assert answer["weather"] == KNOWN
    assert [answer[flow]["mean"] for flow in ("pickups", "returns")] == [
        plain[flow]["mean"] for flow in ("pickups", "returns")
    ]


def test_the_stock_is_reckoned_with_the_other_forecast(client):
    """Of the hour itself; the hours before it stay as they are."""
    question = {"station_id": "A.10", "timestamp": "2018-07-16T03:00", "bikes": 5}
    plain = client.post("/predict", json=question).json
    same = client.post("/predict", json=question | {"weather": {"temperature": 1}}).json
    other = client.post("/predict", json=question | {"weather": {"temperature": 5}}).json
    assert (same["p_empty"], same["p_full"]) == (plain["p_empty"], plain["p_full"])
    assert other["p_full"] != plain["p_full"] and other["p_reason"] is None


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"station_id": "nobody"}, 404, "unknown-station"),
        ({"timestamp": "2030-01-01T00:00:00Z"}, 422, "outside-forecast"),
        ({"timestamp": "tomorrow"}, 400, "invalid-timestamp"),
        ({"station_id": "A.10", "bikes": 21}, 422, "bikes-over-capacity"),
    ],
)
def test_what_a_look_up_refuses_is_refused(client, changes, status, slug):
    """In the same words."""
    answer = ask(client, **changes)
    plain = client.post("/predict", json={"station_id": "B"} | changes)
    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")
    assert answer.json == plain.json


def test_a_what_if_is_not_explained(client):
    """The explanation would be that of the table."""
    answer = client.post("/predict?explain=true", json={"station_id": "B", "weather": WARMER})
    assert answer.status_code == 400 and "leave `explain` or `weather` out" in answer.json["detail"]


def test_a_target_without_a_forecast_has_none(asking):
    """Where returns are not counted."""
    source = Told(inputs=lambda usual: seen(published())["B"])
    frame = source.current.frame
    source.publish(frame=frame.filter(frame["target"] == "pickups"))
    answer = ask(asking(source)[0]).json
    assert answer["returns"] is None and answer["pickups"]["mean"] == 4


def test_hours_count_from_the_end_of_the_data(asking):
    """The hour that spring skips has inputs but no forecast; those behind it keep their own."""
    made = published(datetime(2018, 3, 11), hours=6)
    source, frame = Told(inputs=lambda usual: seen(made)["B"]), made.frame
    source.current = made
    source.publish(frame=frame.filter(frame["hour"] != datetime(2018, 3, 11, 2)))
    client, _ = asking(source)
    assert ask(client, timestamp="2018-03-11T03:00", weather=KNOWN).json["pickups"]["mean"] == 5


def test_in_a_batch_each_is_answered_on_its_own(client):
    """Beside look-ups, and up to a bound."""
    one, item = {"station_id": "B"}, {"station_id": "B", "weather": WARMER}
    asked = [item, one, {"station_id": "nobody", "weather": WARMER}] + [item] * MAX_WHAT_IFS
    found = client.post("/predict/batch", json={"predictions": asked}).json["predictions"]
    assert found[0] == ask(client).json
    assert found[1] == client.post("/predict", json=one).json
    assert found[2]["type"] == "/problems/unknown-station"
    assert [f.get("what_if") for f in found[3:]] == [True] * (MAX_WHAT_IFS - 1) + [None]
    assert found[-1]["type"] == "/problems/too-large" and found[-1]["status"] == 413


def test_what_ifs_are_counted(client):
    """Each of a batch for itself, so that their share is known."""
    ask(client)
    client.post("/predict", json={"station_id": "B"})
    client.post(
        "/predict/batch", json={"predictions": [{"station_id": "B", "weather": WARMER}] * 3}
    )
    assert "bikecast_what_ifs_total 4.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("told", "status", "slug", "says"),
    [
        ({"inputs": fails(ConnectionError("gone"))}, 503, "what-if-not-now", stored.NO_DATABASE),
        ({"inputs": lambda usual: None}, 503, "what-if-not-now", stored.NO_INPUTS),
        (
            {"inputs": lambda usual: replace(usual, sky=None)},
            *(503, "what-if-not-now", stored.NO_SKY),
        ),
        ({"model": fails(TimeoutError("gone"))}, 503, "what-if-not-now", stored.NO_DATABASE),
        ({"model": lambda usual: None}, 503, "what-if-not-now", stored.NO_MODEL),
        ({"model": lambda usual: b"nonsense"}, 503, "what-if-not-now", stored.FAILED),
        (
            {"model": lambda usual: pack(MODELS["naive"]())},
            *(422, "what-if-unavailable", "naive, which does not look at the weather"),
        ),
    ],
)
def test_where_it_cannot_be_told_there_is_a_reason(asking, told, status, slug, says):
    """And once that is over, the next one is answered; look-ups always are."""
    source = Told(**told)
    client, _ = asking(source)
    for _ in range(2):
        answer = ask(client)
        assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")
        assert says in answer.json["detail"]
        assert client.post("/predict", json={"station_id": "B"}).json["pickups"]["mean"] == 2
    source.told.clear()
    source.publish()
    client, _ = asking(source)
    assert ask(client).json["pickups"]["mean"] == 4


def test_what_is_unknown_must_be_given(asking):
    """A model takes an hour without rain or warmth for one without weather."""
    unknown = np.full((400, 5), np.nan, np.float32)
    source = Told(inputs=lambda usual: replace(usual, sky=replace(usual.sky, hourly=unknown)))
    client, _ = asking(source)
    answer = ask(client)
    assert answer.status_code == 422 and answer.json["type"] == "/problems/what-if-unavailable"
    assert "nothing is known of the precipitation of this hour; give it" in answer.json["detail"]
    given = {"temperature": 2, "precipitation": 0.5}
    assert ask(client, weather=given).json["weather"] == dict.fromkeys(KNOWN) | given


def test_what_was_fetched_needs_no_database(asking):
    """A station's next question is answered while it is gone; another station's is not."""
    source = Told()
    client, current = asking(source)
    first = ask(client).json
    assert source.asked == ["model", "B"]
    source.broken = True
    current.refresh()
    assert ask(client).json == first and source.asked == ["model", "B"]
    answer = ask(client, station_id="A.10")
    assert answer.status_code == 503 and stored.NO_DATABASE in answer.json["detail"]
    source.broken = False
    current.refresh()
    assert ask(client, station_id="A.10").status_code == 200


def test_another_issue_is_asked_anew(asking):
    """It may be another model's, and has other inputs."""
    source = Told()
    client, current = asking(source)
    ask(client)
    source.publish()
    current.refresh()
    ask(client)
    assert source.asked == ["model", "B"] * 2


def test_stations_are_told_apart_in_another_table_of_the_same_issue(asking):
    """One that was imported since moves the others' places."""
    source = Told()
    client, current = asking(source)
    first = ask(client).json["pickups"]
    table = current.table
    moved = {"A.10": 1, "B": 0}
    current.table = replace(
        table, stations=table.stations[::-1], index=moved, values=table.values[::-1].copy()
    )
    assert ask(client).json["pickups"] == first and source.asked == ["model", "B"]
    assert ask(client, station_id="A.10").json["station_id"] == "A.10"
    assert source.asked == ["model", "B", "A.10"]


def test_what_is_kept_is_bounded(asking, monkeypatch):
    """The station that was not asked for longest is forgotten first."""
    source = Told()
    client, _ = asking(source)
    monkeypatch.setattr(whatif, "MOST_BYTES", 30_000)
    for station in ("A.10", "B", "B", "A.10", "A.10"):
        assert ask(client, station_id=station).status_code == 200
    assert source.asked == ["model", "A.10", "B", "A.10"]


def test_what_ifs_leave_threads_for_look_ups(asking, monkeypatch):
    """One more than may be at work waits a while, further ones are told so at once."""
    hold, held = threading.Event(), threading.Semaphore(0)

    def slow(usual):
        held.release()
        hold.wait(30)
        return usual

    monkeypatch.setattr(whatif, "PATIENCE", 30.0)
    source = Told()
    client, current = asking(source)
    ask(client)
    source.told["inputs"] = slow
    source.current = replace(source.current, issue=replace(source.current.issue, issue_id=2))
    current.refresh()
    app, answers = client.application, SimpleQueue()

    def one():
        answers.put(ask(app.test_client()))

    threads = [threading.Thread(target=one) for _ in range(stored.AT_ONCE + 2)]
    for thread in threads:
        thread.start()
    for _ in range(stored.AT_ONCE):
        assert held.acquire(timeout=30)
    # One of the others waits, whichever it is, where the last one was refused.
    for refused in (answers.get(timeout=30), ask(client)):
        assert (refused.status_code, refused.json["detail"]) == (503, stored.BUSY)
    assert client.post("/predict", json={"station_id": "B"}).status_code == 200
    hold.set()
    done = [answers.get(timeout=30).status_code for _ in range(stored.AT_ONCE + 1)]
    assert done == [200] * len(done)
    for thread in threads:
        thread.join(30)


ASK = """
import sys
from pathlib import Path
sys.modules |= dict.fromkeys(("xgboost", "statsmodels", "pandas", "mlflow", "onnx", "sklearn"))
sys.path.insert(0, sys.argv[1])
import bikecast.serve.server, bikecast.store
assert "onnxruntime" not in sys.modules and "bikecast.models" not in sys.modules
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
print(client.post("/predict", json={"station_id": "B", "weather": {"temperature": 2}}).json)
"""


def test_trees_are_asked_without_xgboost(tmp_path, monkeypatch):
    """A worker that answers what-ifs needs ONNX Runtime, and loads it with the first one."""
    monkeypatch.setattr(boosted, "ROUNDS", 5)
    model = MODELS["ensemble"]()
    model.fit(with_weather(small_history(days=30)), Grid(24))
    assert model.sees_weather
    (tmp_path / "model").write_bytes(pack(model))
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(TESTS), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "'what_if': True" in done.stdout, done.stderr
