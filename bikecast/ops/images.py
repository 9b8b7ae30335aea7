"""Images: what is built and pushed, as commands, and what a registry holds, by asking it.

The functions that end in ``_argv`` are pure; :func:`read_commit` asks git, :func:`resolve` asks
the registry over its HTTP API (version 2), so that no Docker is needed to find a digest.
"""

import hashlib
import json
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bikecast.errors import InputError, Unavailable, UnknownName

DOCKERFILE = "deploy/Dockerfile"
DOCKER_HUB = "docker.io"
TIMEOUT = 10.0  # seconds: for a registry to connect, and for each of its answers
LARGEST = 4 << 20  # bytes of a manifest or a configuration; registries allow no more
GIT_TIMEOUT = 30  # seconds
# What lies here is read by `inv`, and is in no image.
NOT_IN_IMAGES = ":(exclude)deploy/environments"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
REVISION = "org.opencontainers.image.revision"


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


@dataclass(frozen=True)
class Found:
    """An image in a registry.

    :param digest: what is deployed: ``sha256:`` and 64 digits.
    :param revision: the commit that it says it was built from; empty where it says nothing.
    """

    digest: str
    revision: str


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
    return _split(repository)[0]


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


def push_argv(tag: str) -> list[str]:
    """Push one tag of an image."""
    return ["docker", "push", tag]


def digest_argv(tag: str) -> list[str]:
    """Print the digests under which the engine knows an image, as JSON."""
    return ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", tag]


def pushed_digest(repository: str, printed: str) -> str:
    """The digest that a push to a repository gave, from what :func:`digest_argv` printed.

    >>> pushed_digest("r.io/b", '["r.io/a@sha256:1", "r.io/b@sha256:2"]')
    'sha256:2'
    """
    prefix = f"{repository.removeprefix(DOCKER_HUB + '/')}@"
    found = [d.removeprefix(prefix) for d in json.loads(printed) if d.startswith(prefix)]
    if not found:
        raise Unavailable(f"the engine knows no digest of {repository}", hint="push it again")
    return str(found[0])


# What git knows


def read_commit(folder: Path) -> Commit:
    """The commit that is checked out in a folder.

    :raises InputError: where it is no git checkout.
    """
    revision, seconds = _git(folder, "log", "-1", "--format=%H %ct").split()
    changed = _git(folder, "status", "--porcelain", "--", ".", NOT_IN_IMAGES).splitlines()
    ending = "-dirty" if changed else ""
    return Commit(
        revision=revision + ending,
        tag=_git(folder, "rev-parse", "--short=12", "HEAD").strip() + ending,
        created=datetime.fromtimestamp(int(seconds), UTC),
        source=public_source(_git(folder, "config", "--default", "", "remote.origin.url").strip()),
        changes=tuple(line[3:] for line in changed),
    )


def public_source(remote: str) -> str:
    """A git remote as the address where people read it; empty for a path on some machine.

    >>> public_source("git@github.com:org/bikecast.git")
    'https://github.com/org/bikecast'
    >>> public_source("https://robot:token@git.example.com/bikecast.git")
    'https://git.example.com/bikecast'
    """
    over_ssh = re.fullmatch(r"(?:ssh://)?[\w.-]+@([\w.-]+)(?::\d+/|[:/])(.+)", remote)
    over_http = re.fullmatch(r"https?://(?:[^@/]*@)?([^/]+)/(.+)", remote)
    found = over_http or over_ssh
    return f"https://{found[1]}/{found[2].removesuffix('.git')}" if found else ""


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(  # nosec B603 B607
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=GIT_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"git {words[0]} could not run: {error}", hint="install git") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise InputError(f"git {words[0]} in {folder.resolve()}: {said}", hint="run in a checkout")
    return done.stdout


# What a registry holds


def registry_client() -> httpx.Client:
    """A client that gives every call a limit of time."""
    return httpx.Client(timeout=TIMEOUT, follow_redirects=True)


def resolve(
    repository: str, reference: str, username: str, password: str, client: httpx.Client
) -> Found:
    """The digest behind a tag or digest, and the commit that the image was built from.

    :param reference: a tag, or ``sha256:`` and 64 digits.
    :param client: its ``timeout`` limits every call.
    :raises UnknownName: where the registry does not have it.
    :raises InputError: for what is no reference, or a login that is refused.
    :raises Unavailable: where the registry does not answer, or is none.
    """
    if not re.fullmatch(r"sha256:[0-9a-f]{64}|\w[\w.-]{0,127}", reference):
        raise InputError(
            f"{reference!r} is neither a tag nor a digest",
            hint="write the tag of a release, or sha256: and 64 digits of 0-9a-f",
        )
    registry = _Registry(repository, username, password, client)
    manifest = registry.manifest(reference)
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    if reference.startswith("sha256:") and reference != digest:
        raise registry.is_no_registry("sent other content than the digest names")
    return Found(digest, registry.revision(manifest))


