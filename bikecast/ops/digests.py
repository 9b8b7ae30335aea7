"""What an image registry holds, by its HTTP API (version 2); no Docker is needed."""

import hashlib
import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from bikecast.errors import InputError, Unavailable, UnknownName
from bikecast.ops.images import DOCKER_HUB, split

TIMEOUT = 10.0  # seconds: for a registry to connect, and for each of its answers
LARGEST = 4 << 20  # bytes of a manifest or a configuration; registries allow no more
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
class Found:
    """An image in a registry.

    :param digest: what is deployed: ``sha256:`` and 64 digits.
    :param revision: the commit that it says it was built from; empty where it says nothing.
    """

    digest: str
    revision: str


def registry_client(show: Callable[[str], None] = lambda line: None) -> httpx.Client:
    """A client that gives every call a limit of time.

    :param show: told each request, without what may be secret of it: headers and queries.
    """

    def tell(request: httpx.Request) -> None:
        show(f"{request.method} {request.url.copy_with(query=None)}")

    return httpx.Client(timeout=TIMEOUT, follow_redirects=True, event_hooks={"request": [tell]})


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


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")


class _Registry:
    """One repository, over HTTP; logged in to once, when the registry asks."""

    def __init__(self, repository: str, username: str, password: str, client: httpx.Client) -> None:
        host, name = split(repository)
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
