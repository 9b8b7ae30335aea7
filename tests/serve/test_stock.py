"""What a station of the made-up table should hold, as a function and over HTTP."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from fakes import PLACES, published
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bikecast.serve.problems import Problem
from bikecast.serve.stock import check_window, step_at, stock_at
from bikecast.serve.table import build_table
from bikecast.serve.types import StationStock
from bikecast.stocking import MAX_DOCKS

ROUTE = "/stations/A.10/stock"


def refusal(answer: Any, status: int, slug: str) -> str:
    """The detail of an answer that must be a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert answer.json["type"] == f"/problems/{slug}"
    return str(answer.json["detail"])


@pytest.mark.parametrize(
    "text, step",
    [
        ("00:00", 0),
        ("06:00", 6),
        ("6:59", 6),
        ("23:00", 23),
        ("2018-07-16T06:00:00", 6),
        ("2018-07-17T06:00:00-04:00", 30),
        ("2018-07-16T10:15:00Z", 6),
    ],
)
def test_a_time_of_day_is_the_next_one_and_a_timestamp_the_hour_around_it(
    text: str, step: int
) -> None:
    """The table begins on 16 July 2018 at midnight."""
    assert step_at(build_table(published()), text) == step


def test_a_time_of_day_before_the_tables_start_is_tomorrows() -> None:
    """A table that begins at noon has its first 06:00 eighteen hours later."""
    assert step_at(build_table(published(datetime(2018, 7, 16, 12))), "06:00") == 18


def test_a_time_of_day_that_spring_skips_is_the_next_days() -> None:
    """On 11 March 2018 there was no 02:00."""
    assert step_at(build_table(published(datetime(2018, 3, 11))), "02:00") == 26


@pytest.mark.parametrize(
    "text, slug",
    [
        ("24:00", "invalid-timestamp"),
        ("06:60", "invalid-timestamp"),
        ("٠٦:٠٠", "invalid-timestamp"),
        ("", "invalid-timestamp"),
        ("12:00", "outside-forecast"),
        ("2018-07-17T00:00:00", "outside-forecast"),
    ],
)
def test_what_is_no_hour_of_the_table_is_refused(text: str, slug: str) -> None:
    """Naming the parameter and what may be written instead."""
    with pytest.raises(Problem, match=slug) as caught:
        step_at(build_table(published(hours=12)), text)
    assert caught.value.detail.startswith("at: ")


def test_the_hours_ahead_must_be_in_the_table() -> None:
    """All of them, to the last."""
    table = build_table(published(hours=24))
    check_window(table, 6, 18)
    with pytest.raises(Problem, match="outside-forecast") as caught:
        check_window(table, 6, 19)
    assert "ask for up to 18" in caught.value.detail


def test_the_hour_that_spring_skips_costs_no_station_its_stock() -> None:
    """It has no rides, and the hours around it are one after the other."""
    made = published(datetime(2018, 3, 11), hours=48)
    whole = build_table(made)
    skips = pl.col("hour") != datetime(2018, 3, 11, 2)
    table = build_table(replace(made, frame=made.frame.filter(skips)))
    assert stock_at(table, 0, 6, 24, 10) == stock_at(whole, 0, 6, 24, 10)


@pytest.mark.parametrize("capacity", [None, 0, MAX_DOCKS + 1])
def test_without_a_capacity_that_a_station_may_have_there_is_no_stock(
    capacity: int | None,
) -> None:
    """Not known, none, or more than any has."""
    place = replace(PLACES[0], capacity=capacity)
    table = build_table(replace(published(), stations=(place,)))
    with pytest.raises(Problem, match="no-capacity"):
        stock_at(table, 0, 6, 24, None)


