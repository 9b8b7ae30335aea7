"""Which stations are one station: ids that change, return and move, on a real PostgreSQL."""

from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import permutations

import polars as pl
import pytest
from city import HEADER, LEGACY, frame, given, hourly_panel, old_ride, ride, seen, write

from bikecast.collect import import_panel, import_stations, import_trips
from bikecast.records import Issue, Station

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_station_whose_id_changed_is_one_station(city, april, january, order):
    """Same name, same place: the new id has the whole history, and the old one still answers."""
    files = [january, april]
    import_trips(city, "city", [files[i] for i in order])
    assert [s.station_id for s in city.stations("city")] == ["A1", "B2"]
    assert city.aliases("city") == {"72": "A1", "79": "B2"}
    first = city.hourly("city").filter(pl.col("station_id") == "A1")
    assert first["pickups"].sum() == 31 + 120
    assert first["hour"].min() == datetime(2021, 1, 1, 8)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_imports_changes_nothing(city, april, january, tmp_path, order):
    """Trips before and after an id changed, a stations file and a panel: always the same city.

    What the stations file gives goes before what trips tell, and the panel's hours before counts.
    """
    places = given(tmp_path, "72,Given St,,,33", "B2,,40.5,-74.5,", "far,Far Rd,40.8,-74.1,9")
    panel = hourly_panel(tmp_path, "72", datetime(2021, 4, 1), 24, 5)
    steps = [
        partial(import_trips, city, "city", [january]),
        partial(import_trips, city, "city", [april]),
        partial(import_stations, city, "city", [places]),
        partial(import_panel, city, "city", [panel]),
    ]
    for i in order:
        steps[i]()
    assert city.stations("city") == (
        Station("A1", "Given St", 40.71, -74.01, 33),
        Station("B2", "Second St", 40.5, -74.5),
        Station("far", "Far Rd", 40.8, -74.1, 9),
    )
    assert city.aliases("city") == {"72": "A1", "79": "B2"}
    first = city.hourly("city").filter(pl.col("station_id") == "A1")
    day = pl.col("hour").dt.date() == date(2021, 4, 1)
    assert first.filter(day)["pickups"].to_list() == [5] * 24
    assert first.filter(~day)["pickups"].sum() == 31 + 29 * 4
    assert set(city.hourly("city")["station_id"]) == {"A1", "B2"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_stations_that_turn_out_to_be_one_are_merged(city, rows, tmp_path, order):
    """Two stations with forecasts, until a ride shows the name of one at the id of the other."""
    start = datetime(2021, 4, 1, 8)
    files = [
        write(tmp_path / "a.csv", HEADER, [ride(1, start), ride(2, start + timedelta(days=1))]),
        write(tmp_path / "b.csv", HEADER, [ride(3, start, a="A9", a_name="New Name")]),
        write(tmp_path / "c.csv", HEADER, [ride(4, start, a="A9")]),
    ]
    moment = datetime(2021, 5, 1, 4, tzinfo=UTC)
    for n, i in enumerate(order):
        import_trips(city, "city", [files[i]])
        known = [s.station_id for s in city.stations("city")]
        issue = Issue("city", moment, moment, "naive", str(n))
        city.save_issue(issue, frame(*known), seen(*known))
    assert [s.station_id for s in city.stations("city")] == ["A1", "B2"]
    assert city.hourly("city")["pickups"].sum() == 4
    newest = city.forecast_frame(city.newest_issue("city").issue_id)
    assert set(newest["station_id"]) == {"A1", "B2"}
    kept = rows(
        "SELECT DISTINCT i.station_key FROM forecast_inputs i JOIN station USING (station_key)"
    )
    assert len(kept) == 2
    counted = rows("SELECT count(*), count(DISTINCT station_key) FROM station")[0]
    assert counted == (2, 2)


def test_panel_hours_of_merged_stations_add_up(city, tmp_path):
    """Two ids of one station in a panel, before trips tell that they are one."""
    at = datetime(2021, 4, 1)
    import_panel(city, "city", [hourly_panel(tmp_path, "A1", at, 24, 2)])
    import_panel(city, "city", [hourly_panel(tmp_path, "A9", at, 24, 3)])
    rides = [ride(1, at), ride(2, at, a="A9")]
    import_trips(city, "city", [write(tmp_path / "t.csv", HEADER, rides)])
    hours = city.hourly("city").filter(pl.col("station_id") != "B2")
    assert hours["pickups"].to_list() == [5] * 24 and hours["returns"].to_list() == [2] * 24


def test_a_ride_without_a_place_makes_no_two_stations_one(city, tmp_path):
    """A recycled id without coordinates joins the newer station, and is no bridge to the older."""
    early = old_ride(1, datetime(2019, 1, 1, 8))
    late = old_ride(2, datetime(2020, 1, 1, 8), a_name="Far Rd")
    nowhere = old_ride(3, datetime(2020, 1, 2, 8)).replace("First St,40.71,-74.01", ",,")
    import_trips(city, "city", [write(tmp_path / "t.csv", LEGACY, [early, late, nowhere])])
    names = {s.station_id: s.name for s in city.stations("city")}
    assert names == {"72": "Far Rd", "72@2019-01": "First St", "79": "Second St"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_recycled_id_is_another_station(city, tmp_path, order):
    """The same id nine kilometres away is a new station; the one seen last keeps the id."""
    early = [old_ride(d, datetime(2019, 1, d, 8)) for d in range(1, 32)]
    late = [old_ride(d, datetime(2020, 1, d, 8), a_name="Far Rd") for d in range(1, 32)]
    files = [
        write(tmp_path / "early.csv", LEGACY, early),
        write(tmp_path / "late.csv", LEGACY, late),
    ]
    import_trips(city, "city", [files[i] for i in order])
    names = {s.station_id: s.name for s in city.stations("city")}
    assert names == {"72": "Far Rd", "72@2019-01": "First St", "79": "Second St"}


def test_ten_real_files_are_counted_once_and_stations_stay_themselves(city, shared_data):
    """Jersey City, legacy and modern: the zip repeats a month, and old ids lead to new ones."""
    reports = import_trips(
        city, "city", [shared_data / "trips_legacy", shared_data / "trips_modern"]
    )
    assert len(reports) == 10
    assert sum(r.rows_read for r in reports) == 173_655 + 23_774
    assert [r.rows_used for r in reports if r.file.endswith(".zip")] == [0]
    aliases = city.aliases("city")
    stations = {s.station_id: s for s in city.stations("city")}
    assert stations[aliases["3202"]].name == "Newport PATH"
    assert len([new for new in aliases.values() if new.startswith("JC")]) >= 50
