"""The REST contract, over Flask's test client."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from fakes import NEW_YORK, FakeSource, published
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bikecast import __version__
from bikecast.serve.api import answer as answered
from bikecast.serve.current import CurrentTable
from bikecast.serve.types import Prediction, StationForecast
from bikecast.store import SCHEMA

MakeClient = Callable[..., FlaskClient]


def ask(client: FlaskClient, **question: object) -> Any:
    """The answer to one question that must succeed."""
    answer = client.post("/predict", json=question)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"
    return answer.json


def refusal(answer: Any, status: int, slug: str) -> Any:
    """The problem document of an answer that must be a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem = answer.json
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"] and problem["detail"] and problem["instance"]
    return problem


def test_a_prediction_says_all_that_the_contract_names(client: FlaskClient) -> None:
    """The first hour of the table by default; three hours old."""
    assert ask(client, station_id="A.10") == {
        "station_id": "A.10",
        "timestamp": "2018-07-16T00:00:00-04:00",
        "pickups": {"mean": 2.0, "lower": 1.0, "upper": 4.0},
        "returns": {"mean": 2.5, "lower": 1.25, "upper": 5.0},
        "interval": 0.8,
        "p_empty": None,
        "p_full": None,
        "p_reason": "stock now unknown: send bikes",
        "horizon_hours": 1,
        "model": {"name": "bike-demand-forecaster", "version": "3"},
        "as_of": "2018-07-16T00:00:00-04:00",
        "issued_at": "2018-07-16T00:05:00-04:00",
        "data_age_seconds": 10_800,
        "stale": False,
        "simulated": False,
    }


def test_answers_are_of_the_documented_types(client: FlaskClient) -> None:
    """The types that later describe the service describe what it says."""
    TypeAdapter(Prediction).validate_python(ask(client, station_id="B", bikes=3), strict=True)
    forecast = client.get("/stations/B/forecast").json
    TypeAdapter(StationForecast).validate_python(forecast, strict=True)


@pytest.mark.parametrize(
    "timestamp", ["2018-07-16T08:30:00", "2018-07-16T08:00:00-04:00", "2018-07-16T12:59:59Z"]
)
def test_a_timestamp_selects_the_hour_that_contains_it(client: FlaskClient, timestamp: str) -> None:
    """With an offset or in local time."""
    answer = ask(client, station_id="B", timestamp=timestamp)
    assert answer["timestamp"] == "2018-07-16T08:00:00-04:00"
    assert answer["horizon_hours"] == 9
    assert answer["pickups"]["mean"] == 10.0


@pytest.mark.parametrize(
    "timestamp, status, slug",
    [
        ("2018-07-15T23:59:59-04:00", 422, "outside-forecast"),
        ("2018-07-30T00:00:00-04:00", 422, "outside-forecast"),
        ("9999-12-31T23:59:59Z", 422, "outside-forecast"),
        ("2018-11-04T01:00:00", 400, "ambiguous-timestamp"),
        ("2018-03-11T02:00:00", 400, "invalid-timestamp"),
        ("tomorrow", 400, "invalid-timestamp"),
    ],
)
def test_a_timestamp_without_a_forecast_is_a_problem(
    client: FlaskClient, timestamp: str, status: int, slug: str
) -> None:
    """Each with a type of its own."""
    refusal(client.post("/predict", json={"station_id": "B", "timestamp": timestamp}), status, slug)


def test_both_moments_of_the_repeated_hour_have_the_same_answer(make_client: MakeClient) -> None:
    """The forecast has one row for the two hours."""
    current = CurrentTable(FakeSource(published(datetime(2018, 11, 4))))
    current.refresh()
    client = make_client(current)
    first, second = (
        ask(client, station_id="B", timestamp=f"2018-11-04T01:30:00-0{offset}:00")
        for offset in (4, 5)
    )
    assert first["timestamp"] == second["timestamp"] == "2018-11-04T01:00:00-04:00"
    assert first["horizon_hours"] == second["horizon_hours"] == 2


def test_the_week_of_the_spring_change_has_167_hours(make_client: MakeClient) -> None:
    """The skipped hour is left out, and `hours` still means the civil grid."""
    made = published(datetime(2018, 3, 11))
    frame = made.frame.filter(pl.col("hour") != datetime(2018, 3, 11, 2))
    current = CurrentTable(FakeSource(replace(made, frame=frame)))
    current.refresh()
    forecast = make_client(current).get("/stations/B/forecast?hours=168").json["forecast"]
    assert len(forecast) == 167
    assert [h["timestamp"] for h in forecast[1:3]] == [
        "2018-03-11T01:00:00-05:00",
        "2018-03-11T03:00:00-04:00",
    ]
    assert forecast[-1]["horizon_hours"] == 168