def test_a_missing_flow_is_a_problem_where_it_is_needed() -> None:
    """A system without returns has no stocks; a gap before matters only with the bikes now."""
    made = published()
    lonely = build_table(replace(made, frame=made.frame.filter(pl.col("target") == "pickups")))
    with pytest.raises(Problem, match="no-forecast"):
        stock_at(lonely, 0, 6, 24, None)
    gap = pl.col("hour") != datetime(2018, 7, 16, 3)
    table = build_table(replace(made, frame=made.frame.filter(gap)))
    assert stock_at(table, 0, 6, 24, None).drift is None
    with pytest.raises(Problem, match="no-forecast"):
        stock_at(table, 0, 6, 24, 10)
    with pytest.raises(Problem, match="no-forecast"):
        stock_at(table, 0, 2, 24, None)


def test_an_answer_says_what_to_hold_and_what_that_avoids(client: FlaskClient) -> None:
    """Beside the stock there will be, where the bikes now are given."""
    answer = client.get(f"{ROUTE}?at=06:00&hours=12&bikes=3")
    assert answer.status_code == 200, answer.text
    found = TypeAdapter(StationStock).validate_python(answer.json, strict=True)
    assert (found["station_id"], found["capacity"], found["hours"]) == ("A.10", 20, 12)
    assert found["at"] == "2018-07-16T06:00:00-04:00"
    assert 0 <= found["low"] <= found["best"] <= found["high"] <= 20
    assert found["p_empty"] is not None and 0 < found["p_empty"] < 1
    assert found["avoided"] is not None and found["avoided"] > 0
    assert found["p_reason"] is None
    assert (found["as_of"], found["data_age_seconds"]) == ("2018-07-16T00:00:00-04:00", 10_800)
    now = client.post(
        "/predict", json={"station_id": "A.10", "bikes": 3, "timestamp": "2018-07-16T05:00:00"}
    ).json
    assert (found["p_empty"], found["p_full"]) == (now["p_empty"], now["p_full"])


def test_without_bikes_the_rest_is_null_with_a_reason(client: FlaskClient) -> None:
    """The next 06:00 and a day from there by default; also by a former id."""
    found = client.get("/stations/old-A/stock").json
    assert found["at"] == "2018-07-16T06:00:00-04:00" and found["hours"] == 24
    assert found["station_id"] == "A.10" and found["expected_failures"] > 0
    assert [found[k] for k in ("p_empty", "p_full", "avoided")] == [None, None, None]
    assert found["p_reason"] == "stock now unknown: send bikes"


@pytest.mark.parametrize(
    "path, status, slug",
    [
        ("/stations/nowhere/stock", 404, "unknown-station"),
        ("/stations/B/stock", 422, "no-capacity"),
        (f"{ROUTE}?at=tomorrow", 400, "invalid-timestamp"),
        (f"{ROUTE}?at=2018-07-23T00:00:00", 422, "outside-forecast"),
        (f"{ROUTE}?at=2018-07-22T01:00:00&hours=24", 422, "outside-forecast"),
        (f"{ROUTE}?hours=0", 400, "invalid-request"),
        (f"{ROUTE}?bikes=-1", 400, "invalid-request"),
        (f"{ROUTE}?bikes=", 400, "invalid-request"),
        (f"{ROUTE}?bikes=٣", 400, "invalid-request"),
        (f"{ROUTE}?bike=3", 400, "invalid-request"),
        (f"{ROUTE}?bikes=21", 422, "bikes-over-capacity"),
    ],
)
def test_what_cannot_be_answered_is_a_problem(
    client: FlaskClient, path: str, status: int, slug: str
) -> None:
    """Each of its own kind."""
    refusal(client.get(path), status, slug)


words = st.sampled_from(["06:00", "2018-07-16T06:00:00", "6", "24", "-1"]) | st.text(max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=st.dictionaries(st.sampled_from(["at", "hours", "bikes"]) | st.text(), words))
def test_no_query_makes_the_service_fail(client: FlaskClient, query: dict[str, str]) -> None:
    """Whatever is sent, the answer is JSON and below 500."""
    answer = client.get(ROUTE, query_string=query)
    assert answer.status_code < 500 and isinstance(answer.json, dict)
