"""The store on a real PostgreSQL: what goes in comes out, for one system and no other."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bikecast.collect import import_panel, import_stations, import_trips, import_weather
from bikecast.errors import FileRefused, InputError, SchemaTooNew, Unavailable, UnknownName
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.records import FORECAST_COLUMNS, Issue, Station, System
from bikecast.store import Store, ensure_database
from bikecast.store.schema import script_location

pytestmark = pytest.mark.integration

CITY = System("city", "A city", "America/New_York", "US-NY")
HEADER = (
    "ride_id,rideable_type,started_at,ended_at,start_station_name,start_station_id,"
    "end_station_name,end_station_id,start_lat,start_lng,end_lat,end_lng,member_casual"
)
LEGACY = (
    "tripduration,starttime,stoptime,start station id,start station name,start station latitude,"
    "start station longitude,end station id,end station name,end station latitude,"
    "end station longitude,bikeid,usertype,birth year,gender"
)
PLACES = {
    "First St": "40.71,-74.01",
    "New Name": "40.7105,-74.01",  # 55 m from First St
    "Second St": "40.72,-74.02",
    "Far Rd": "40.80,-74.10",
}


def ride(n, start, a="A1", b="B2", a_name="First St", b_name="Second St"):
    """A ride of ten minutes."""
    end = start + timedelta(minutes=10)
    ends = f"{a_name},{a},{b_name},{b},{PLACES[a_name]},{PLACES[b_name]}"
    return f"R{n},classic_bike,{start},{end},{ends},member"


def old_ride(n, start, a="72", a_name="First St"):
    """A ride of the legacy schema, to Second St."""
    end = start + timedelta(minutes=10)
    ends = f"{a},{a_name},{PLACES[a_name]},79,Second St,{PLACES['Second St']}"
    return f"600,{start},{end},{ends},{n},Subscriber,1980,1"


def write(path: Path, header, rides) -> Path:
    """A trip file."""
    path.write_text("\n".join([header, *rides, ""]))
    return path


@pytest.fixture
def city(store):
    """A store that knows the city."""
    store.add_system(CITY)
    return store


@pytest.fixture
def april(tmp_path):
    """A month of rides: two an hour from 8 to 10 every day."""
    rides = [
        ride(f"{day}-{hour}-{i}", datetime(2021, 4, day, hour, 20 * i))
        for day in range(1, 31)
        for hour in (8, 9)
        for i in range(2)
    ]
    return write(tmp_path / "202104.csv", HEADER, rides)


@pytest.fixture
def january(tmp_path):
    """A month before the ids changed."""
    rides = [old_ride(day, datetime(2021, 1, day, 8)) for day in range(1, 32)]
    return write(tmp_path / "202101.csv", LEGACY, rides)


def test_trips_become_hours_with_zeros_inside_covered_days(city, april):
    """Between a station's first and last ride every hour of a covered day has a row."""
    report = import_trips(city, "city", [april])[0]
    assert (report.rows_read, report.rows_used, report.skipped) == (120, 120, {})
    hours = city.hourly("city").filter(pl.col("station_id") == "A1")
    assert hours["pickups"].sum() == 120 and hours["returns"].sum() == 0
    assert len(hours) == 29 * 24 + 2
    assert hours.filter(pl.col("hour") == datetime(2021, 4, 2, 8))["pickups"].item() == 2
    assert hours.filter(pl.col("hour") == datetime(2021, 4, 2, 11))["pickups"].item() == 0
    assert city.coverage("city") == [(date(2021, 4, 1), date(2021, 4, 30))]


def test_the_same_file_twice_changes_nothing(city, april):
    """The second import says that the content is there already."""
    import_trips(city, "city", [april])
    before = city.hourly("city")
    again = import_trips(city, "city", [april])[0]
    assert again.already_imported and again.skipped == {"imported before": 120}
    assert (again.rows_read, again.rows_used) == (120, 0)
    assert city.hourly("city").equals(before)


def test_an_import_tells_how_far_it_is(city, april, january):
    """Files and shares of a file, up to all of them."""
    seen = []
    import_trips(city, "city", [january, april], lambda *told: seen.append(told))
    assert [name for _, _, name in seen] == ["202101.csv"] * 2 + ["202104.csv"] * 2
    assert [done for done, _, _ in seen] == [0, 1, 1, 2] and seen[0][1] == 2