def split_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme, in small letters, and the parameters of a ``WWW-Authenticate`` header.

    >>> split_challenge('Bearer realm="https://auth.example.com/token",service="r.io"')
    ('bearer', {'realm': 'https://auth.example.com/token', 'service': 'r.io'})
    """
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


def _split(repository: str) -> tuple[str, str]:
    first, slash, rest = repository.partition("/")
    if slash and (set(".:") & set(first) or first == "localhost"):
        return first, rest
    return DOCKER_HUB, repository


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")


class _Registry:
    """One repository, over HTTP; logged in to once, when the registry asks."""

    def __init__(self, repository: str, username: str, password: str, client: httpx.Client) -> None:
        host, name = _split(repository)
        self.repository = repository
        self.url = f"{_address(host)}/v2/{_full_name(host, name)}"
        self._login = (username, password) if username else None
        self._client = client
        self._headers = {"Accept": ", ".join(INDEXES + MANIFESTS)}

    def manifest(self, reference: str) -> bytes:
        """The bytes of a manifest or index."""
        return self._read(f"manifests/{reference}", reference)

    def revision(self, manifest: bytes) -> str:
        """The commit in an image's labels; of an index that of the image for linux/amd64."""
        try:
            document = json.loads(manifest)
            if "manifests" in document:
                document = json.loads(self.manifest(_for_linux(document["manifests"])["digest"]))
            digest = document["config"]["digest"]
            config = json.loads(self._read(f"blobs/{digest}", digest)).get("config") or {}
            return str((config.get("Labels") or {}).get(REVISION, ""))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self.is_no_registry("answers, but not as an image registry does") from error

    def is_no_registry(self, how: str) -> Unavailable:
        """The error for an answer that no registry gives."""
        return Unavailable(f"{self.url} {how}", hint="check registry.image of the environment")

    def _read(self, path: str, reference: str) -> bytes:
        status, headers, body = self._get(f"{self.url}/{path}", headers=self._headers)
        if status == 401:
            self._headers["Authorization"] = self._authorization(headers)
            status, headers, body = self._get(f"{self.url}/{path}", headers=self._headers)
        if status in (401, 403):
            raise self._refused(status)
        if status == 404 and _is_json(body):
            raise UnknownName(
                f"the registry has no image {self.repository}"
                f"{'@' if ':' in reference else ':'}{reference}",
                hint="`inv build push` makes that of the current commit",
            )
        if status == 404:
            raise self.is_no_registry("answers, but not as an image registry does")
        if status != 200:
            raise Unavailable(f"{self.url} answers {status}", hint="try again, or look at its log")
        return body

    def _authorization(self, headers: Mapping[str, str]) -> str:
        scheme, asked = split_challenge(headers.get("www-authenticate", ""))
        if scheme == "bearer" and "realm" in asked:
            return f"Bearer {self._token(asked)}"
        if scheme == "basic" and self._login:
            return "Basic " + b64encode(":".join(self._login).encode()).decode()
        raise self._refused(401)

    def _token(self, asked: Mapping[str, str]) -> str:
        realm = urlsplit(asked["realm"])
        if realm.scheme != "https" and not _is_loopback(realm.hostname or ""):
            raise self.is_no_registry(f"wants the password unencrypted, at {asked['realm']}")
        wanted = {key: asked[key] for key in ("service", "scope") if key in asked}
        status, _, body = self._get(asked["realm"], params=wanted, auth=self._login)
        if 400 <= status < 500 and status != 429:
            raise self._refused(status)
        token = json.loads(body) if status == 200 and _is_json(body) else {}
        if not {"token", "access_token"} & set(token):
            raise Unavailable(f"{asked['realm']} answers {status}, no token", hint="try again")
        return str(token.get("token") or token["access_token"])

    def _refused(self, status: int) -> InputError:
        who = "the user name or password" if self._login else "a look without a login"
        return InputError(
            f"{self.url} refuses {who}, or does not exist ({status})",
            hint="check registry.username and registry.password of the environment",
        )

    def _get(self, url: str, **options: Any) -> tuple[int, Mapping[str, str], bytes]:
        limit = self._client.timeout.read or TIMEOUT
        until = time.monotonic() + limit
        body = b""
        try:
            with self._client.stream("GET", url, **options) as answer:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if time.monotonic() > until:
                        raise httpx.ReadTimeout("timed out")
                    if len(body) > LARGEST:
                        raise self.is_no_registry("sends more than a manifest can be")
                return answer.status_code, answer.headers, body
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{url} did not answer in {limit:g} s",
                hint="check registry.image, and that it is up",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"cannot reach {url}: {error}", hint="check registry.image, and that it is up"
            ) from error


def _address(host: str) -> str:
    if host == DOCKER_HUB:
        return "https://registry-1.docker.io"
    return f"{'http' if _is_loopback(host.partition(':')[0]) else 'https'}://{host}"


def _full_name(host: str, name: str) -> str:
    return f"library/{name}" if host == DOCKER_HUB and "/" not in name else name


def _for_linux(children: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = {"os": "linux", "architecture": "amd64"}
    fitting = (c for c in children if wanted.items() <= c.get("platform", {}).items())
    return next(fitting, children[0])


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