def test_with_bikes_and_a_known_capacity_the_ends_have_probabilities(client: FlaskClient) -> None:
    """More bikes now: less often empty, more often full."""
    few, many = (ask(client, station_id="A.10", bikes=n) for n in (2, 18))
    assert few["p_reason"] is None and many["p_reason"] is None
    assert 1 > few["p_empty"] > many["p_empty"] >= 0
    assert 0 <= few["p_full"] < many["p_full"] < 1


def test_without_a_capacity_there_is_a_reason_instead(client: FlaskClient) -> None:
    """Null together, and why."""
    answer = ask(client, station_id="B", bikes=2)
    assert (answer["p_empty"], answer["p_full"]) == (None, None)
    assert answer["p_reason"] == "capacity unknown"


def test_without_returns_there_is_a_reason_instead(
    source: FakeSource, current: CurrentTable, client: FlaskClient
) -> None:
    """A stock needs both flows."""
    assert source.current is not None
    source.publish(frame=source.current.frame.filter(pl.col("target") == "pickups"))
    current.refresh()
    answer = ask(client, station_id="A.10", bikes=2)
    assert answer["returns"] is None
    assert answer["p_reason"] == "pickups or returns are not forecast"


def test_more_bikes_than_docks_are_refused(client: FlaskClient) -> None:
    """The capacity is named."""
    problem = refusal(
        client.post("/predict", json={"station_id": "A.10", "bikes": 21}),
        422,
        "bikes-over-capacity",
    )
    assert "send 0 to 20" in problem["detail"]


def test_a_former_station_id_answers_as_the_present_one(client: FlaskClient) -> None:
    """In a prediction and in a station's forecast."""
    assert ask(client, station_id="old-A")["station_id"] == "A.10"
    assert client.get("/stations/old-A/forecast").json["station_id"] == "A.10"


@pytest.mark.parametrize("station_id", ["A.1", "never-used", "🚲", "a" * 100, "' or 1=1 --"])
def test_an_unknown_station_is_a_problem(client: FlaskClient, station_id: str) -> None:
    """404, with the next step."""
    problem = refusal(
        client.post("/predict", json={"station_id": station_id}), 404, "unknown-station"
    )
    assert "GET /stations" in problem["detail"]
    assert problem["instance"] == "/predict"


