"""``inv build`` and ``inv push``: the images, made here and sent to the environment's registry."""

import json as jsons
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invoke import Context, task

from bikecast import __version__
from bikecast.errors import BikecastError, InputError, Unavailable
from bikecast.ops import images
from bikecast.ops.environment import Registry
from bikecast.ops.images import IMAGES, Commit, Image, Origin
from bikecast.ops.tasks.common import environment, hand_on, helped, told

SBOMS = Path("build")
ENGINE = "{{.Endpoints.docker.Host}}"
ASK_TIMEOUT = 30  # seconds
WORK_TIMEOUT = 3600.0  # seconds for one build, push or login


@task(
    help=helped(
        *("env", "dry", "json"),
        **{"allow-dirty": "Build a tree with changes too; the tag then ends in -dirty."},
    )
)  # type: ignore[untyped-decorator]
def build(
    context: Context,
    env: str = "staging",
    dry: bool = False,
    json: bool = False,
    allow_dirty: bool = False,
) -> None:
    """Build the images of this commit, and say what is in them: inv build --env staging.

    Tags each with the short commit and latest; writes build/sbom-NAME.cdx.json (CycloneDX). Layers
    that the registry has are taken from there, with its login, which is forgotten afterwards.
    """
    with told():
        docker = Docker(dry or context.config.run.dry, quiet=json)
        registry = environment(env).registry
        commit = _checked_out(allow_dirty)
        buildx = bool(docker.asked(["docker", "buildx", "version"]))
        cached = [i for i in IMAGES if buildx and (docker.dry or _has_latest(registry, i))]
        found = []
        with _logged_in(docker, registry) if cached else nullcontext():
            for image in IMAGES:
                cache = image in cached
                docker.run(
                    images.build_argv(
                        image, registry.image, commit, __version__, buildx=buildx, cache=cache
                    )
                )
                tag = f"{images.repository(registry.image, image)}:{commit.tag}"
                of = Origin(__version__, commit.revision, commit.created)
                found.append(_listed(docker, image, tag, of))
        docker.tell({"release": commit.tag, "revision": commit.revision, "images": found})


@task(help=helped("env", "dry", "json"))  # type: ignore[untyped-decorator]
def push(context: Context, env: str = "staging", dry: bool = False, json: bool = False) -> None:
    """Push the images of this commit: inv build --env staging push --env staging.

    The login is forgotten afterwards; without a user name in the environment Docker's own is used.
    In a workflow later steps get the digests as outputs: digest-api, digest-training.
    """
    with told():
        docker = Docker(dry or context.config.run.dry, quiet=json)
        registry = environment(env).registry
        commit = images.read_commit(Path())
        with _logged_in(docker, registry):
            found = {i.name: _pushed(docker, registry, i, commit) for i in IMAGES}
        of = list(found.values())
        docker.tell({"release": commit.tag, "revision": commit.revision, "images": of})
        if not docker.dry:
            hand_on({f"digest-{name}": image["digest"] for name, image in found.items()})


@task(  # type: ignore[untyped-decorator]
    name="sbom",
    help=helped(*("env", "dry", "json"), release="A tag that both images have in the registry."),
)
def sbom_task(
    context: Context,
    env: str = "staging",
    release: str = "latest",
    dry: bool = False,
    json: bool = False,
) -> None:
    """Say what is in images that were pushed: inv sbom --env staging --release latest.

    Pulls both and writes build/sbom-NAME.cdx.json (CycloneDX), as inv build does for what it makes.
    """
    with told():
        if not re.fullmatch(r"\w[\w.-]*", release):
            raise InputError(
                f"--release is {release!r}", hint="write a tag, which both images have"
            )
        docker = Docker(dry or context.config.run.dry, quiet=json)
        registry = environment(env).registry
        with _logged_in(docker, registry):
            found = [_pulled(docker, registry, image, release) for image in IMAGES]
        docker.tell({"release": release, "images": found})


