"""What caches are told, and compressed answers."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes import FakeSource, forecast_rows, published
from flask.testing import FlaskClient

from bikecast.serve.current import CurrentTable

MakeClient = Callable[..., FlaskClient]

KEPT = ["/stations", "/model", "/stations/B/forecast", "/station_forecast.json"]


@pytest.mark.parametrize("path", KEPT)
def test_who_has_a_forecast_is_not_sent_it_again(
    current: CurrentTable, source: FakeSource, make_client: MakeClient, path: str
) -> None:
    """Until there is a new one, or it has become stale."""
    fresh = make_client(current)
    tag = fresh.get(path).headers["ETag"]
    again = fresh.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["Cache-Control"] == "public, max-age=60"
    stale = make_client(current, hours_old=30).get(path, headers={"If-None-Match": tag})
    assert stale.status_code == 200 and stale.json and stale.headers["ETag"] != tag
    source.publish()
    current.refresh()
    newer = fresh.get(path, headers={"If-None-Match": tag})
    assert newer.status_code == 200 and newer.headers["ETag"] != tag


def test_whatever_an_answer_follows_from_is_in_its_tag(make_client: MakeClient) -> None:
    """An issue of the same number, renamed stations, other numbers, another release or name."""
    made = published()
    later = replace(made.issue, issued_at=made.issue.issued_at + timedelta(hours=1))
    renamed = tuple(replace(station, name="renamed") for station in made.stations)
    frame = forecast_rows(datetime(2018, 7, 16), first_mean=9.0)
    changes: list[dict[str, Any]] = [
        {},
        {"issue": later},
        {"stations": renamed},
        {"frame": frame},
        {"aliases": {}},
    ]
    tags = []
    for change in changes:
        current = CurrentTable(FakeSource(replace(made, **change)))
        current.refresh()
        tags.append(make_client(current).get("/stations").headers["ETag"])
    for settings in ({"commit": "c" * 40}, {"model_name": "other"}):
        tags.append(make_client(current, **settings).get("/stations").headers["ETag"])
    assert len(set(tags)) == len(tags) == 7


@pytest.mark.parametrize("header", ["If-Match", "Range"])
def test_other_conditions_are_no_conditions_here(client: FlaskClient, header: str) -> None:
    """A weak tag matches none of them."""
    tag = client.get("/stations").headers["ETag"]
    found = client.get("/stations", headers={header: tag if header == "If-Match" else "bytes=0-1"})
    assert found.status_code == 200 and found.json["stations"]


def test_whoever_has_a_forecast_learns_of_his_mistakes_all_the_same(client: FlaskClient) -> None:
    """A tag of one route does not hide that another has no such station or parameter."""
    tag = {"If-None-Match": client.get("/stations").headers["ETag"]}
    assert client.get("/stations/nobody/forecast", headers=tag).status_code == 404
    assert client.get("/stations?x=1", headers=tag).status_code == 400


def test_what_changes_with_every_question_is_not_kept(client: FlaskClient) -> None:
    """Predictions are posted, explanations may be missing for a moment."""
    answers = [
        client.post("/predict", json={"station_id": "B"}),
        client.get("/stations/B/forecast?explain=true"),
    ]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers


def test_long_answers_are_compressed_for_who_can_read_it(client: FlaskClient) -> None:
    """The same document; short ones go as they are, and who refuses it does not get it."""
    path = "/stations/B/forecast?hours=168"
    plain = client.get(path)
    packed = client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) == len(packed.data) < len(plain.data) / 2
    assert json.loads(gzip.decompress(packed.data)) == plain.json
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["Vary"]
    refused = client.get(path, headers={"Accept-Encoding": "gzip;q=0, *"})
    short = client.get("/health", headers={"Accept-Encoding": "gzip"})
    for answer in (plain, refused, short):
        assert "Content-Encoding" not in answer.headers
