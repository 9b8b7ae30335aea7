"""Hours that the table lacks, asked of the model that made it: those of the second week."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from fakes import FakeSource, Told, fails, first_week, published
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import small_history, with_weather
from pydantic import TypeAdapter

from bikecast.features import NAMES, sky_ahead
from bikecast.features.inputs import inputs_of
from bikecast.features.inputs import pack as pack_inputs
from bikecast.features.inputs import unpack as unpack_inputs
from bikecast.models import MODELS, boosted
from bikecast.models.base import Grid
from bikecast.models.portable import pack
from bikecast.serve import stored, whatif
from bikecast.serve.answers import TOO_FAR
from bikecast.serve.current import CurrentTable
from bikecast.serve.table import build_table
from bikecast.serve.types import (
    MAX_WHAT_IFS,
    ExplainedPrediction,
    Prediction,
    WhatIfPrediction,
)

START = datetime(2018, 7, 16)
WARMER = {"temperature": 2}
LATER = "2018-07-23T05:00"
"""174 hours ahead: the last hour of the table has 169 bikes, and this one six more."""


def ask(client, route="/predict", **question):
    """The answer for an hour of the second week of station B."""
    return client.post(route, json={"station_id": "B", "timestamp": LATER} | question)


def test_an_hour_that_the_table_lacks_is_answered_by_its_model(client):
    """It says that it is of the second week; all else is as of the table."""
    plain = client.post("/predict", json={"station_id": "B"}).json
    answer = ask(client).json
    TypeAdapter(Prediction).validate_python(answer, strict=True)
    assert answer["pickups"]["mean"] == 175 and answer["returns"]["mean"] == 175.5
    assert answer["pickups"]["lower"] < 175 < answer["pickups"]["upper"]
    assert answer["timestamp"] == "2018-07-23T05:00:00-04:00" and answer["horizon_hours"] == 174
    changed = ("pickups", "returns", "timestamp", "horizon_hours", "p_reason", "second_week")
    assert answer == plain | {key: answer[key] for key in changed}
    assert answer["second_week"] is True and "second_week" not in plain


def test_the_bikes_of_now_say_nothing_of_it(client):
    """There are no chances, and sending bikes does not help."""
    answer = ask(client, station_id="A.10", bikes=5).json
    assert (answer["p_empty"], answer["p_full"], answer["p_reason"]) == TOO_FAR


def test_more_bikes_than_a_station_holds_are_refused_as_in_the_first_week(client):
    """They are a mistake, whatever is asked."""
    answer = ask(client, station_id="A.10", bikes=9_999)
    assert (answer.status_code, answer.json["type"].rpartition("/")[2]) == (
        422,
        "bikes-over-capacity",
    )


@pytest.mark.parametrize("weather", [WARMER, {"temperature": 2, "humidity": 12.5}])
def test_it_may_be_asked_with_other_weather(client, weather):
    """Then it is a what-if as well."""
    answer = ask(client, weather=weather).json
    TypeAdapter(WhatIfPrediction).validate_python(answer, strict=True)
    assert answer["what_if"] is answer["second_week"] is True
    assert answer["pickups"]["mean"] == 350 and answer["weather"].items() >= weather.items()
    assert answer["p_reason"] == TOO_FAR[2]


def test_weather_need_not_be_known(asking):
    """Nor given: the model forecasts without; only where some is given must it be enough."""

    def without(usual):
        values = np.full_like(usual.values, np.nan)
        unknown = replace(usual.sky, hourly=np.full_like(usual.sky.hourly, np.nan))
        known = slice(NAMES.index("step"), NAMES.index("temperature"))
        values[..., known] = usual.values[..., known]
        return replace(usual, values=values, sky=unknown)

    client, _ = asking(Told(inputs=without))
    assert ask(client).json["pickups"]["mean"] == 87.5
    refused = ask(client, weather=WARMER)
    assert refused.status_code == 422 and "give it in `weather`" in refused.json["detail"]
    given = WARMER | {"precipitation": 0}
    assert ask(client, weather=given).json["pickups"]["mean"] == 350


@pytest.mark.parametrize("weather", [None, WARMER])
@pytest.mark.parametrize(
    ("timestamp", "status"),
    [
        ("2018-07-15T23:00", 422),
        ("2018-07-23T00:00", 200),
        ("2018-07-29T23:00", 200),
        ("2018-07-30T00:00", 422),
        ("9999-12-31T23:59:59Z", 422),
        ("0001-01-01T12:00:00Z", 422),
    ],
)
def test_it_ends_two_weeks_ahead(client, timestamp, status, weather):
    """Hours behind that and before the table are refused, naming those that there are."""
    answer = ask(client, timestamp=timestamp, **({"weather": weather} if weather else {}))
    assert answer.status_code == status
    if status == 422:
        assert answer.json["type"] == "/problems/outside-forecast"
        there = "hours from 2018-07-16T00:00:00-04:00 to 2018-07-29T23:00:00-04:00; ask for one"
        assert there in answer.json["detail"]


@given(minutes=st.integers(-48 * 60, 18 * 24 * 60), offset=st.sampled_from([-10, -4, 0, 9]))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_moment_of_two_weeks_has_an_answer(client, minutes, offset):
    """That of its hour, which says from when on it is of the second week; others have none."""
    moment = START + timedelta(minutes=minutes)
    hours = minutes // 60
    sent = f"{moment + timedelta(hours=offset + 4):%Y-%m-%dT%H:%M:%S}{offset:+03d}:00"
    answer = ask(client, timestamp=sent)
    if not 0 <= hours < 336:
        assert answer.json["type"] == "/problems/outside-forecast"
        return
    assert answer.json["horizon_hours"] == hours + 1
    assert answer.json["timestamp"] == f"{START + timedelta(hours=hours):%Y-%m-%dT%H}:00:00-04:00"
    assert answer.json["pickups"]["mean"] == 2 + hours
    assert answer.json.get("second_week", False) is (hours >= 168)


def test_hours_are_civil_where_clocks_change_in_it(asking):
    """Both moments of the hour that autumn repeats have one answer, and the offset changes."""
    source = Told()
    source.current = published(datetime(2018, 10, 25))
    client, _ = asking(source)
    both = [
        ask(client, timestamp=f"2018-11-04T01:30:00{offset}:00").json for offset in ("-04", "-05")
    ]
    assert both[0] == both[1] and both[0]["horizon_hours"] == 242
    assert both[0]["timestamp"] == "2018-11-04T01:00:00-04:00"
    later = ask(client, timestamp="2018-11-04T02:00").json
    assert (later["horizon_hours"], later["timestamp"]) == (243, "2018-11-04T02:00:00-05:00")


def test_a_table_that_lacks_hours_of_its_own_week_is_not_made_up_for():
    """The second week begins 169 hours ahead."""
    table = build_table(published(hours=24))
    assert [table.in_second_week(step) for step in (23, 24, 167, 168, 335, 336)] == [
        *(False, False, False, True, True, False)
    ]


def test_a_target_that_the_station_has_no_forecast_of_has_none(asking):
    """Where returns are not counted."""
    source = Told(inputs=lambda usual: published_inputs)
    published_inputs = FakeSource(published()).inputs(None, "B")
    frame = source.current.frame
    source.publish(frame=frame.filter(frame["target"] == "pickups"))
    client, _ = asking(source)
    for question in ({}, {"weather": WARMER}):
        answer = ask(client, **question).json
        assert answer["returns"] is None and answer["pickups"]["mean"] in (175, 350)


def test_in_a_batch_each_is_answered_on_its_own(client):
    """Beside look-ups, and up to a bound together with what-ifs."""
    one, later = {"station_id": "B"}, {"station_id": "B", "timestamp": LATER}
    far = later | {"timestamp": "2030-01-01T00:00:00Z"}
    asked = [later, one, far, later | {"weather": WARMER}] + [later] * (MAX_WHAT_IFS - 1) + [one]
    found = client.post("/predict/batch", json={"predictions": asked}).json["predictions"]
    assert found[0] == ask(client).json and found[3] == ask(client, weather=WARMER).json
    assert found[1] == found[-1] == client.post("/predict", json=one).json
    assert found[2]["type"] == "/problems/outside-forecast"
    assert [f.get("second_week") for f in found[4:-1]] == [True] * (MAX_WHAT_IFS - 2) + [None]
    assert found[-2]["status"] == 413 and "of the second week at once" in found[-2]["detail"]


def test_they_are_counted_with_what_ifs(client):
    """Both are asked of the model."""
    ask(client)
    ask(client, timestamp="2018-07-16T05:00")
    assert "bikecast_what_ifs_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("name", ["naive", "mean4w"])
def test_models_that_only_repeat_the_past_answer_too(asking, name):
    """Their forecast is the level that was kept; with other weather they cannot."""
    client, _ = asking(Told(model=lambda usual: pack(MODELS[name]())))
    answer = ask(client).json
    assert answer["pickups"]["mean"] == 87.5 and answer["second_week"] is True
    assert answer["pickups"]["lower"] < 87.5 < answer["pickups"]["upper"]
    refused = ask(client, weather=WARMER)
    assert refused.status_code == 422 and "does not look at the weather" in refused.json["detail"]


@pytest.mark.parametrize("weather", [None, WARMER])
@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"inputs": fails(ConnectionError("gone"))}, stored.NO_DATABASE),
        ({"inputs": lambda usual: None}, stored.NO_INPUTS),
        ({"inputs": first_week}, stored.ONE_WEEK),
        ({"inputs": lambda usual: replace(usual, names=NAMES[::-1])}, stored.OTHER_RELEASE),
        ({"model": fails(TimeoutError("gone"))}, stored.NO_DATABASE),
        ({"model": lambda usual: None}, stored.NO_MODEL),
        ({"model": lambda usual: b"nonsense"}, stored.FAILED),
    ],
)
def test_where_it_cannot_be_told_there_is_a_reason(asking, told, says, weather):
    """And once that is over, it is answered; look-ups always are."""
    source = Told(**told)
    client, current = asking(source)
    question = {"weather": weather} if weather else {}
    for _ in range(2):
        answer = ask(client, **question)
        assert (answer.status_code, answer.json["type"]) == (503, "/problems/what-if-not-now")
        assert says in answer.json["detail"]
        assert client.post("/predict", json={"station_id": "B"}).json["pickups"]["mean"] == 2
    source.told.clear()
    source.publish()
    current.refresh()
    assert ask(client, **question).status_code == 200


def test_a_first_week_of_an_older_release_is_asked_for_other_weather(asking):
    """It kept all that this takes."""
    client, _ = asking(Told(inputs=first_week))
    answer = ask(client, timestamp="2018-07-16T05:00", weather=WARMER)
    assert answer.json["pickups"]["mean"] == 14


def test_what_was_fetched_needs_no_database(asking):
    """Of a station's second week; its what-ifs, and those of the second week, are kept apart."""
    source = Told()
    client, current = asking(source)
    first = ask(client).json
    ask(client, weather=WARMER)
    ask(client, timestamp="2018-07-16T05:00", weather=WARMER)
    assert source.asked == ["model", "B", "B", "B"]
    source.broken = True
    current.refresh()
    assert (
        ask(client).json == first and ask(client, timestamp="2018-07-29T23:00").status_code == 200
    )
    assert ask(client, weather=WARMER, timestamp="2018-07-29T23:00").status_code == 200
    assert ask(client, station_id="A.10").status_code == 503
    source.broken = False
    source.publish()
    current.refresh()
    assert ask(client).status_code == 200 and source.asked[4:] == ["model", "B"]


