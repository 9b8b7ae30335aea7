"""What is counted, and how it is told."""

from collections.abc import Callable

import pytest
from fakes import FakeSource
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from bikecast import __version__
from bikecast.serve.current import CurrentTable

MakeClient = Callable[..., FlaskClient]


def told(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.mimetype == "text/plain"
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def sample(client: FlaskClient, metric: str, **labels: str) -> float:
    """One of them."""
    return told(client)[metric, frozenset(labels.items())]


def test_requests_are_counted_by_route_method_and_status(client: FlaskClient) -> None:
    """By the route as it is written, not by each station."""
    for station in ("A.10", "B", "nobody"):
        client.get(f"/stations/{station}/forecast")
    client.post("/predict", json={"station_id": "B"})
    client.post("/predict", json={})
    route = "/stations/<path:station_id>/forecast"
    requests = "bikecast_requests_total"
    assert sample(client, requests, route=route, method="GET", status="200") == 2
    assert sample(client, requests, route=route, method="GET", status="404") == 1
    assert sample(client, requests, route="/predict", method="POST", status="200") == 1
    assert sample(client, requests, route="/predict", method="POST", status="400") == 1
    assert sample(client, "bikecast_request_seconds_count", route="/predict") == 2
    assert sample(client, "bikecast_request_seconds_sum", route="/predict") > 0


def test_whoever_asks_for_what_is_not_there_makes_no_new_series(client: FlaskClient) -> None:
    """A scan of a thousand paths, or methods that do not exist, would fill the memory."""
    told(client)
    before = len(told(client))
    for i in range(20):
        client.get(f"/nowhere/{i}")
        client.open("/nowhere", method=f"M{i}")
    requests = sample(client, "bikecast_requests_total", route="none", method="none", status="404")
    assert requests == 40
    # A count with its time of creation, and the buckets of one histogram.
    assert len(told(client)) - before < 25


def test_stale_answers_are_counted(current: CurrentTable, make_client: MakeClient) -> None:
    """Those that say so."""
    fresh, stale = make_client(current), make_client(current, hours_old=30)
    for client in (fresh, stale):
        client.get("/stations/B/forecast")
        client.get("/health")
    assert sample(fresh, "bikecast_stale_answers_total") == 0
    assert sample(stale, "bikecast_stale_answers_total") == 1


def test_the_table_is_told(client: FlaskClient) -> None:
    """Its age, when it was issued, whose it is."""
    assert sample(client, "bikecast_data_age_seconds") == 3 * 3600
    assert sample(client, "bikecast_issued_timestamp_seconds") == 1531713900
    named = {"name": "bike-demand-forecaster", "version": "3", "kind": "naive"}
    assert sample(client, "bikecast_model_info", **named) == 1
    assert sample(client, "bikecast_info", version=__version__) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_without_a_table_there_are_still_metrics(make_client: MakeClient, broken: bool) -> None:
    """That is when somebody looks at them."""
    current = CurrentTable(FakeSource(broken=broken))
    current.refresh()
    found = told(make_client(current))
    assert found["bikecast_database_up", frozenset()] == (0 if broken else 1)
    assert not any(name.startswith("bikecast_model") for name, _ in found)


def test_metrics_are_compressed_for_who_can_read_it(client: FlaskClient) -> None:
    """They are text of a form and a version."""
    answer = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