def test_a_month_repeated_in_another_file_counts_nothing_twice(city, april, tmp_path):
    """Rides are known by their key: other bytes with the same rides add nothing."""
    import_trips(city, "city", [april])
    before = city.hourly("city")
    copy = tmp_path / "again.csv"
    copy.write_text(april.read_text() + ride("new", datetime(2021, 4, 5, 8, 50)) + "\n")
    report = import_trips(city, "city", [copy])[0]
    assert report.rows_used == 1 and report.skipped == {"duplicate ride": 120}
    assert city.hourly("city")["pickups"].sum() == before["pickups"].sum() + 1


def test_a_gap_of_months_is_unknown(city, april, january):
    """February and March were never imported: they have no hours at all."""
    import_trips(city, "city", [january, april])
    months = city.hourly("city")["hour"].dt.month().unique().sort().to_list()
    assert months == [1, 4]
    assert len(city.coverage("city")) == 2


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


def given(folder: Path, *lines) -> Path:
    """A stations file."""
    return write(folder / "stations.csv", "station_id,name,lat,lon,capacity", lines)


def hourly_panel(folder: Path, station, first, hours, pickups) -> Path:
    """A panel file of one station with the same pickups and one return every hour."""
    lines = [f"{station},{first + timedelta(hours=h)},{pickups},1" for h in range(hours)]
    return write(
        folder / f"panel-{station}-{pickups}.csv", "station_id,hour,pickups,returns", lines
    )


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
        city.save_issue(Issue("city", moment, moment, "naive", str(n)), frame(*known))
    assert [s.station_id for s in city.stations("city")] == ["A1", "B2"]
    assert city.hourly("city")["pickups"].sum() == 4
    newest = city.forecast_frame(city.newest_issue("city").issue_id)
    assert set(newest["station_id"]) == {"A1", "B2"}
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


def test_nothing_of_one_system_shows_in_another(city, april, january):
    """Two cities with the same station ids keep their hours, stations and imports apart."""
    city.add_system(System("other", timezone="Europe/Berlin"))
    import_trips(city, "city", [april])
    assert city.stations("other") == () and city.hourly("other").is_empty()
    assert city.coverage("other") == [] and city.newest_issue("other") is None
    report = import_trips(city, "other", [april])[0]
    assert not report.already_imported and report.rows_used == 120
    import_trips(city, "other", [january])
    assert city.hourly("city")["pickups"].sum() == 120
    assert city.hourly("other")["pickups"].sum() == 151
    assert [s.system_id for s in city.systems()] == ["city", "other"]


def test_a_file_that_breaks_off_leaves_nothing_and_the_others_come_in(city, april, tmp_path):
    """A cut gz is refused whole; the file beside it is imported all the same."""
    import gzip

    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(april.read_bytes().replace(b",R", b",X"))[:-30])
    with pytest.raises(FileRefused, match="cut.csv.gz.*cut off"):
        import_trips(city, "city", [cut, april, tmp_path / "none.csv"])
    assert city.hourly("city")["pickups"].sum() == 120


def test_a_file_without_a_usable_row_is_refused(city, rows, tmp_path):
    """With the reasons; it is not remembered as imported, and no station is made."""
    bad = [old_ride(1, datetime(2021, 1, 1, 8)).replace("2021-01-01", "1 January")]
    path = write(tmp_path / "bad.csv", LEGACY, bad)
    for _ in range(2):
        with pytest.raises(FileRefused, match="no row of .*bad.csv can be used: 1 unreadable time"):
            import_trips(city, "city", [path])
    assert city.stations("city") == () and rows("SELECT count(*) FROM import_file") == [(0,)]


def test_an_interrupted_import_leaves_nothing(city, april):
    """Ctrl-C in the middle of a file rolls it back; the next import brings it in."""

    def interrupted(done, total, detail):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_trips(city, "city", [april], interrupted)
    assert city.hourly("city").is_empty()
    assert import_trips(city, "city", [april])[0].rows_used == 120


