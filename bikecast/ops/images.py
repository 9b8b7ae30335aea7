"""Images: what is built and pushed, as commands.

The functions that end in ``_argv`` are pure; :func:`read_commit` asks git.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bikecast.errors import InputError, Unavailable

DOCKERFILE = "deploy/Dockerfile"
DOCKER_HUB = "docker.io"
GIT_TIMEOUT = 30  # seconds
# What lies here is read by `inv`, and is in no image.
NOT_IN_IMAGES = ":(exclude)deploy/environments"


@dataclass(frozen=True)
class Image:
    """One target of the Dockerfile.

    :param name: the target's name.
    :param suffix: what its repository has behind the environment's ``registry.image``.
    """

    name: str
    suffix: str


IMAGES = (Image("api", ""), Image("training", "-training"))


@dataclass(frozen=True)
class Commit:
    """What an image is built from.

    :param revision: the whole hash, with ``-dirty`` behind it where the tree has changes.
    :param tag: the short hash, with the same ending; it names the release.
    :param created: the time of the commit, in UTC.
    :param source: where the repository can be read, without any secret; empty if not known.
    :param changes: the files that differ from the commit.
    """

    revision: str
    tag: str
    created: datetime
    source: str
    changes: tuple[str, ...]


# What is built and pushed


def repository(base: str, image: Image) -> str:
    """Where an image lives, by the environment's ``registry.image``.

    >>> repository("ghcr.io/org/bikecast", IMAGES[1])
    'ghcr.io/org/bikecast-training'
    """
    return base + image.suffix


def registry_host(repository: str) -> str:
    """The registry of a repository; Docker Hub's where the first part names no host.

    >>> registry_host("localhost:5000/bikecast"), registry_host("org/bikecast")
    ('localhost:5000', 'docker.io')
    """
    return split(repository)[0]


def split(repository: str) -> tuple[str, str]:
    """The registry of a repository, and its name there."""
    first, slash, rest = repository.partition("/")
    if slash and (set(".:") & set(first) or first == "localhost"):
        return first, rest
    return DOCKER_HUB, repository


def build_argv(
    image: Image, base: str, commit: Commit, version: str, *, buildx: bool, cache: bool
) -> list[str]:
    """Build one image and tag it; the layers of ``latest`` are taken over where ``cache`` is set.

    :param buildx: whether the Docker client has it; without, the engine's own BuildKit builds.
    """
    of = repository(base, image)
    start = (
        ["docker", "buildx", "build", "--load"]
        if buildx
        else ["env", "DOCKER_BUILDKIT=1", "docker", "build"]
    )
    return [
        *start,
        *("--file", DOCKERFILE, "--target", image.name),
        *(word for tag in tags(base, image, commit) for word in ("--tag", tag)),
        *(f"--build-arg={key}={value}" for key, value in build_args(commit, version).items()),
        *(["--cache-from", f"{of}:latest"] if buildx and cache else []),
        ".",
    ]


def tags(base: str, image: Image, commit: Commit) -> list[str]:
    """The names that an image gets: by its commit, and ``latest``."""
    return [f"{repository(base, image)}:{tag}" for tag in (commit.tag, "latest")]


def build_args(commit: Commit, version: str) -> dict[str, str]:
    """What the Dockerfile writes into the labels, and leave to make the layers a cache."""
    return {
        "VERSION": version,
        "CREATED": f"{commit.created:%Y-%m-%dT%H:%M:%SZ}",
        "SOURCE": commit.source,
        "REVISION": commit.revision,
        "BUILDKIT_INLINE_CACHE": "1",
    }


def login_argv(repository: str, username: str) -> list[str]:
    """Log in to a repository's registry; the password goes to standard input."""
    host = registry_host(repository)
    return ["docker", "login", "--username", username, "--password-stdin", host]


def is_digest(text: str) -> bool:
    """Whether a text is the digest of an image."""
    return bool(re.fullmatch(r"sha256:[0-9a-f]{64}", text))


