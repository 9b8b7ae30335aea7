"""What a registry is asked for a digest, and what its answers mean."""

import base64
import hashlib
import json
import time
from http.server import ThreadingHTTPServer

import httpx
import pytest
from http_server import Handler, serving

from bikecast.errors import InputError, Unavailable, UnknownName
from bikecast.ops import digests

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


class Registry(Handler):
    """A small image registry; the class attributes say how it behaves."""

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


@pytest.fixture
def resolve():
    """Ask a registry that behaves as told."""

    def do(reference, username="", password="", limit=10, **behaviour):
        handler = type("Told", (Registry,), behaviour)
        client = httpx.Client(timeout=limit, trust_env=False)
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
        ({"delay": 2.0, "limit": 0.5}, "did not answer in 0.5 s"),
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
