"""The store on a real PostgreSQL: what goes in comes out, for one system and no other."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from city import HEADER, LEGACY, frame, given, old_ride, ride, seen, write

from bikecast.collect import import_panel, import_stations, import_trips, import_weather
from bikecast.errors import FileRefused, InputError, SchemaTooNew, Unavailable, UnknownName
from bikecast.features import NAMES
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.records import FORECAST_COLUMNS, Issue, Station, System
from bikecast.store import Store, ensure_database
from bikecast.store.connection import fetch, transaction
from bikecast.store.schema import SCHEMA, script_location

pytestmark = pytest.mark.integration


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


def test_rows_no_database_would_take_cost_no_other(city, april, tmp_path):
    """Quotes, NUL bytes and dates of other ages are counted; the month around them is in."""
    at = datetime(2021, 4, 5, 8, 30)
    name = ',"First St,'
    bad = [
        ride("open", at).replace(",First St,", name),
        ride("pipe", at).replace(",First St,", ',5" pipe St,'),
        ride("nul", at).replace("First", "Fi\0rst"),
        ride("late", at).replace("2021-04-05 08:", "9999-12-31 23:"),
        ride("dockless", at).replace("2021-04-05 08:", "9999-12-31 23:").replace(",B2,", ",,"),
        ride("early", at).replace("2021", "0021"),
    ]
    path = tmp_path / "bad.csv"
    path.write_text(april.read_text() + "\n".join([*bad, ""]))
    report = import_trips(city, "city", [path])[0]
    assert (report.rows_read, report.rows_used) == (126, 121)
    assert report.skipped == {"unclosed quote": 1, "control character": 1, "impossible time": 3}
    assert city.coverage("city") == [(date(2021, 4, 1), date(2021, 4, 30))]


def test_files_that_are_in_are_told_of_before_a_crash(city, april, january, monkeypatch):
    """What the second file does to the program takes nothing from the first one's report."""
    told = []

    def crash(*words):
        monkeypatch.undo()
        monkeypatch.setattr(Store, "import_trips", lambda *w: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        import_trips(
            city, "city", [april, january], on_report=lambda r: (told.append(r.rows_used), crash())
        )
    assert told == [120]


def test_a_system_is_known_from_its_first_kept_file_on(store, april, tmp_path):
    """A refused, missing or interrupted file leaves no system behind; a kept one founds it."""
    founding = store.founding(System("new", "New", "America/New_York", "US-NY"))
    empty = write(tmp_path / "none.csv", HEADER, [ride("x", datetime(2021, 4, 1), b_name="Far Rd")])
    empty.write_text(empty.read_text().replace("2021", "0021"))
    for path in (empty, tmp_path / "missing.csv"):
        with pytest.raises(FileRefused):
            import_trips(founding, "new", [path])

    def interrupted(done, total, name):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_trips(founding, "new", [april], interrupted)
    assert store.systems() == [] and not store.has_imports("new")
    with pytest.raises(UnknownName):
        store.system("new")
    import_trips(founding, "new", [april])
    assert [s.holidays for s in store.systems()] == ["US-NY"] and store.has_imports("new")


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


def test_an_issue_is_kept_until_three_newer_ones_came(city, rows, tmp_path):
    """The newest is found; of the older ones three stay, each with the model that made it."""
    import_stations(city, "city", [given(tmp_path, "a,,,,", "b,,,,")])
    moment = datetime(2021, 5, 1, 4, tzinfo=UTC)
    ids = [
        city.save_issue(
            Issue("city", moment, moment, "naive", str(v)),
            frame("a", "b"),
            seen("a", "b", "gone"),
            model,
        )
        for v, model in enumerate([b"old", b"kept", b"old", b"kept", b"kept"])
    ]
    newest = city.newest_issue("city")
    assert newest.issue_id == ids[-1] and newest.model_version == "4" and newest.as_of == moment
    assert len(city.forecast_frame(ids[-1])) == 4 and city.forecast_frame(ids[0]).is_empty()
    assert city.forecast_frame(ids[2]).columns == list(FORECAST_COLUMNS)
    kept = city.inputs(ids[2], "b")
    assert kept.names == NAMES and (kept.values == 1).all()
    assert city.inputs(ids[0], "b") is None and city.inputs(ids[2], "nowhere") is None
    assert rows("SELECT count(*) FROM forecast_inputs") == [(3 * 2,)]
    assert [city.packed_model(i) for i in ids] == [None, None, b"old", b"kept", b"kept"]
    assert rows("SELECT count(*) FROM forecast_model") == [(2,)]
    city.save_issue(newest, frame("a"))
    assert rows("SELECT packed = 'kept' FROM forecast_model") == [(True,)]


def test_a_database_of_the_release_before_is_brought_up_with_its_forecasts(postgres):
    """A table that has no inputs is there as before; the next one has them."""
    url = ensure_database(postgres, f"of_schema_1_{uuid.uuid4().hex[:8]}")
    store, moment = Store(url), datetime(2021, 5, 1, 4, tzinfo=UTC)
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    with sa.create_engine(url).begin() as config.attributes["connection"]:
        command.upgrade(config, "0001")
    assert store.status().pending == ("0002", "0003", "0004")
    issue = Issue("city", moment, moment, "naive", "1")
    with transaction(url) as connection:
        fetch(connection, "INSERT INTO system (system_id, timezone) VALUES ('city', 'UTC')")
        fetch(connection, "INSERT INTO station (system_id, station_id) VALUES ('city', 'a')")
        copied = (
            "INSERT INTO forecast_issue VALUES (DEFAULT, 'city', now(), now(), 'naive', '1', false)"
        )
        fetch(connection, copied)
    store.upgrade()
    before = store.newest_issue("city")
    assert before.model_version == "1" and store.inputs(before.issue_id, "a") is None
    assert store.packed_model(before.issue_id) is None
    assert store.status().min_reader == 1
    issue_id = store.save_issue(issue, frame("a"), seen("a"), b"model")
    assert store.inputs(issue_id, "a").names == NAMES
    assert store.packed_model(issue_id) == b"model"


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
    newer = SCHEMA + 1
    rows("UPDATE schema_info SET schema = %s, min_reader = %s", newer, SCHEMA)
    city.check_readable()
    before = rows("SELECT count(*) FROM trip")
    with pytest.raises(SchemaTooNew, match=f"schema {newer}"):
        import_trips(city, "city", [april])
    with pytest.raises(SchemaTooNew, match=f"schema {newer}"):
        city.add_system(System("other"))
    assert rows("SELECT count(*) FROM trip") == before
    with pytest.raises(SchemaTooNew, match=f"schema {newer}"):
        city.upgrade()
    rows("UPDATE schema_info SET min_reader = %s", newer)
    with pytest.raises(SchemaTooNew, match=f"from schema {newer} on"):
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