def push_argv(tag: str) -> list[str]:
    """Push one tag of an image."""
    return ["docker", "push", tag]


def pull_argv(tag: str) -> list[str]:
    """Get an image as its registry has it now."""
    return ["docker", "pull", "--quiet", tag]


def labels_argv(tag: str) -> list[str]:
    """Print the labels of an image, as JSON."""
    return ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", tag]


@dataclass(frozen=True)
class Origin:
    """What an image says it was built from.

    :param version: of bikecast.
    """

    version: str
    revision: str
    created: datetime


def origin(tag: str, printed: str) -> Origin:
    """What an image was built from, by what :func:`labels_argv` printed.

    :raises InputError: where it does not say.
    """
    try:
        labels = json.loads(printed)
        version, revision, created = (
            labels[f"org.opencontainers.image.{name}"]
            for name in ("version", "revision", "created")
        )
        return Origin(version, revision, datetime.fromisoformat(created))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{tag} does not say what it was built from", hint="`inv build push` makes one"
        ) from error


def listed(repository: str) -> str:
    """A repository as the engine lists it: that of Docker Hub without its registry.

    >>> listed("docker.io/org/bikecast"), listed("ghcr.io/org/bikecast")
    ('org/bikecast', 'ghcr.io/org/bikecast')
    """
    return repository.removeprefix(DOCKER_HUB + "/")


def digest_argv(tag: str) -> list[str]:
    """Print the digests under which the engine knows an image, as JSON."""
    return ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", tag]


def pushed_digest(repository: str, printed: str) -> str:
    """The digest that a push to a repository gave, from what :func:`digest_argv` printed.

    :raises Unavailable: where there is none, so that nothing goes on without it.
    """
    prefix = f"{listed(repository)}@"
    found = [d.removeprefix(prefix) for d in json.loads(printed) if d.startswith(prefix)]
    if not found or not is_digest(found[0]):
        raise Unavailable(f"the engine knows no digest of {repository}", hint="push it again")
    return str(found[0])


# What git knows


def read_commit(folder: Path, show: Callable[[str], None] = lambda line: None) -> Commit:
    """The commit that is checked out in a folder.

    :param show: told each command.
    :raises InputError: where it is no git checkout.
    """

    def git(*words: str) -> str:
        show(shlex.join(["git", *words]))
        return _git(folder, *words)

    revision, seconds = git("log", "-1", "--format=%H %ct").split()
    changed = git("status", "--porcelain", "--", ".", NOT_IN_IMAGES).splitlines()
    ending = "-dirty" if changed else ""
    return Commit(
        revision=revision + ending,
        tag=git("rev-parse", "--short=12", "HEAD").strip() + ending,
        created=datetime.fromtimestamp(int(seconds), UTC),
        source=public_source(git("config", "--default", "", "remote.origin.url").strip()),
        changes=tuple(line[3:] for line in changed),
    )


def public_source(remote: str) -> str:
    """A git remote as the address where people read it; empty for a path on some machine.

    >>> public_source("git@github.com:org/bikecast.git")
    'https://github.com/org/bikecast'
    >>> where = "https://robot:token@git.example.com/bikecast.git"  # pragma: allowlist secret: none
    >>> public_source(where)
    'https://git.example.com/bikecast'
    """
    over_ssh = re.fullmatch(r"(?:ssh://)?[\w.-]+@([\w.-]+)(?::\d+/|[:/])(.+)", remote)
    over_http = re.fullmatch(r"https?://(?:[^@/]*@)?([^/]+)/(.+)", remote)
    found = over_http or over_ssh
    return f"https://{found[1]}/{found[2].removesuffix('.git')}" if found else ""


def _git(folder: Path, *words: str) -> str:
    try:
        # Fixed words of ours; where git is differs from machine to machine.
        done = subprocess.run(  # nosec B603 B607
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=GIT_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"git {words[0]} could not run: {error}", hint="install git") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise InputError(f"git {words[0]} in {folder.resolve()}: {said}", hint="run in a checkout")
    return done.stdout
