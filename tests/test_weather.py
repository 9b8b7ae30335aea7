"""Hourly weather of two publishers, in one unit each, with what is impossible left out."""

import gzip
from collections import Counter
from datetime import UTC, date, datetime

import httpx
import pytest

from bikecast.errors import DownloadFailed, FileRefused
from bikecast.weather import fetch_weather, parse_weather, read_weather

ZONE = "America/New_York"
LATEST = datetime(2026, 11, 2, 12)
OPEN = "time,temperature_2m (°C),precipitation (mm),cloudcover (%),windspeed_10m (km/h)"
CROSSING = "name,datetime,temp,precip,windspeed,cloudcover,humidity"


def parse(*lines):
    """The frame, and what was counted."""
    skipped: Counter[str] = Counter()
    frame, read = parse_weather("\n".join(lines) + "\n", "w.csv", ZONE, LATEST, skipped)
    return frame, dict(skipped), read


def test_open_meteo_is_utc():
    """Its hours need no conversion; a variable that it lacks is unknown."""
    frame, skipped, read = parse(OPEN, "2018-05-01T04:00,7.6,0.5,69,10")
    row = frame.row(0, named=True)
    assert row["hour"] == datetime(2018, 5, 1, 4, tzinfo=UTC) and row["issued_at"] is None
    assert (row["temperature"], row["precipitation"], row["wind_speed"]) == (7.6, 0.5, 10)
    assert (row["cloud_cover"], row["humidity"]) == (69, None)
    assert (skipped, read) == ({}, 1)


@pytest.mark.parametrize(
    ("column", "value", "name", "expected"),
    [
        ("temperature_2m (°F)", "50", "temperature", 10.0),
        ("precipitation (inch)", "1", "precipitation", 25.4),
        ("wind_speed_10m (m/s)", "10", "wind_speed", 36.0),
        ("wind_speed_10m (mp/h)", "10", "wind_speed", 16.09344),
        ("wind_speed_10m (kn)", "10", "wind_speed", 18.52),
    ],
)
def test_units_in_brackets_are_converted(column, value, name, expected):
    """What the header calls °F, inch, m/s, mp/h or kn becomes °C, mm and km/h."""
    columns = {
        "temperature": "temperature_2m",
        "precipitation": "precipitation",
        "wind_speed": "wind_speed_10m",
    }
    header = "time," + ",".join(column if n == name else c for n, c in columns.items())
    cells = ",".join(value if n == name else "0" for n in columns)
    frame, _, _ = parse(header, f"2018-05-01T04:00,{cells}")
    assert frame[name][0] == pytest.approx(expected)


def test_a_download_of_open_meteo_with_its_preamble_and_offset():
    """Hours of a file in local time are moved by the offset that the file states."""
    frame, _, _ = parse(
        "latitude,longitude,utc_offset_seconds", "40.7,-74.0,-14400", "", OPEN,
        "2018-05-01T00:00,7.6,0,69,10",
    )  # fmt: skip
    assert frame["hour"][0] == datetime(2018, 5, 1, 4, tzinfo=UTC)


def test_visual_crossing_is_local_and_repeats_an_hour_in_autumn():
    """The first 01:00 of 2020-11-01 is 05:00 UTC, the second 06:00."""
    rows = [f"NY,2020-11-01T0{h}:00:00,{t},0,1,2,3" for h, t in ((0, 1), (1, 2), (1, 3), (2, 4))]
    frame, skipped, _ = parse(CROSSING, *rows)
    assert frame["hour"].dt.hour().to_list() == [4, 5, 6, 7]
    assert frame["temperature"].to_list() == [1, 2, 3, 4] and skipped == {}


def test_blank_impossible_and_repeated_rows_are_counted():
    """9999 is no temperature; an empty row is none; of two rows of an hour the last stands."""
    frame, skipped, read = parse(
        OPEN,
        "2018-05-01T04:00,9999,0,69,10",
        "2018-05-01T05:00,,,,",
        "2018-05-01T06:00,1,0,1,1",
        "2018-05-01T06:00,2,0,1,1",
        "2018-02-30T06:00,2,0,1,1",
    )
    assert read == 5 and frame["temperature"].to_list() == [None, 2.0]
    assert skipped == {
        "blank row": 1,
        "impossible temperature": 1,
        "hour given twice": 1,
        "unreadable time": 1,
    }


def test_a_forecast_says_when_it_was_issued():
    """Two vintages of one hour are two rows."""
    frame, _, _ = parse(
        OPEN + ",issued_at",
        "2018-05-01T04:00,1,0,1,1,2018-04-30T00:00",
        "2018-05-01T04:00,2,0,1,1,2018-04-30T12:00",
    )
    assert frame["issued_at"].dt.hour().to_list() == [0, 12]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"time,temperature_2m\n", "no row"),
        (b"\0\1\2\3", "binary"),
        (b"<html><body>gone</body></html>", "web page"),
        (b"a,b\n1,2\n", "no weather file"),
        (OPEN.replace("windspeed_10m", "gust").encode() + b"\n2018-05-01T04:00,1,0,1,1\n", "lacks"),
        (gzip.compress(OPEN.encode() * 99)[:-9], "cut off"),
    ],
)
def test_what_is_no_weather_file_is_refused(tmp_path, data, says):
    """The error names the file and what is wrong."""
    path = tmp_path / "w.csv"
    path.write_bytes(data)
    with pytest.raises(FileRefused, match=says):
        read_weather(path, ZONE, LATEST, Counter())
    with pytest.raises(FileRefused, match="No such file"):
        read_weather(tmp_path / "none.csv", ZONE, LATEST, Counter())


def test_the_archive_is_asked_for_days_in_utc_as_csv():
    """Place, days and variables are in the question; the answer is handed on."""

    def answer(request):
        asked = dict(request.url.params)
        assert asked["timezone"] == "UTC" and asked["start_date"] == "2018-05-01"
        return httpx.Response(200, text="csv")

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        day = date(2018, 5, 1)
        assert fetch_weather(http, "http://weather/archive", 40.7, -74, day, day) == "csv"


def test_an_archive_that_fails_is_named():
    """A 500 is a failed download."""
    with httpx.Client(transport=httpx.MockTransport(lambda r: httpx.Response(500))) as http:
        with pytest.raises(DownloadFailed, match="http://weather"):
            fetch_weather(http, "http://weather/a", 1, 1, date(2018, 5, 1), date(2018, 5, 1))


def test_a_real_file_of_each_publisher(shared_data):
    """All rows are read, and the blank ones are counted."""
    skipped: Counter[str] = Counter()
    path = shared_data / "weather" / "open_meteo_nyc_hourly_utc_2016_2022.csv.gz"
    frame, read = read_weather(path, ZONE, LATEST, skipped)
    assert (read, len(frame), skipped["blank row"]) == (59_616, 59_592, 24)
    path = shared_data / "weather" / "visualcrossing_nyc_hourly_local_2020-01_2021-04.csv.gz"
    frame, read = read_weather(path, ZONE, LATEST, Counter())
    assert read == 11_663 and frame["hour"].is_unique().all() and len(frame) == read
