"""From the words of a task to a site and a target."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from invoke import Context

from bikecast.errors import InputError, UnknownName
from bikecast.ops.environment import Address, Environment
from bikecast.ops.host import DryHost, Fleet, Host
from bikecast.ops.images import IMAGES, is_digest, read_commit, repository
from bikecast.ops.site import Site, Target
from bikecast.ops.ssh import SshHost
from bikecast.ops.tasks.common import Narrator, environment, is_dry, who

STAGING = "staging"  # what every --env is by default
SHORT = 12  # digits of a commit that name a release


@contextmanager
def site_of(context: Context, env: str, dry: bool = False) -> Iterator[Site]:
    """The site of an environment, hung up at the end."""
    found, narrator = environment(env), Narrator()
    dry = is_dry(context, dry)

    def host(address: Address) -> Host:
        made = SshHost(address, found.hosts)
        return DryHost(made, narrator, found.hosts.command_timeout) if dry else made

    fleet = Fleet(tuple(host(a) for a in found.hosts.addresses), found.hosts.concurrency)
    site = Site(found, fleet, who(), narrator)
    if dry:
        # What a release says that goes well is not what a dry run has done.
        site = replace(site, dry=True, say=narrator.would_say, show=narrator.here)
    try:
        yield site
    finally:
        fleet.close()
    if dry:
        narrator("this was a dry run: nothing was changed")


def target_of(
    env: Environment,
    release: str | None,
    training: str | None,
    allow_dirty: bool,
    show: Callable[[str], None] = lambda line: None,
) -> Target:
    """The release to deploy, found in the registry.

    A release is named by its commit, also where it is asked for by a tag as ``latest`` or v1.2.

    :param release: a tag or ``sha256:…``; by default the image of the commit that is checked out.
    :param training: the digest of its training image; by default the one with the release's tag.
    :param show: told each command of git and each request to the registry.
    :raises InputError: for words that name no release, a tree with changes, which no image was
        built from, or two images that were not built from one commit.
    """
    # Only who deploys needs an HTTP client, and who rolls back is in a hurry.
    from bikecast.ops.digests import registry_client, resolve

    _check(release, training)
    release = _checked_out(allow_dirty, show) if release is None else release
    username, password = env.registry.username, env.registry.password.get_secret_value()
    api, beside = (repository(env.registry.image, image) for image in IMAGES)
    try:
        with registry_client(show) as client:
            served = resolve(api, release, username, password, client)
            tag = release if _names(release, served.revision) else _tag(served.revision, release)
            trained = resolve(beside, training or tag, username, password, client)
    except UnknownName as error:
        error.hint = f"`{building(env.name)}` makes that of the current commit"
        raise
    if training and trained.revision != served.revision:
        raise InputError(
            f"the images are of two commits: {served.revision}, {trained.revision or 'unknown'}",
            hint="take both digests from one `inv push`",
        )
    return Target(tag, served.digest, trained.digest)


def _check(release: str | None, training: str | None) -> None:
    if release == "":
        raise InputError("--release is empty", hint="leave it out for the commit checked out here")
    if training is not None and not (is_digest(training) and is_digest(release or "")):
        raise InputError(
            f"--training is {training!r} and --release {release or ''!r}",
            hint="write both as sha256:…, or leave --training out",
        )


def _checked_out(allow_dirty: bool, show: Callable[[str], None]) -> str:
    commit = read_commit(Path(), show)
    if commit.changes and not allow_dirty:
        raise InputError(
            f"the tree has changes that no commit holds: {', '.join(commit.changes[:3])}",
            hint="commit them, or add --allow-dirty",
        )
    return commit.tag


def building(env: str) -> str:
    """How the images of an environment are made; for Invoke each task has an --env of its own.

    >>> building("staging"), building("production")
    ('inv build push', 'inv build --env production push --env production')
    """
    return "inv build push" if env == STAGING else f"inv build --env {env} push --env {env}"


def _names(release: str, revision: str) -> bool:
    """Whether it is the tag of a commit; an image that does not say its commit has only its tag."""
    commit = release.removesuffix("-dirty")
    return ":" not in release and (not revision or revision.startswith(commit))


def _tag(revision: str, digest: str) -> str:
    if not revision:
        raise InputError(f"the image {digest} does not say its commit", hint="deploy it by its tag")
    commit, _, changed = revision.partition("-")
    return commit[:SHORT] + (f"-{changed}" if changed else "")
