"""A store that knows a city, and two months of its rides as files."""

import uuid
from datetime import datetime, timedelta

import polars as pl
import pytest
from city import CITY, HEADER, LEGACY, old_ride, ride, write
from disks import full_disk
from postgres import OwnPostgres, database_gone
from typer.testing import CliRunner

from bikecast.cli import app, cities
from bikecast.errors import BikecastError
from bikecast.production import Production
from bikecast.simulate import simulate_city
from bikecast.store import ensure_database
from bikecast.store.connection import create_database


@pytest.fixture(scope="session", autouse=True)
def few_rows():
    """What tests ask of a model needs no more of their few stations; `--quick` learns as much."""
    from bikecast import train

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ROWS", "QUICK_ROWS"):
            patch.setattr(train, name, 4_000)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL that tests kill and freeze, and leave as it was."""
    with OwnPostgres(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_template(postgres):
    """A database with MLflow's tables, which take seconds to make; others are copied from it."""
    from bikecast.registry import Registry

    name = f"mlflow_{uuid.uuid4().hex[:8]}"
    url = ensure_database(postgres, name)
    Registry(url, "none").versions()
    # MLflow keeps connections, and a database that somebody uses cannot be copied.
    with database_gone(url):
        yield name


@pytest.fixture
def mlflow_url(postgres, mlflow_template, hang_up):
    """The URL of a database of MLflow's that no other test sees."""
    name = f"mlflow_{uuid.uuid4().hex[:8]}"
    create_database(postgres, name, template=mlflow_template)
    yield ensure_database(postgres, name)
    hang_up(name)


@pytest.fixture
def production(registry, store):
    """What moves the model of a module's own registry in production."""
    return Production(registry, store.promotions(registry.name), "ann@laptop")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, full."""
    with full_disk(tmp_path / "disk") as place:
        yield place


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


RIDE_COLUMNS = (
    "ride_id,rideable_type,started_at,ended_at,start_station_name,start_station_id,"
    "end_station_name,end_station_id,start_lat,start_lng,end_lat,end_lng,member_casual"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A made-up city of two stations as files: panel, stations, weather and trips."""
    folder = tmp_path_factory.mktemp("files")
    city = simulate_city(7, datetime(2026, 6, 1), days=40, stations=2)
    files = cities._write(city, folder)
    rides = []
    for hour in city.panel.filter(pl.col("pickups") > 0).iter_rows(named=True):
        rides += [docked_ride(len(rides) + i, hour) for i in range(hour["pickups"])]
    # One bike was never docked.
    rides[-1] = rides[-1].replace(",SIM002,40", ",,40").replace(",SIM001,40", ",,40")
    files["trips"] = folder / "trips"
    files["trips"].mkdir()
    (files["trips"] / "rides.csv").write_text("\n".join([RIDE_COLUMNS, *rides, ""]))
    return files


def docked_ride(n, hour):
    """A ride between the two stations."""
    other = {"SIM001": "SIM002", "SIM002": "SIM001"}
    place = {"SIM001": "40.71,-74.01", "SIM002": "40.73,-74.03"}
    a, b = hour["station_id"], other[hour["station_id"]]
    start, end = hour["hour"], hour["hour"] + timedelta(minutes=9)
    return f"R{n},bike,{start},{end},Place {a},{a},Place {b},{b},{place[a]},{place[b]},member"


@pytest.fixture
def run(database_url, monkeypatch, tmp_path):
    """Run a command on the test's database; its one JSON document, or what it raised."""
    monkeypatch.setenv("BIKECAST_DATABASE_URL", database_url)
    monkeypatch.setenv("BIKECAST_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("BIKECAST_MODEL_NAME", f"m-{tmp_path.name}")
    monkeypatch.delenv("BIKECAST_SYSTEM", raising=False)

    def go(*words):
        found = CliRunner().invoke(app, [str(w) for w in words])
        if isinstance(found.exception, BikecastError):
            raise found.exception
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return found

    return go
