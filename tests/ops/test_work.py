"""From the words of `inv deploy` to two images in the registry."""

import hashlib
import json
from http.server import ThreadingHTTPServer

import pytest
from http_server import Handler, serving
from local_host import REGISTRY, environment

from bikecast.errors import InputError, UnknownName
from bikecast.ops import digests
from bikecast.ops.digests import REVISION, Found
from bikecast.ops.site import Target
from bikecast.ops.tasks.work import target_of

NEW, OLD = "c0ffee" * 6 + "c0de", "decade" * 6 + "dead"


def digest(content):
    """As registries name what they hold."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def image(repository, revision):
    """What a registry holds of an image: paths and contents; the manifest comes last."""
    config = json.dumps({"config": {"Labels": {REVISION: revision}}, "of": repository}).encode()
    manifest = json.dumps({"config": {"digest": digest(config)}}).encode()
    at = f"/v2/{repository}"
    return {
        f"{at}/blobs/{digest(config)}": config,
        f"{at}/manifests/{revision[:12]}": manifest,
        f"{at}/manifests/{digest(manifest)}": manifest,
    }


API, TRAINING, STALE = image("b", NEW), image("b-training", NEW), image("b-training", OLD)
SERVED, TRAINED, LEFT = (digest(list(held.values())[-1]) for held in (API, TRAINING, STALE))
HELD = STALE | API | TRAINING


class Registry(Handler):
    """Holds two releases; the older one has lost its api image."""

    def do_GET(self):  # noqa: N802
        """Answer as a registry does."""
        held = HELD.get(self.path)
        self.answer(404 if held is None else 200, held or b'{"errors": [{"code": "UNKNOWN"}]}')


@pytest.fixture
def find():
    """Look for what the words of a deploy name."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Registry)) as server:
        env = environment((REGISTRY, f"127.0.0.1:{server.server_port}/b"))
        yield lambda release, training=None: target_of(env, release, training, False)


def test_both_images_are_those_that_the_words_name(find):
    """By a tag, by the digest of one, or by the digests of both."""
    found = Target(NEW[:12], SERVED, TRAINED)
    assert find(NEW[:12]) == find(SERVED) == find(SERVED, TRAINED) == found


def test_two_digests_are_of_one_commit(find):
    """What trains and what serves belong together."""
    with pytest.raises(InputError, match=f"two commits: {NEW}, {OLD}; take both digests from one"):
        find(SERVED, LEFT)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("",), "--release is empty; leave it out"),
        (("", TRAINED), "--release is empty"),
        ((None, TRAINED), "--training is 'sha256:.*write both as sha256:…"),
        ((NEW[:12], TRAINED), "write both as sha256:…"),
        ((SERVED, ""), "--training is ''"),
        ((SERVED, NEW[:12]), "--training is 'c0ffee"),
    ],
)
def test_an_empty_word_is_not_the_default(find, words, says):
    """A workflow that lost a digest deploys nothing, least of all something else."""
    with pytest.raises(InputError, match=says):
        find(*words)


def test_an_absent_image_is_named(find):
    """With what makes it."""
    with pytest.raises(UnknownName, match="no image 127.*`inv build push`"):
        find(OLD[:12])


@pytest.mark.parametrize(
    ("asked", "revision", "named"),
    [
        (NEW[:12], NEW, NEW[:12]),
        (f"{NEW[:12]}-dirty", f"{NEW}-dirty", f"{NEW[:12]}-dirty"),
        ("latest", NEW, NEW[:12]),
        ("latest", f"{NEW}-dirty", f"{NEW[:12]}-dirty"),
        ("v1.2", NEW, NEW[:12]),
        ("v1.2", "", "v1.2"),
        ("sha256:" + "a" * 64, NEW, NEW[:12]),
    ],
)
def test_a_release_is_named_by_its_commit(monkeypatch, asked, revision, named):
    """By whatever it is asked for: the service is asked for its commit, and so are people."""

    def resolve(repository, reference, username, password, client):
        images = {(REGISTRY, asked): "the api's", (f"{REGISTRY}-training", named): "the training's"}
        return Found(images[repository, reference], revision)

    monkeypatch.setattr(digests, "resolve", resolve)
    found = target_of(environment(), asked, None, False)
    assert found == Target(named, "the api's", "the training's")


def test_an_image_without_a_commit_is_not_deployed_by_its_digest(monkeypatch):
    """Nobody could tell what it is called."""
    monkeypatch.setattr(digests, "resolve", lambda *words: Found("sha256:1", ""))
    with pytest.raises(InputError, match="does not say its commit; deploy it by its tag"):
        target_of(environment(), "sha256:" + "a" * 64, None, False)