def test_panel_stations_and_weather(city, tmp_path):
    """Files of the contract go in, and come out as a history with places and weather."""
    panel = tmp_path / "panel.csv"
    hours = [datetime(2021, 4, 1) + timedelta(hours=h) for h in range(48)]
    panel.write_text(
        "station_id,hour,pickups,returns\n" + "".join(f"5379.10,{h},1,2\n" for h in hours)
    )
    places = tmp_path / "stations.csv"
    places.write_text("station_id,name,lat,lon,capacity\n5379.10,First St,40.7,-74,20\n")
    sky = tmp_path / "weather.csv"
    sky.write_text(
        "time,temperature_2m,precipitation,wind_speed_10m\n2021-04-01T04:00,10,0,5\n"
        "2021-04-03T04:00,20,0,5\n"
    )
    assert import_panel(city, "city", [panel])[0].rows_used == 48
    assert import_stations(city, "city", [places])[0].rows_used == 1
    assert import_weather(city, "city", [sky])[0].rows_used == 2
    history = city.history("city")
    assert history.stations == (Station("5379.10", "First St", 40.7, -74.0, 20),)
    assert history.as_of == datetime(2021, 4, 3) and history.flows.sum() == 48 * 3
    # What was observed after the end of the data is no forecast.
    assert len(city.weather("city")) == 2 and history.weather is not None
    assert history.weather.vintages[0][1][0, 0] == 10
    assert np.isnan(history.weather.at(history.known, np.array([48]))).all()


def frame(*stations):
    """A forecast frame of one hour."""
    rows = [
        (s, datetime(2021, 5, 1), t, *[1.0] * 8) for s in stations for t in ("pickups", "returns")
    ]
    return pl.DataFrame(rows, schema=list(FORECAST_COLUMNS), orient="row")


def test_an_issue_is_kept_until_three_newer_ones_came(city, tmp_path):
    """The newest is found; of the older ones three stay."""
    import_stations(city, "city", [given(tmp_path, "a,,,,", "b,,,,")])
    moment = datetime(2021, 5, 1, 4, tzinfo=UTC)
    ids = [
        city.save_issue(Issue("city", moment, moment, "naive", str(v)), frame("a", "b"))
        for v in range(5)
    ]
    newest = city.newest_issue("city")
    assert newest.issue_id == ids[-1] and newest.model_version == "4" and newest.as_of == moment
    assert len(city.forecast_frame(ids[-1])) == 4 and city.forecast_frame(ids[0]).is_empty()
    assert city.forecast_frame(ids[2]).columns == list(FORECAST_COLUMNS)


def test_what_is_not_there_is_named(city):
    """An unknown system, and a system without a ride."""
    with pytest.raises(UnknownName, match="nowhere"):
        city.system("nowhere")
    with pytest.raises(InputError, match="no trips yet"):
        city.history("city")


def test_migrations_from_nothing_and_twice(postgres):
    """An empty database has everything pending; an upgraded one nothing, however often."""
    fresh = Store(ensure_database(postgres, "migrations_from_nothing"))
    status = fresh.status()
    if status.schema == 0:
        assert status.pending and status.min_reader == 0
        with pytest.raises(InputError, match="db upgrade"):
            fresh.check_readable()
        with pytest.raises(InputError, match="db upgrade"):
            fresh.systems()
    fresh.upgrade()
    fresh.upgrade()
    assert fresh.status().pending == () and fresh.status().schema == fresh.status().release
    fresh.check_readable()
    assert (script_location() / "env.py").exists()


def test_a_newer_schema_is_read_while_it_may_be_and_never_written(city, april, rows):
    """A newer release's database serves this one down to its min_reader, and takes no import."""
    rows("UPDATE schema_info SET schema = 2, min_reader = 1")
    city.check_readable()
    before = rows("SELECT count(*) FROM trip")
    with pytest.raises(SchemaTooNew, match="schema 2"):
        import_trips(city, "city", [april])
    with pytest.raises(SchemaTooNew, match="schema 2"):
        city.add_system(System("other"))
    assert rows("SELECT count(*) FROM trip") == before
    with pytest.raises(SchemaTooNew, match="schema 2"):
        city.upgrade()
    rows("UPDATE schema_info SET min_reader = 2")
    with pytest.raises(SchemaTooNew, match="from schema 2 on"):
        city.check_readable()