def test_what_is_kept_of_it_is_bounded(make_client, monkeypatch):
    """Together with what is kept for what-ifs; who was not asked for longest is forgotten first."""
    source = Told()
    current = CurrentTable(source)
    current.refresh()
    client = make_client(current)
    kept = 336 * (len(NAMES) + 1) * 4
    monkeypatch.setattr(whatif, "MOST_BYTES", kept)
    for station in ("A.10", "A.10", "B", "A.10"):
        assert ask(client, station_id=station).status_code == 200
    assert source.asked == ["model", "A.10", "B", "A.10"]


def test_it_is_explained(client):
    """As an hour of the table is."""
    answer = ask(client, "/predict?explain=true").json
    TypeAdapter(ExplainedPrediction).validate_python(answer, strict=True)
    assert answer["explanation"]["pickups"] == {
        "level": 87.5,
        "factors": [{"group": "weather", "factor": 2.0}],
    }
    assert answer["second_week"] is True


@pytest.mark.parametrize("name", ["xgboost", "ensemble"])
@pytest.mark.parametrize("known", [True, False], ids=["weather", "bare"])
def test_the_service_tells_what_xgboost_does(asking, monkeypatch, name, known):
    """Through inputs as they are stored and ONNX, every hour is within 1e-4 of the fitted model."""
    monkeypatch.setattr(boosted, "ROUNDS", 30)
    history = with_weather(small_history(days=40), ahead=400) if known else small_history(days=40)
    model = MODELS[name]()
    model.fit(history, Grid(168, rows=4_000))
    rows = model.inputs(history, np.array([history.known]), 336)
    above = sky_ahead(history, history.known, 336)
    inputs = unpack_inputs(pack_inputs(inputs_of(rows, NAMES, 1, above)))
    client, _ = asking(Told(inputs=lambda usual: inputs, model=lambda usual: pack(model)))
    wanted = model.means(
        rows.values[168:, 1].reshape(-1, len(NAMES)), rows.level[168:, 1].ravel()
    ).reshape(168, 2)
    for hour in range(0, 168, 5):
        moment = datetime(2018, 7, 23) + timedelta(hours=hour)
        answer = ask(client, timestamp=moment.isoformat()).json
        found = [answer[flow]["mean"] for flow in ("pickups", "returns")]
        assert found == pytest.approx(wanted[hour].tolist(), rel=1e-4, abs=6e-4)