class Docker:
    """Runs commands, or prints them where the run is dry.

    :param quiet: standard output is kept for one JSON document.
    """

    def __init__(self, dry: bool, quiet: bool) -> None:
        self.dry = dry
        self.quiet = quiet
        self._variables: dict[str, str] = {}
        self._printed: list[str] = []

    def run(self, argv: Sequence[str], stdin: str = "", *, read: bool = False) -> str:
        """Run one to its end; what it prints goes to the terminal, or back where it is read.

        :raises Unavailable: where it fails, or Docker is not here.
        """
        if self.dry:
            self._show(argv)
            return ""
        out = subprocess.PIPE if read else sys.stderr if self.quiet else None
        shown = f"`{shlex.join(argv[:3])} …`"
        try:
            # Words built here, of which no shell reads any.
            done = subprocess.run(  # nosec B603
                argv,
                input=stdin,
                stdout=out,
                text=True,
                env=os.environ | self._variables,
                timeout=WORK_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"{shown} did not end within {WORK_TIMEOUT:.0f} s",
                hint="see that Docker and the registry answer, then try again",
            ) from error
        except OSError as error:
            raise Unavailable(f"cannot run {argv[0]}: {error}", hint="install Docker") from error
        if done.returncode:
            raise Unavailable(
                f"{shown} failed with exit code {done.returncode}",
                hint="read what it printed above",
            )
        return done.stdout or ""

    def asked(self, argv: Sequence[str]) -> str:
        """What a command that changes nothing prints; empty where it fails. Dry runs ask too."""
        try:
            # Words built here, of which no shell reads any.
            done = subprocess.run(  # nosec B603
                argv, capture_output=True, text=True, timeout=ASK_TIMEOUT
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return "" if done.returncode else done.stdout.strip()

    @contextmanager
    def variables(self, **values: str) -> Iterator[None]:
        """Commands in this block see these variables too."""
        self._variables = values
        try:
            yield
        finally:
            self._variables = {}

    def tell(self, found: dict[str, Any]) -> None:
        """Say what came of it: lines for people, or the document."""
        if self.quiet:
            print(jsons.dumps(found | ({"commands": self._printed} if self.dry else {}), indent=2))
        elif not self.dry:
            for image in found["images"]:
                print(" ".join(str(value) for value in image.values()))

    def _show(self, argv: Sequence[str]) -> None:
        words = [f"{name}={shlex.quote(of)}" for name, of in self._variables.items()]
        line = " ".join([*words, shlex.join(argv)])
        self._printed.append(line)
        if not self.quiet:
            print(line)


def _checked_out(allow_dirty: bool) -> Commit:
    commit = images.read_commit(Path())
    if commit.changes and not allow_dirty:
        more = f" and {len(commit.changes) - 3} more" if len(commit.changes) > 3 else ""
        raise InputError(
            f"the tree has changes that no commit has: {', '.join(commit.changes[:3])}{more}",
            hint="commit them, or build with --allow-dirty",
        )
    return commit


def _has_latest(registry: Registry, image: Image) -> bool:
    from bikecast.ops.digests import registry_client, resolve

    of = images.repository(registry.image, image)
    try:
        with registry_client() as client:
            password = registry.password.get_secret_value()
            resolve(of, "latest", registry.username, password, client)
    except BikecastError:
        return False
    return True


def _pulled(docker: Docker, registry: Registry, image: Image, release: str) -> dict[str, Any]:
    tag = f"{images.repository(registry.image, image)}:{release}"
    docker.run(images.pull_argv(tag), read=True)
    printed = docker.run(images.labels_argv(tag), read=True)
    return _listed(docker, image, tag, None if docker.dry else images.origin(tag, printed))


def _listed(docker: Docker, image: Image, tag: str, of: Origin | None) -> dict[str, Any]:
    from bikecast.ops import sbom  # its library takes half a second

    path = SBOMS / f"sbom-{image.name}.cdx.json"
    printed = docker.run(sbom.listing_argv(tag), sbom.LISTING, read=True)
    if of and not docker.dry:
        packages, repository = sbom.read_listing(printed), tag.rpartition(":")[0]
        text = sbom.document(packages, repository, of.version, of.revision, of.created)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
    return {"image": tag, "sbom": str(path)}


@contextmanager
def _logged_in(docker: Docker, registry: Registry) -> Iterator[None]:
    if not registry.username:
        yield
        return
    with TemporaryDirectory(prefix="bikecast-login-") as folder:
        # With the configuration goes the choice of the engine, which Docker Desktop keeps there.
        engine = docker.asked(["docker", "context", "inspect", "--format", ENGINE])
        config = "TEMPORARY" if docker.dry else folder
        more = {"DOCKER_HOST": engine} if engine else {}
        with docker.variables(DOCKER_CONFIG=config, **more, **_plugins(Path(folder))):
            docker.run(
                images.login_argv(registry.image, registry.username),
                registry.password.get_secret_value(),
            )
            yield


def _plugins(folder: Path) -> dict[str, str]:
    """Take over what people have beside Docker's configuration: its plugins, and their builders."""
    usual = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if (usual / "cli-plugins").is_dir():
        (folder / "cli-plugins").symlink_to(usual.absolute() / "cli-plugins")
    builders = usual.absolute() / "buildx"
    return {"BUILDX_CONFIG": str(builders)} if builders.is_dir() else {}


def _pushed(docker: Docker, registry: Registry, image: Image, commit: Commit) -> dict[str, Any]:
    tags = images.tags(registry.image, image, commit)
    for tag in tags:
        docker.run(images.push_argv(tag))
    printed = docker.run(images.digest_argv(tags[0]), read=True)
    if docker.dry:
        return {"image": tags[0]}
    of = images.repository(registry.image, image)
    return {"image": tags[0], "digest": images.pushed_digest(of, printed)}