def test_releases_that_start_at_once_migrate_once(postgres):
    """Each waits for the other; all find the schema in place."""
    url = ensure_database(postgres, f"at_once_{uuid.uuid4().hex[:8]}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Store(url).upgrade(), range(4)))
    assert Store(url).status().pending == ()


def dst_ride(n, start, end):
    """A ride from A1 to B2 between two local times."""
    return ride(n, datetime.fromisoformat(start)).replace(
        str(datetime.fromisoformat(start) + timedelta(minutes=10)), end
    )


def test_the_two_dst_days_of_2018_by_hand(city, tmp_path):
    """23 hours on March 11, 25 in 24 rows on November 4, and the week after looks back right."""
    rides = [
        dst_ride(1, "2018-03-11 00:10:00", "2018-03-11 00:30:00"),
        dst_ride(2, "2018-03-11 01:55:00", "2018-03-11 03:05:00"),  # ten minutes
        dst_ride(3, "2018-03-11 02:30:00", "2018-03-11 02:40:00"),  # never
        dst_ride(4, "2018-03-11 03:30:00", "2018-03-11 03:40:00"),
        dst_ride(5, "2018-03-11 23:10:00", "2018-03-11 23:20:00"),
        dst_ride(6, "2018-11-04 00:10:00", "2018-11-04 00:20:00"),
        dst_ride(7, "2018-11-04 01:10:00", "2018-11-04 01:20:00"),  # before the clocks go back
        dst_ride(8, "2018-11-04 01:10:00", "2018-11-04 01:25:00"),  # an hour later
        dst_ride(9, "2018-11-04 01:50:00", "2018-11-04 01:10:00"),  # twenty minutes
        dst_ride(10, "2018-11-04 03:30:00", "2018-11-04 03:10:00"),  # back in time
        dst_ride(11, "2018-11-11 00:10:00", "2018-11-11 00:20:00"),
    ]
    report = import_trips(city, "city", [write(tmp_path / "dst.csv", HEADER, rides)])[0]
    assert report.rows_used == 9
    assert report.skipped == {"time that does not exist": 1, "negative duration": 1}
    hours = city.hourly("city")
    spring = hours.filter(pl.col("hour").dt.date() == date(2018, 3, 11), station_id="A1")
    assert spring["hour"].dt.hour().to_list() == [0, 1, *range(3, 24)]
    assert spring["pickups"].to_list() == [1, 1, 1, *[0] * 19, 1]
    back = hours.filter(pl.col("hour").dt.date() == date(2018, 3, 11), station_id="B2")
    assert back["returns"].to_list()[:3] == [1, 0, 2]
    autumn = hours.filter(pl.col("hour").dt.date() == date(2018, 11, 4), station_id="A1")
    assert autumn["pickups"].to_list() == [1, 3, *[0] * 22]
    history = city.history("city")
    assert np.isnan(history.flows[0, history.index(datetime(2018, 3, 11, 2))]).all()
    naive = MODELS["naive"]()
    naive.fit(history, Grid(24))
    origin = np.array([history.index(datetime(2018, 11, 11))])
    assert naive.predict(history, origin, 3).mean[0, :, 0, 0].tolist() == [1, 3, 0]


def test_the_hour_that_spring_skips_is_not_there(city, tmp_path):
    """2021-03-14 has 23 hours between rides on the days around it."""
    days = [datetime(2021, 3, d, 8) for d in range(1, 32)]
    rides = [ride(i, d) for i, d in enumerate(days)]
    import_trips(city, "city", [write(tmp_path / "m.csv", HEADER, rides)])
    hours = city.hourly("city").filter(pl.col("station_id") == "A1")["hour"]
    assert datetime(2021, 3, 14, 2) not in hours.to_list()
    assert hours.dt.date().value_counts().filter(pl.col("hour") == date(2021, 3, 14))[
        "count"
    ].to_list() == [23]


def test_a_forecast_of_the_weather_is_not_known_before_its_issue(city, april, tmp_path):
    """Issued after the end of the data, it reaches no model; issued before, it does."""
    import_trips(city, "city", [april])
    sky = tmp_path / "forecast.csv"
    sky.write_text(
        "time,issued_at,temperature_2m,precipitation,wind_speed_10m\n"
        "2021-05-02T04:00,2021-04-30T00:00,11,0,5\n"
        "2021-05-02T04:00,2021-05-01T12:00,22,0,5\n"
    )
    import_weather(city, "city", [sky])
    history = city.history("city")
    hour = np.array([history.index(datetime(2021, 5, 2))])
    assert history.as_of == datetime(2021, 5, 1)
    assert history.weather.at(history.known, hour)[0, 0] == 11


def test_a_server_that_is_not_there_is_named_without_the_password():
    """Where to look is said; the secret is not."""
    gone = Store("postgresql://u:secret@127.0.0.1:9/d")
    for ask in (gone.systems, gone.status):
        with pytest.raises(Unavailable) as error:
            ask()
        assert "127.0.0.1" in str(error.value) and "secret" not in str(error.value)
    for url in ("nonsense", "sqlite:///x"):
        with pytest.raises(InputError):
            Store(url).systems()


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
