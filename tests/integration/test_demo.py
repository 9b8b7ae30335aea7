"""A demo's city, downloaded, made up or from local files, and the forecast that it ends with."""

import json
import socket
import threading
from datetime import date, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import polars as pl
import pytest

from bikecast import forecast
from bikecast.cli import cities
from bikecast.cli.terminal import Steps
from bikecast.config import Settings
from bikecast.errors import InputError, InUse
from bikecast.models import MODELS, learned

pytestmark = pytest.mark.integration


@pytest.fixture
def web(tmp_path):
    """A server that publishes a folder as months, and weather for any place."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Web(SimpleHTTPRequestHandler):
        """Files by name; weather from a query."""

        def do_GET(self):
            """Weather where it is asked for, else a file."""
            if not self.path.startswith("/archive"):
                return super().do_GET()
            if self.server.cloudy:
                return self.send_error(503)
            asked = parse_qs(urlparse(self.path).query)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sky(asked["start_date"][0], asked["end_date"][0]).encode())

        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=str(folder)))
    server.folder, server.cloudy = folder, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sky(first, last):
    """Open-Meteo's csv for some days."""
    hours = pl.datetime_range(
        datetime.fromisoformat(first), datetime.fromisoformat(last), "1h", eager=True
    )
    lines = ["time,temperature_2m (°C),precipitation (mm),wind_speed_10m (km/h)"]
    return "\n".join(lines + [f"{h:%Y-%m-%dT%H:%M},10,0,5" for h in hours]) + "\n"


def published_settings(web, tmp_path):
    """Settings that download from the test's server."""
    base = f"http://127.0.0.1:{web.server_port}"
    return Settings(data_dir=tmp_path, trips_url=base, weather_url=f"{base}/archive")


def test_published_months_and_their_weather_are_downloaded_once(web, files, store, tmp_path):
    """The newest months come in with the weather of their days; a second time nothing is new."""
    rides = (files["trips"] / "rides.csv").read_bytes()
    (web.folder / "JC-202605-citibike-tripdata.csv.zip").write_bytes(rides)
    settings = published_settings(web, tmp_path)
    for _ in range(2):
        system = cities.published_city(store, Steps(), settings, date(2026, 7, 3))
    assert system.system_id == "citibike-jc" and len(store.stations("citibike-jc")) == 2
    assert (tmp_path / "downloads" / "JC-202605-citibike-tripdata.csv.zip.sha256").exists()
    assert store.weather("citibike-jc")["temperature"].unique().to_list() == [10.0]


def test_weather_that_cannot_be_had_is_done_without(web, files, store, tmp_path, capsys):
    """The trips are in; that there is no weather is said."""
    rides = (files["trips"] / "rides.csv").read_bytes()
    (web.folder / "JC-202605-citibike-tripdata.csv.zip").write_bytes(rides)
    web.cloudy = True
    cities.published_city(store, Steps(), published_settings(web, tmp_path), date(2026, 7, 3))
    assert store.weather("citibike-jc").is_empty() and not store.hourly("citibike-jc").is_empty()


def test_a_simulated_city_that_was_cut_off_is_made_whole(store, tmp_path, monkeypatch):
    """The next start brings in what is missing."""
    settings = Settings(data_dir=tmp_path)

    def cut_off(*words, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cities.collect, "import_panel", cut_off)
        with pytest.raises(KeyboardInterrupt):
            cities.simulated(store, Steps(), settings, date(2026, 7, 3))
    city = cities.simulated(store, Steps(), settings, date(2026, 7, 3))
    assert city.simulated and store.history(city.system_id).as_of == datetime(2026, 7, 3)


def test_a_simulated_city_is_made_once(store, tmp_path):
    """It stands in the database as simulated, with panel, places and weather."""
    settings = Settings(data_dir=tmp_path)
    city = cities.simulated(store, Steps(), settings, date(2026, 7, 3))
    assert city.simulated and len(store.stations(city.system_id)) == 24
    assert store.history(city.system_id).as_of == datetime(2026, 7, 3)
    assert cities.simulated(store, Steps(), settings, date(2026, 7, 4)) == city
    assert not store.weather(city.system_id).is_empty()


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_demo_on_local_files_answers_over_http(run, files, tmp_path):
    """Trips and weather in, one real prediction out; the second run trains nothing."""
    words = ["demo", "--once", "--trips", files["trips"], "--weather", files["weather"]]
    first = run(*words, "--bind", f"127.0.0.1:{free_port()}")
    answer = json.loads(first.stdout)
    assert answer["station_id"] in ("SIM001", "SIM002") and not answer["simulated"]
    assert answer["as_of"] == "2026-06-01T00:00:00-04:00" and answer["horizon_hours"] == 1
    assert "train" in first.stderr and "gate and promotion" in first.stderr
    assert "noted: 1 no end station" in first.stderr
    second = run(*words, "--bind", f"127.0.0.1:{free_port()}")
    assert json.loads(second.stdout)["pickups"] == answer["pickups"]
    assert "✓ train" not in second.stderr and "imported before" in second.stderr


def test_demo_trains_anew_over_the_model_of_another_release(run, files, monkeypatch):
    """A folder outlives the bikecast that made it; what is learned does not matter here."""
    monkeypatch.setattr("bikecast.train.MODELS", {k: MODELS[k] for k in ("naive", "mean4w", "glm")})
    words = ["demo", "--once", "--trips", files["trips"], "--weather", files["weather"]]
    run(*words, "--bind", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(forecast, "_is_current", lambda *newest: False)
    monkeypatch.setattr(learned, "NAMES", learned.NAMES[::-1])
    # In a process of its own there is no such release.
    monkeypatch.setattr("bikecast.promote._loaded", lambda *version: ())
    second = run(*words, "--bind", f"127.0.0.1:{free_port()}")
    assert "by a release with other features" in " ".join(second.stderr.split())
    assert "✓ train" in second.stderr
    assert json.loads(second.stdout)["model"]["version"] == "2"


def test_demo_refuses_weather_without_trips(run, files):
    """The weather of the downloaded months is downloaded with them."""
    with pytest.raises(InputError, match="--weather goes with --trips"):
        run("demo", "--weather", files["weather"])


def test_demo_refuses_a_port_in_use(run):
    """Before anything is done."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InUse, match="in use"):
            run("demo", "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
