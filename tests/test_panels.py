"""Panel and stations files as the contract writes them, and what is said of bad rows."""

import math
from collections import Counter
from datetime import datetime

import polars as pl
import pytest

from bikecast.errors import FileRefused
from bikecast.panels import read_panel, read_stations
from bikecast.records import Station

LATEST = datetime(2026, 11, 2, 12)


@pytest.fixture
def given(tmp_path):
    """Write a file and give its path."""

    def write(text, name="p.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_csv_panel_keeps_its_ids(given):
    """``5379.10`` is not ``5379.1``; hours may be written in three ways."""
    path = given(
        "station_id,hour,pickups,returns\n5379.10,2018-05-01 00:00,1,2\n"
        "5379.1,2018-05-01T01:00:00,3,4\n5379.1,2018-05-01 02:00:00.000,3,4\n"
    )
    frame, read = read_panel(path, LATEST, Counter())
    assert frame["station_id"].to_list() == ["5379.10", "5379.1", "5379.1"]
    assert frame["hour"].dt.hour().to_list() == [0, 1, 2] and read == 3
    assert frame["returns"].to_list() == [2, 4, 4]


def test_a_parquet_panel_may_lack_returns(tmp_path):
    """What the file does not have is not made up."""
    path = tmp_path / "p.parquet"
    made = {"station_id": ["a"], "hour": [datetime(2018, 5, 1)], "pickups": [1]}
    pl.DataFrame(made).write_parquet(path)
    frame, _ = read_panel(path, LATEST, Counter())
    assert frame.columns == ["station_id", "hour", "pickups"]


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_returns_of_which_none_is_known_are_as_good_as_none(tmp_path, unknown):
    """A column that is blank throughout spoils no row."""
    path = tmp_path / "p.parquet"
    made = {"station_id": ["a"], "hour": [datetime(2018, 5, 1)], "pickups": [1]}
    returns = pl.Series([unknown], dtype=pl.Float64)
    pl.DataFrame(made).with_columns(returns=returns).write_parquet(path)
    skipped = Counter()
    frame, _ = read_panel(path, LATEST, skipped)
    assert frame.columns == ["station_id", "hour", "pickups"] and len(frame) == 1 and not skipped


def test_blank_returns_of_a_csv_are_as_good_as_none(given):
    """Blanks alone; where one row has a number, a blank is none, and text never is."""
    path = given("station_id,hour,pickups,returns\na,2018-05-01 00:00,1,\na,2018-05-01 01:00,2, \n")
    frame, _ = read_panel(path, LATEST, Counter())
    assert frame.columns == ["station_id", "hour", "pickups"] and len(frame) == 2
    for cell in ("3", "x"):
        skipped = Counter()
        head = "station_id,hour,pickups,returns\n"
        path = given(f"{head}a,2018-05-01 00:00,1,\na,2018-05-01 01:00,2,{cell}\n")
        read_panel(path, LATEST, skipped)
        assert skipped["no number"] == 1 + (cell == "x")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",2018-05-01 00:00,1,2", "no station"),
        ("b,2018-02-30 00:00,1,2", "unreadable hour"),
        ("b,9999-12-31 23:00,1,2", "impossible hour"),
        ("b,0018-05-01 00:00,1,2", "impossible hour"),
        ('b,"2018-05-01 00:00,1,2', "unclosed quote"),
        ("b,2018-05-01 00:00", "wrong number of fields"),
        ("b,2018-05-01 00:30,1,2", "not on the hour"),
        ("b,2018-05-01 00:00,x,2", "no number"),
        ("b,2018-05-01 00:00,-1,2", "negative"),
        ("b,2018-05-01 00:00,1,9999", "more than a bike a second"),
        ("b,2018-05-01 00:00,1.5,2", "not a whole number"),
        ("a,2018-05-01 00:00,9,9", "station and hour given twice"),
    ],
)
def test_a_bad_row_is_counted_and_the_others_stay(given, row, reason):
    """Each reason has its own count."""
    skipped: Counter[str] = Counter()
    path = given(f"station_id,hour,pickups,returns\na,2018-05-01 00:00,1,2\n{row}\n")
    frame, read = read_panel(path, LATEST, skipped)
    assert len(frame) == 1 and read == 2 and dict(skipped) == {reason: 1}


def test_a_control_character_far_down_costs_its_row_only(given):
    """At the beginning it makes the file a binary one."""
    good = "".join(f"a,2018-05-{d:02d} {h:02d}:00,1,2\n" for d in range(1, 31) for h in range(24))
    skipped: Counter[str] = Counter()
    text = f"station_id,hour,pickups,returns\n{good}b\0,2018-05-01 00:00,1,2\n"
    frame, read = read_panel(given(text), LATEST, skipped)
    assert len(frame) == 720 and read == 721 and skipped == {"control character": 1}


def test_a_file_without_a_column_is_refused(given, tmp_path):
    """The missing column is named; so is a damaged or missing file."""
    with pytest.raises(FileRefused, match="pickups"):
        read_panel(given("station_id,hour\na,2018-05-01 00:00\n"), LATEST, Counter())
    with pytest.raises(FileRefused, match="No such file"):
        read_panel(tmp_path / "none.parquet", LATEST, Counter())
    with pytest.raises(FileRefused, match="damaged"):
        read_panel(given("PAR1 and nothing more", "p.parquet"), LATEST, Counter())


def test_stations_under_either_name(given):
    """``id, address, latitude, longitude`` are as good as ``station_id, name, lat, lon``."""
    first = given("station_id,name,lat,lon,capacity\n1.10,A,40.7,-74,20\n", "1.csv")
    second = given("id,address,longitude,latitude,capacity\n1.10,A,-74,40.7,20\n", "2.csv")
    expected = (Station("1.10", "A", 40.7, -74.0, 20),)
    assert read_stations(first, Counter())[0] == read_stations(second, Counter())[0] == expected


def test_what_a_station_lacks_is_unknown_and_counted(given):
    """An impossible place or capacity is dropped, the station stays."""
    skipped: Counter[str] = Counter()
    path = given("station_id,name,lat,lon,capacity\na,A,400,1,x\nb,,,,\n,C,1,1,1\nb,B,1,2,3\n")
    found, read = read_stations(path, skipped)
    assert found == (Station("a", "A"), Station("b", "B", 1.0, 2.0, 3)) and read == 4
    assert dict(skipped) == {
        "impossible place": 1,
        "impossible capacity": 1,
        "no station": 1,
        "station given twice": 1,
    }


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("station_id", "name, lat, lon"),
        ("name,lat,lon,capacity", "station_id"),
        ("id,address,longitude", "lat"),
        ("station_id,hour,pickups,returns", "name, lat, lon"),
    ],
)
def test_a_stations_file_without_a_column_is_refused_whole(given, header, missing):
    """Said are what is missing, what was expected and what was found; a panel is no such file."""
    path = given(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    with pytest.raises(FileRefused) as refused:
        read_stations(path, Counter())
    told = str(refused.value)
    assert f"lacks the column(s) {missing};" in told
    assert "expected station_id (or id), name (address)" in told
    assert f"found {header.replace(',', ', ')}" in told


def test_a_stations_file_may_know_no_capacities(given):
    """Systems without docks have none; a bad row costs no other."""
    skipped: Counter[str] = Counter()
    path = given('station_id,name,lat,lon\na,A,1,2\nb,"B,1,2\nc,5" pipe,1,2\n')
    found, read = read_stations(path, skipped)
    assert found == (Station("a", "A", 1.0, 2.0), Station("c", '5" pipe', 1.0, 2.0))
    assert read == 3 and skipped == {"unclosed quote": 1}