@pytest.mark.parametrize(
    "body, slug",
    [
        (b"", "invalid-json"),
        (b"{", "invalid-json"),
        (b"station_id=B", "invalid-json"),
        (b"\xff\xfe", "invalid-json"),
        (b'{"station_id": "\\ud800"}', "invalid-json"),
        (b"[" * 10_000 + b"]" * 10_000, "invalid-json"),
        (b'{"station_id": "B", "weather": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "invalid-json"),
        (b"null", "invalid-request"),
        (b"[]", "invalid-request"),
        (b"{}", "invalid-request"),
        (b'{"station_id": 5379.10}', "invalid-request"),
        (b'{"station_id": ""}', "invalid-request"),
        (b'{"station_id": null}', "invalid-request"),
        (b'{"station_id": "B", "bikes": true}', "invalid-request"),
        (b'{"station_id": "B", "bikes": "3"}', "invalid-request"),
        (b'{"station_id": "B", "bikes": 3.0}', "invalid-request"),
        (b'{"station_id": "B", "bikes": NaN}', "invalid-request"),
        (b'{"station_id": "B", "bikes": 1e999}', "invalid-request"),
        (b'{"station_id": "B", "bikes": -1}', "invalid-request"),
        (b'{"station_id": "B", "bikes": ' + b"9" * 5000 + b"}", "invalid-json"),
        (b'{"station_id": "B", "bikes": -1e400}', "invalid-request"),
        (b'{"station_id": "B", "timestamp": 1531713600}', "invalid-request"),
        (b'{"station_id": "B", "station": "B"}', "invalid-request"),
        (b'{"station_id": "B", "weather": "wet"}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"rain": 1}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"temperature": "20"}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"temperature": true}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"temperature": NaN}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"temperature": 1e400}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"temperature": 60.1}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"precipitation": -0.1}}', "invalid-request"),
        (b'{"station_id": "B", "weather": {"humidity": 101}}', "invalid-request"),
    ],
)
def test_a_body_that_is_not_as_documented_is_a_400(
    client: FlaskClient, body: bytes, slug: str
) -> None:
    """Not JSON, or of the wrong types, or with unknown fields."""
    refusal(client.post("/predict", data=body), 400, slug)


def test_each_field_at_fault_is_named(client: FlaskClient) -> None:
    """With a JSON pointer to it."""
    problem = refusal(
        client.post("/predict", json={"station_id": 1, "bike": 2}), 400, "invalid-request"
    )
    assert {e["pointer"] for e in problem["errors"]} == {"/station_id", "/bike"}


def test_a_batch_answers_each_item_on_its_own(client: FlaskClient) -> None:
    """In the order asked; a bad item fails no other."""
    items = [
        {"station_id": "B"},
        {"station_id": "nowhere"},
        {"station_id": "A.10", "timestamp": "2018-07-16T05:00:00"},
        "B",
        {"station_id": "B", "weather": {"rain": 1}},
        {"station_id": "B", "bikes": True},
    ]
    answer = client.post("/predict/batch", json={"predictions": items})
    assert answer.status_code == 200
    results = answer.json["predictions"]
    assert results[0] == ask(client, station_id="B")
    assert results[1]["type"] == "/problems/unknown-station"
    assert results[1]["status"] == 404
    assert results[1]["instance"] == "/predict/batch#/predictions/1"
    assert results[2]["station_id"] == "A.10" and results[2]["horizon_hours"] == 6
    assert [r["status"] for r in results[3:]] == [400, 400, 400]


@pytest.mark.parametrize("body", [{}, [], {"predictions": {}}, {"predictions": [], "more": 1}])
def test_a_batch_that_is_not_as_documented_is_a_400(client: FlaskClient, body: object) -> None:
    """As a whole."""
    refusal(client.post("/predict/batch", json=body), 400, "invalid-request")


def test_a_batch_has_up_to_1000_items(client: FlaskClient) -> None:
    """One more is refused as a whole; none at all is an empty answer."""
    item = {"station_id": "B"}
    full = client.post("/predict/batch", json={"predictions": [item] * 1000})
    assert len(full.json["predictions"]) == 1000
    over = client.post("/predict/batch", json={"predictions": [item] * 1001})
    refusal(over, 413, "too-large")
    assert client.post("/predict/batch", json={"predictions": []}).json == {"predictions": []}


def test_a_body_over_the_limit_is_refused(client: FlaskClient) -> None:
    """Before it is parsed."""
    refusal(client.post("/predict", data=b" " * 1_000_001), 413, "too-large")


def test_a_stations_forecast_has_the_hours_asked_for(client: FlaskClient) -> None:
    """A day by default."""
    assert len(client.get("/stations/A.10/forecast").json["forecast"]) == 24
    week = client.get("/stations/A.10/forecast?hours=168").json
    assert len(week["forecast"]) == 168
    assert week["data_age_seconds"] == 10_800
    assert week["forecast"][0] == {
        "timestamp": "2018-07-16T00:00:00-04:00",
        "horizon_hours": 1,
        "pickups": {"mean": 2.0, "lower": 1.0, "upper": 4.0},
        "returns": {"mean": 2.5, "lower": 1.25, "upper": 5.0},
    }


@pytest.mark.parametrize(
    "query", ["hours=0", "hours=169", "hours=", "hours=-1", "hours=1.5", "hours=٣", "hour=3"]
)
def test_other_hours_are_refused(client: FlaskClient, query: str) -> None:
    """Also a misspelt parameter, which would otherwise be ignored."""
    refusal(client.get(f"/stations/B/forecast?{query}"), 400, "invalid-request")


def test_an_unknown_station_has_no_forecast(client: FlaskClient) -> None:
    """Also one whose id looks like a path."""
    for name in ("nowhere", "a/b", "%F0%9F%9A%B2", "..%2f..%2fetc"):
        refusal(client.get(f"/stations/{name}/forecast"), 404, "unknown-station")


def test_stations_lists_those_that_can_be_asked_for(client: FlaskClient) -> None:
    """Each with its place and capacity where known."""
    answer = client.get("/stations").json
    assert answer["stations"] == [
        {"station_id": "A.10", "name": "First St", "lat": 40.71, "lon": -74.01, "capacity": 20},
        {"station_id": "B", "name": "Second St", "lat": 40.72, "lon": -74.02, "capacity": None},
    ]
    assert answer["as_of"] == "2018-07-16T00:00:00-04:00"
    assert answer["simulated"] is False


def test_model_says_who_made_the_table(client: FlaskClient) -> None:
    """Name and version in the registry, and the extent of the table."""
    answer = client.get("/model").json
    assert (answer["name"], answer["version"]) == ("bike-demand-forecaster", "3")
    assert (answer["alias"], answer["algorithm"]) == ("production", "naive")
    assert answer["table"] == {
        "issue_id": 1,
        "stations": 2,
        "hours": 168,
        "first": "2018-07-16T00:00:00-04:00",
        "last": "2018-07-22T23:00:00-04:00",
    }
    assert answer["data_age_seconds"] == 10_800


def test_version_says_what_runs(current: CurrentTable, make_client: MakeClient) -> None:
    """Commit and image are null where nobody knows them."""
    known = {"commit": "abc123", "image_digest": "sha256:d"}
    assert make_client(current, **known).get("/version").json == {
        "version": __version__,
        "commit": "abc123",
        "image": "sha256:d",
        "model": {"name": "bike-demand-forecaster", "version": "3"},
        "schema": {"database": SCHEMA, "revision": "0001", "release": SCHEMA},
    }
    assert make_client(CurrentTable(FakeSource())).get("/version").json == {
        "version": __version__,
        "commit": None,
        "image": None,
        "model": None,
        "schema": {"database": None, "revision": None, "release": SCHEMA},
    }


def test_ready_is_degraded_by_stale_data_and_by_a_lost_database(
    source: FakeSource, current: CurrentTable, make_client: MakeClient
) -> None:
    """Both still answer, so both are 200."""
    assert make_client(current).get("/ready").json["status"] == "ok"
    old = make_client(current, hours_old=25)
    assert old.get("/ready").json["reasons"] == ["the data are stale"]
    assert ask(old, station_id="B")["stale"] is True
    source.broken = True
    current.refresh()
    lost = make_client(current).get("/ready")
    assert (lost.status_code, lost.json["status"]) == (200, "degraded")
    assert lost.json["reasons"] == ["the database does not answer"]
    assert ask(make_client(current), station_id="B")["stale"] is False


def test_without_any_table_the_service_is_alive_but_not_ready(make_client: MakeClient) -> None:
    """Every question is a 503 with the next step."""
    client = make_client(CurrentTable(FakeSource()))
    assert client.get("/health").json == {"status": "ok"}
    for path in ("/ready", "/model", "/stations", "/stations/B/forecast", "/stations/B/stock"):
        refusal(client.get(path), 503, "no-table")
    problem = refusal(client.post("/predict", json={"station_id": "B"}), 503, "no-table")
    assert "bikecast forecast" in problem["detail"]
    refusal(client.post("/predict/batch", json={"predictions": []}), 503, "no-table")


def test_a_service_that_never_reached_its_database_says_so(make_client: MakeClient) -> None:
    """To run a forecast would not help."""
    current = CurrentTable(FakeSource(published(), broken=True))
    current.refresh()
    problem = refusal(make_client(current).get("/ready"), 503, "no-table")
    assert "see why in its log" in problem["detail"]


def test_everything_that_a_simulated_system_says_is_marked(make_client: MakeClient) -> None:
    """Answers, items and problems alike."""
    made = published(system=replace(NEW_YORK, simulated=True))
    current = CurrentTable(FakeSource(made))
    current.refresh()
    client = make_client(current)
    paths = ("/health", "/ready", "/version", "/model", "/stations", "/stations/B/forecast")
    paths += ("/stations/A.10/stock", "/stations/B/stock")
    answers = [client.get(path) for path in (*paths, "/stations?x=1", "/nowhere")]
    answers += [client.post("/predict", json={"station_id": s}) for s in ("B", "nowhere")]
    batch = client.post(
        "/predict/batch", json={"predictions": [{"station_id": "B"}, {"station_id": "nowhere"}]}
    )
    for document in [a.json for a in (*answers, batch)] + batch.json["predictions"]:
        assert document["simulated"] is True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
questions = st.fixed_dictionaries(
    {},
    optional={
        "station_id": st.sampled_from(["A.10", "B", "old-A"]) | json_values,
        "timestamp": st.datetimes().map(lambda t: t.isoformat() + "Z") | json_values,
        "bikes": st.integers(-1, 30) | json_values,
        "weather": json_values,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary() | (questions | json_values).map(lambda v: json.dumps(v).encode()))
def test_no_body_makes_the_service_fail(client: FlaskClient, body: bytes) -> None:
    """Whatever is sent, the answer is JSON and below 500; a NaN never comes out."""
    for path in ("/predict", "/predict/batch"):
        answer = client.post(path, data=body)
        assert answer.status_code < 500
        json.loads(answer.text, parse_constant=pytest.fail)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(items=st.lists(questions | json_values, max_size=5))
def test_no_item_makes_a_batch_fail(client: FlaskClient, items: list[object]) -> None:
    """One result or problem per item."""
    body = json.dumps({"predictions": items}).encode()
    answer = client.post("/predict/batch", data=body)
    if answer.status_code == 200:
        assert len(answer.json["predictions"]) == len(items)
    else:
        refusal(answer, 400, "invalid-json")


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "\udcff", "\udcff NaN", "é \U0001f6b2"])
def test_every_text_can_be_answered(client: FlaskClient, text: str) -> None:
    """Also one that has letters like a number that is none, or is no Unicode."""
    with client.application.test_request_context():
        assert answered({"name": text}).json == {"name": text}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_answered(client: FlaskClient, number: float) -> None:
    """It is a mistake of ours, not null."""
    with client.application.test_request_context(), pytest.raises(ValueError, match="JSON"):
        answered({"mean": number})
