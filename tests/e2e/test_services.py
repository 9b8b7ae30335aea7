"""The services of one machine: up, a backup, everything gone, up again, restored.

Real containers from the images of deploy/Dockerfile; PostgreSQL and nginx are the official images,
or where no image can be pulled, those of stand_ins/.
"""

import csv
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from lacking import lacking
from live import until
from readme import readme_lines

from bikecast.errors import BikecastError
from bikecast.ops import training
from bikecast.ops.airflow import Airflow, airflow_client
from bikecast.ops.environment import Airflow as Settings

pytestmark = pytest.mark.e2e

TOP = Path(__file__).parents[2]
OFFICIAL = {"postgres": "postgres:17", "nginx": "nginx:1.28"}
NAME = f"bikecast-e2e-{uuid.uuid4().hex[:8]}"
HOURS = 24 * 40


def docker(*words, timeout=900, check=True, **more):
    """Run docker to its end; its output."""
    environ = os.environ | {"DOCKER_BUILDKIT": "1"}
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=timeout, env=environ, **more
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(scope="module")
def images():
    """Variable of the compose file → image."""
    if shutil.which("docker") is None or docker("info", check=False) is None:
        lacking("no Docker engine: `docker info` fails")
    if docker("compose", "version", check=False) is None:
        lacking("no compose plugin: `docker compose version` fails")
    found, built = {}, []
    for service, official in OFFICIAL.items():
        image = official
        if docker("pull", "--quiet", official, check=False) is None:
            image = f"{NAME}-{service}"
            docker(
                "build",
                "--quiet",
                "--tag",
                image,
                str(Path(__file__).parent / "stand_ins" / service),
            )
            built.append(image)
        found[f"BIKECAST_{service.upper()}_IMAGE"] = image
    for target, variable in (("api", "BIKECAST_IMAGE"), ("training", "BIKECAST_TRAINING_IMAGE")):
        found[variable] = f"{NAME}-{target}"
        words = ("--target", target, "--tag", found[variable], "--file", "deploy/Dockerfile", ".")
        docker("build", "--quiet", *words, cwd=TOP)
        built.append(found[variable])
    yield found
    docker("image", "rm", *built, check=False)


class Machine:
    """A folder with the compose file, and `inv` and `docker compose` in it."""

    def __init__(self, folder, images):
        self.folder = folder
        own = {k: v for k, v in os.environ.items() if not k.startswith(("BIKECAST_", "COMPOSE_"))}
        self.environ = own | images | {"COMPOSE_PROJECT_NAME": NAME}
        for port in ("BIKECAST_PUBLISH", "BIKECAST_MLFLOW_PUBLISH"):
            self.environ[port] = "127.0.0.1:0"  # one that is free

    def start(self, *words, **environ):
        """Begin an `inv`, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "--search-root", str(TOP), *words],
            cwd=self.folder,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def inv(self, *words, code=0, **environ):
        """Run `inv` to its end; what it said, on stdout and on stderr."""
        process = self.start(*words, **environ)
        output, errors = process.communicate(timeout=600)
        assert process.returncode == code, output + errors
        return output, errors

    def compose(self, *words, **more):
        """Run `docker compose` to its end; its output."""
        file = str(self.folder / "deploy" / "compose.yaml")
        done = subprocess.run(
            ["docker", "compose", "--file", file, *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=600,
            **more,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def url(self, port):
        """Where a port of nginx is reached."""
        return "http://" + self.compose("port", "nginx", str(port))

    def serves(self):
        """Whether the service answers through nginx (it needs no forecast for that)."""
        return "version" in httpx.get(self.url(8000) + "/version").json()

    def sql(self, query, database="bikecast"):
        """One value from the database."""
        words = ("psql", "-U", "postgres", "-d", database, "-Atc", query)
        return self.compose("exec", "-T", "postgres", *words)

    def contents(self):
        """What a backup must bring back: rows, a checksum over them, and a model's artifact."""
        from mlflow import MlflowClient

        client = MlflowClient(self.url(5000))
        version = client.get_model_version("model", "1")
        artifact = Path(client.download_artifacts(version.run_id, "weights.txt")).read_text()
        rows = self.sql(
            "SELECT count(*), md5(string_agg(h::text, ',' ORDER BY h)) FROM station_hour h"
        )
        return rows, artifact, version.tags


@pytest.fixture(scope="module")
def machine(images, tmp_path_factory):
    """A machine on which nothing was ever started; everything is removed after."""
    folder = tmp_path_factory.mktemp("machine")
    names = shutil.ignore_patterns("secrets", "*.env")
    shutil.copytree(TOP / "deploy", folder / "deploy", ignore=names)
    found = Machine(folder, images)
    yield found
    found.inv("down", "--volumes", "--yes")
    left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={NAME}")
    assert not left and NAME not in docker("volume", "ls", "--quiet")


@pytest.fixture(scope="module")
def first(machine):
    """What the very first `inv up` said."""
    return machine.inv("up")


