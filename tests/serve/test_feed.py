"""The forecast of all stations as a feed."""

from collections.abc import Callable
from datetime import datetime

import polars as pl
from fakes import FakeSource, forecast_rows, published
from flask.testing import FlaskClient
from pydantic import TypeAdapter

from bikecast.serve.current import CurrentTable
from bikecast.serve.types import Feed

MakeClient = Callable[..., FlaskClient]


def test_the_feed_has_the_coming_day_of_every_station(client: FlaskClient) -> None:
    """The numbers that a station's own forecast has."""
    feed = client.get("/station_forecast.json").json
    TypeAdapter(Feed).validate_python(feed, strict=True)
    assert (feed["last_updated"], feed["ttl"], feed["version"]) == (
        *("2018-07-16T00:05:00-04:00", 60, "1.0"),
    )
    data = feed["data"]
    assert data["model"]["version"] == "3" and data["stale"] is False
    assert len(data["hours"]) == 24 and data["hours"][0] == "2018-07-16T00:00:00-04:00"
    assert [station["station_id"] for station in data["stations"]] == ["A.10", "B"]
    for station in data["stations"]:
        own = client.get(f"/stations/{station['station_id']}/forecast?hours=24").json["forecast"]
        assert [hour["timestamp"] for hour in own] == data["hours"]
        for target in ("pickups", "returns"):
            for name in ("mean", "lower", "upper"):
                assert station[target][name] == [hour[target][name] for hour in own]


def test_what_has_no_forecast_is_null_and_what_does_not_exist_is_left_out(
    make_client: MakeClient,
) -> None:
    """Spring skips 02:00; a system without returns forecasts none."""
    made = published(datetime(2018, 3, 11), hours=48)
    frame = made.frame.filter(
        (pl.col("target") == "pickups") & (pl.col("hour") != datetime(2018, 3, 11, 2))
    )
    source = FakeSource(made)
    source.publish(frame=frame)
    current = CurrentTable(source)
    current.refresh()
    data = make_client(current).get("/station_forecast.json").json["data"]
    assert data["hours"][1:3] == ["2018-03-11T01:00:00-05:00", "2018-03-11T03:00:00-04:00"]
    station = data["stations"][0]
    assert len(data["hours"]) == len(station["pickups"]["mean"]) == 23
    assert set(station["returns"]["mean"]) == {None} and None not in station["pickups"]["mean"]


def test_the_feed_follows_the_table(
    current: CurrentTable, source: FakeSource, client: FlaskClient
) -> None:
    """What was made of one table is not told of the next."""
    before = client.get("/station_forecast.json").json["data"]
    assert client.get("/station_forecast.json").json["data"] == before
    source.publish(frame=forecast_rows(datetime(2018, 7, 16), first_mean=9.0))
    current.refresh()
    after = client.get("/station_forecast.json").json["data"]
    assert before["stations"][0]["pickups"]["mean"][0] == 2.0
    assert after["stations"][0]["pickups"]["mean"][0] == 9.0
