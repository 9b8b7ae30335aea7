"""The commands of the README's first screen, as a new user runs them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.e2e


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(data_dir: Path):
    """A shell without settings, and without a network to download from."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BIKECAST_")}
    return own | {
        "BIKECAST_DATA_DIR": str(data_dir),
        "BIKECAST_TRIPS_URL": "http://127.0.0.1:9/tripdata",
        "BIKECAST_WEATHER_URL": "http://127.0.0.1:9/archive",
    }


def bikecast(*words, data_dir, timeout=600):
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bikecast", *words],
        cwd=data_dir,  # away from the checkout: what is installed is run
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def interrupted(folder, stop, after):
    """Stop a demo with a signal while it is busy behind a step."""
    words = ["demo", "--once", "--bind", f"127.0.0.1:{free_port()}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bikecast", *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if after in line:
            break
    time.sleep(1)
    process.send_signal(stop)
    with process.stderr:
        rest = process.stderr.read()
    assert process.wait(60) == 128 + stop, rest
    assert "Traceback" not in rest
    assert not (folder / "postgres.url").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder in which the demo has run once, on a simulated city.

    Two tries before were stopped, one while importing, one while training.
    """
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o755)
    for stop, after in ((signal.SIGTERM, "import panel"), (signal.SIGINT, "open the model")):
        interrupted(folder, stop, after)
    first = bikecast("demo", "--once", "--bind", f"127.0.0.1:{free_port()}", data_dir=folder)
    assert first.returncode == 0, first.stderr
    return folder, first


def test_demo_without_a_network_answers_and_says_simulated(home):
    """Without a network the demo makes up a city, says so, and predicts over HTTP."""
    _, first = home
    answer = json.loads(first.stdout)
    assert answer["simulated"] is True
    assert answer["model"]["name"] == "bike-demand-forecaster-simulated"
    # A mean of 0.02 bikes lies above an interval whose ends are both 0.
    assert 0 <= answer["pickups"]["lower"] <= answer["pickups"]["upper"]
    assert answer["pickups"]["mean"] >= 0
    assert answer["horizon_hours"] == 1
    assert "simulated city" in first.stderr


def test_second_demo_reuses_what_is_there(home):
    """The second run trains nothing and answers the same."""
    folder, first = home
    again = bikecast("demo", "--once", "--bind", f"127.0.0.1:{free_port()}", data_dir=folder)
    assert again.returncode == 0, again.stderr
    assert "train" not in again.stderr
    before, now = json.loads(first.stdout), json.loads(again.stdout)
    assert now["pickups"] == before["pickups"] and now["as_of"] == before["as_of"]


def test_models_and_forecasts_can_be_looked_at_afterwards(home):
    """Once the demo has stopped, the same data folder serves every other command."""
    folder, first = home
    station = json.loads(first.stdout)["station_id"]
    listed = bikecast("predict", station, "--hours", "3", "--json", data_dir=folder)
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["hours"]) == 6
    status = bikecast("db", "status", "--json", data_dir=folder)
    assert json.loads(status.stdout)["pending"] == []


def test_ten_real_files_are_trained_on_and_answered_for(shared_data, tmp_path):
    """Legacy and modern months of Jersey City: a real station answers, also by its former id."""
    tmp_path.chmod(0o755)
    words = ["demo", "--once", "--bind", f"127.0.0.1:{free_port()}"]
    words += ["--trips", str(shared_data / "trips_legacy")]
    words += ["--trips", str(shared_data / "trips_modern")]
    sky = shared_data / "weather" / "open_meteo_nyc_hourly_utc_2016_2022.csv.gz"
    first = bikecast(*words, "--weather", str(sky), data_dir=tmp_path)
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert answer["simulated"] is False and answer["station_id"].startswith(("JC", "HB"))
    assert answer["as_of"] == "2021-06-01T00:00:00-04:00"
    assert "173,522 rows" in first.stderr
    old = bikecast("predict", "3202", "--hours", "1", "--json", data_dir=tmp_path)
    assert json.loads(old.stdout)["station_id"] == "JC066"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("predict", "nowhere"), "no station 'nowhere'"),
        (("predict", "x", "--hours", "0"), "--hours is 0"),
        (("predict", "x", "--hours", "169"), "--hours is 169"),
        (("import", "trips", "/no/such/file.csv", "--system", "a"), "time zone is not known"),
        (("demo", "--weather", "w.csv"), "--weather goes with --trips"),
        (("train", "--system", "elsewhere"), "no system 'elsewhere'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(home, words, says):
    """What cannot be used is said in one line on stderr, with exit code 2."""
    folder, _ = home
    asked = bikecast(*words, data_dir=folder)
    assert asked.returncode == 2, asked.stderr
    last = asked.stderr.strip().splitlines()
    assert len(last) == 1 and says in last[0]


def test_a_running_demo_keeps_its_folder_and_port_and_stops_on_ctrl_c(home):
    """A second demo on the same folder or port is refused; Ctrl-C stops all and loses nothing."""
    folder, _ = home
    port = free_port()
    running = subprocess.Popen(
        [sys.executable, "-m", "bikecast", "demo", "--bind", f"127.0.0.1:{port}"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(port, running)
        same_folder = bikecast("demo", "--bind", f"127.0.0.1:{free_port()}", data_dir=folder)
        assert same_folder.returncode == 2 and str(folder) in same_folder.stderr
        same_port = bikecast("demo", "--bind", f"127.0.0.1:{port}", data_dir=folder)
        assert same_port.returncode == 2 and str(port) in same_port.stderr
        # A reading command works beside the running demo.
        assert bikecast("model", "list", "--json", data_dir=folder).returncode == 0
    finally:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err.endswith("stopped\n"), err
    assert out.count("curl ") == 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")
    assert bikecast("db", "status", data_dir=folder).returncode == 0


def wait_until_ready(port, process):
    """Ask until the service answers."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("the demo was not ready in time")