@pytest.fixture(scope="module")
def filled(machine, first, tmp_path_factory):
    """The machine with a system and a registered model in it, as :meth:`Machine.contents`."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("panel")
    rng = random.Random(1)
    with (folder / "panel.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["station_id", "hour", "pickups", "returns"])
        for hour in range(HOURS):
            when = datetime(2018, 4, 1) + timedelta(hours=hour)
            rows.writerow(["a", f"{when:%Y-%m-%d %H:%M}", rng.randint(0, 9), rng.randint(0, 9)])
    machine.compose(
        *("run", "--rm", "-T", "--volume", f"{folder}/panel.csv:/panel.csv:ro", "refresher"),
        *("import", "panel", "/panel.csv", "--system", "made-up"),
        *("--timezone", "America/New_York"),
    )
    client = MlflowClient(machine.url(5000))
    run = client.create_run(client.create_experiment("e2e")).info.run_id
    client.log_text(run, "what was learnt", "weights.txt")
    client.create_registered_model("model")
    client.create_model_version("model", f"runs:/{run}/weights.txt", run, tags={"good": "yes"})
    machine.inv("up")
    contents = machine.contents()
    assert contents[0].startswith(f"{HOURS}|") and contents[1] == "what was learnt"
    return contents


@pytest.fixture(scope="module")
def saved(machine, filled):
    """A backup of the filled machine."""
    machine.inv("backup", "--to", "backups/one")
    return machine.folder / "backups" / "one"


def states(machine):
    """Container → when it was started."""
    ids = machine.compose("ps", "--quiet").split()
    return {i: docker("inspect", "--format", "{{.State.StartedAt}}", i) for i in ids}


def test_the_first_up_makes_passwords_and_says_what_to_do_next(machine, first):
    """Nothing was imported: there is nothing to serve, and nginx says so too."""
    output, errors = first
    assert "no system was imported yet" in output and "made new passwords" in errors
    assert (machine.folder / "deploy" / "secrets").stat().st_mode & 0o777 == 0o700
    answer = httpx.get(machine.url(8000) + "/stations")
    assert answer.status_code == 503 and "no system was imported" in answer.json()["detail"]


def test_up_serves_what_was_imported_and_a_second_one_changes_nothing(machine, filled):
    """The same containers, running since the same moment."""
    assert machine.serves()
    before = states(machine)
    assert len(before) == 5
    document = json.loads(machine.inv("up", "--json")[0])
    assert document["systems"] == 1 and document["services"]["api"] == "healthy"
    assert states(machine) == before


def test_only_nginx_is_reached_and_nobody_may_do_more_than_it_must(machine, filled):
    """Read-only, no capability, no root, no new privileges; nginx on this machine's own address."""
    for found in json.loads(docker("inspect", *states(machine))):
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert found["Config"]["User"] not in ("", "0", "root")
        published = [
            b["HostIp"] for p in found["NetworkSettings"]["Ports"].values() for b in p or []
        ]
        assert published == (["127.0.0.1"] * 2 if "nginx" in found["Name"] else [])


def test_no_password_stands_where_others_look(machine, filled):
    """`docker inspect`, environments, argv and logs of all containers."""
    folder = machine.folder / "deploy" / "secrets"
    url, service = ((folder / n).read_text() for n in ("database_url", "mlflow_service"))
    passwords = [
        (folder / "postgres_password").read_text(),
        url.split(":")[2].partition("@")[0],
        service.partition("password=")[2].strip(),
    ]
    assert all(len(p) > 40 for p in passwords)
    ids = machine.compose("ps", "--all", "--quiet").split()
    seen = docker("inspect", *ids) + machine.compose("logs") + machine.compose("config")
    inside = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; env"
    for name in ("postgres", "mlflow", "api", "refresher", "nginx"):
        seen += machine.compose("exec", "-T", name, "sh", "-c", inside)
    assert "POSTGRES_PASSWORD_FILE" in seen and "mlflow" in seen
    assert not [p for p in passwords if p in seen]


def test_a_backup_comes_back_after_everything_was_deleted(machine, filled, saved):
    """The same rows and the same artifact, on volumes that are new; then the service answers."""
    machine.inv("down", "--volumes", code=2)
    machine.inv("down", "--volumes", "--yes")
    machine.inv("up")
    assert machine.sql("SELECT count(*) FROM system") == "0"
    document = json.loads(machine.inv("restore", "backups/one", "--yes", "--json")[0])
    assert document["rows"]["bikecast"]["public.station_hour"] == HOURS
    assert machine.contents() == filled
    assert machine.sql("SELECT count(*) FROM pg_database WHERE datname ~ '_re'") == "0"
    assert machine.serves()


@pytest.mark.full
def test_an_altered_backup_is_refused_and_nothing_is_touched(machine, filled, saved):
    """Exit code 2 before anything is asked of a container."""
    altered = machine.folder / "backups" / "altered"
    shutil.copytree(saved, altered)
    content = bytearray((altered / "mlflow.dump").read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "mlflow.dump").write_bytes(content)
    before = states(machine)
    errors = machine.inv("restore", "backups/altered", "--yes", code=2)[1]
    assert "is not as it was made: mlflow.dump" in errors
    assert states(machine) == before and machine.contents() == filled


