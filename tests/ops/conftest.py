"""Fleets of two local hosts, each test's own."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_host import DIRECTORY, Deployer, LocalHost, target
from slack import Slack

from bikecast.ops import commands
from bikecast.ops.release import How, deploy

LETTERS = "abcdefghijk"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the full sweeps out unless they are asked for, and all where no host can be played."""
    able = shutil.which("flock") and Path("/proc/self/stat").exists()
    for item in items:
        if "make_hosts" not in getattr(item, "fixturenames", ()):
            continue
        if not able:
            item.add_marker(pytest.mark.skip(reason="needs flock and /proc, as on Linux"))
        elif item.get_closest_marker("full") and not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="more of a sweep: add --all"))


@pytest.fixture
def make_hosts(tmp_path: Path) -> Iterator[Callable[..., tuple[LocalHost, ...]]]:
    """Make two hosts, new ones or copies of others."""
    made: list[LocalHost] = []
    numbers = itertools.count()

    def make(*of: LocalHost) -> tuple[LocalHost, ...]:
        folder = tmp_path / f"fleet{next(numbers)}"
        folder.mkdir()
        hosts = tuple(h.copy(folder / h.name) for h in of) or new_hosts(folder)
        made.extend(hosts)
        return hosts

    yield make
    for host in made:
        host.end()


def new_hosts(folder: Path) -> tuple[LocalHost, ...]:
    """Two hosts on which `inv setup` was run, and a registry with all releases."""
    hosts = tuple(LocalHost(name, folder / name) for name in ("one", "two"))
    for host in hosts:
        host.run(commands.prepare(DIRECTORY))
        for letter in LETTERS:
            host.offer(target(letter))
    return hosts


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalHost, ...]]:
    """A fleet to copy: release b is live in green, a is warm in blue."""
    hosts = new_hosts(tmp_path_factory.mktemp("template"))
    for letter in "ab":
        deploy(Deployer(hosts).site, target(letter), How(bake=0))
    for host in hosts:
        # A hundred files less to copy for each test: these hosts look into the first bucket alone.
        for bucket in (host.root / "traffic" / "sets" / "100").iterdir():
            if bucket.name != "0":
                bucket.unlink()
        host.end()
    yield hosts


@pytest.fixture(scope="session")
def template_of_three(
    template: tuple[LocalHost, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LocalHost, ...]:
    """A fleet to copy: c is live in blue, b is warm in green."""
    folder = tmp_path_factory.mktemp("three")
    hosts = tuple(h.copy(folder / h.name) for h in template)
    deploy(Deployer(hosts).site, target("c"), How(bake=0))
    for host in hosts:
        host.end()
    return hosts


@pytest.fixture
def fresh(make_hosts) -> tuple[LocalHost, ...]:
    """Two hosts without any release."""
    return make_hosts()


@pytest.fixture
def hosts(make_hosts, template) -> tuple[LocalHost, ...]:
    """Two hosts: release b is live in green, a is warm in blue."""
    return make_hosts(*template)


@pytest.fixture
def three(make_hosts, template_of_three) -> tuple[LocalHost, ...]:
    """Two hosts after one more release: c is live in blue, b is warm in green."""
    return make_hosts(*template_of_three)


@pytest.fixture
def slack() -> Iterator[Slack]:
    """A webhook on this machine."""
    made = Slack()
    yield made
    made.end()