@pytest.mark.full
def test_a_backup_that_does_not_restore_leaves_what_is_there(machine, filled, saved):
    """Its sums are right and its rows are not; the service never stopped."""
    wrong = machine.folder / "backups" / "wrong"
    shutil.copytree(saved, wrong)
    manifest = json.loads((wrong / "manifest.json").read_text())
    manifest["rows"]["bikecast"]["public.station_hour"] += 1
    (wrong / "manifest.json").write_text(json.dumps(manifest))
    before = states(machine)
    errors = machine.inv("restore", "backups/wrong", "--yes", code=3)[1]
    assert "other numbers of rows in public.station_hour" in errors
    assert states(machine) == before and machine.contents() == filled
    assert machine.sql("SELECT count(*) FROM pg_database WHERE datname ~ '_re'") == "0"


@pytest.mark.full
def test_a_restore_after_which_the_service_does_not_start_goes_back(machine, filled, saved):
    """The databases have changed places by then, and change back; a good restore replaces them."""
    machine.sql("CREATE TABLE later (n int)")
    later = "SELECT count(*) FROM pg_tables WHERE tablename = 'later'"
    words = ("restore", "backups/one", "--yes")
    errors = machine.inv(*words, code=3, BIKECAST_WORKERS="many")[1]
    assert "BIKECAST_WORKERS is 'many'" in errors and "the data from before are back" in errors
    assert machine.sql(later) == "1"
    machine.inv("up")
    assert machine.serves()
    machine.inv(*words)
    assert machine.sql(later) == "0" and machine.contents() == filled


@pytest.mark.full
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_backup_looks_like_none(machine, filled, stop):
    """Whenever it is stopped, no folder of its name is there."""
    process = machine.start("backup", "--to", "backups/stopped")
    for line in process.stderr:
        if "copying the database mlflow" in line:
            break
    os.killpg(process.pid, stop)
    process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -9)
    assert not (machine.folder / "backups" / "stopped").exists()
    hidden = [p for p in (machine.folder / "backups").iterdir() if p.name.startswith(".stopped")]
    if stop == signal.SIGINT:
        assert hidden == []
    assert not [p for p in hidden if (p / "manifest.json").exists()]


@pytest.mark.full
def test_a_service_that_cannot_start_shows_its_last_words(machine, filled):
    """`inv up` ends with exit code 3 and the reason; the next one mends it."""
    errors = machine.inv("up", code=3, BIKECAST_WORKERS="many")[1]
    assert "BIKECAST_WORKERS is 'many'" in errors and "error: api is" in errors
    machine.inv("up")
    assert machine.serves()


@pytest.fixture
def airflow_image(images):
    """The image of deploy/airflow, of 1.6 GB."""
    name = f"{NAME}-airflow"
    base = ("--build-arg", f"TRAINING={images['BIKECAST_TRAINING_IMAGE']}")
    words = (*base, "--tag", name, "--file", "deploy/airflow/Dockerfile", ".")
    docker("build", "--quiet", *words, cwd=TOP, timeout=1800)
    yield name
    docker("image", "rm", name, check=False)


@pytest.mark.full
def test_airflow_trains_and_asks_the_gate_where_it_is_chosen(machine, filled, airflow_image):
    """Its containers may do no more than the others; `inv down` takes it away, chosen or not."""
    before, said = dict(machine.environ), []
    machine.environ |= {
        "COMPOSE_PROFILES": "airflow",
        "BIKECAST_AIRFLOW_IMAGE": airflow_image,
        "BIKECAST_AIRFLOW_PUBLISH": "127.0.0.1:0",
    }
    machine.inv("up")
    password = machine.compose("exec", "-T", "airflow", "cat", "/var/lib/airflow/secrets/password")
    url = "http://" + machine.compose("port", "airflow", "8080")
    with airflow_client() as client:
        airflow = Airflow(Settings(url=url, username="bikecast", password=password), client)
        until(lambda: can_run(airflow), 300)
        training.begin(airflow, "first", "of a test", "")
        training.watch(airflow, "first", 900, "", said.append)
        verdict = training.read_verdict(airflow, "first", "")
    assert verdict.version == "1" and verdict.figures.startswith("MAE"), said
    containers = json.loads(docker("inspect", *states(machine)))
    ours = [found for found in containers if airflow_image == found["Config"]["Image"]]
    assert len(ours) == 3 and password not in json.dumps(containers)
    for found in ours:
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
        assert found["Config"]["User"] == "10001:10001"
    machine.environ.clear()
    machine.environ |= before
    machine.inv("down")
    assert not docker("ps", "--all", "--quiet", "--filter", f"ancestor={airflow_image}")


def can_run(airflow):
    """Whether Airflow has read the DAG."""
    try:
        airflow.check()
    except BikecastError:
        return False
    return True


@pytest.mark.full
def test_the_lines_of_the_readme(machine):
    """As they stand there, one after the other."""
    lines = [
        line
        for line in readme_lines("inv")
        if line.split()[1] in ("up", "backup", "restore", "down")
    ]
    assert [line.split()[1] for line in lines] == ["up", "backup", "restore", "down"]
    for line in lines:
        machine.inv(*shlex.split(line)[1:])
