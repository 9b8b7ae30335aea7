"""Fleets of two local hosts, each test's own."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection, Program
from deployer import Deployer
from local_host import DIRECTORY, LocalHost, environment, target
from slack import Slack

from bikecast.ops import commands, tasks
from bikecast.ops.environment import Environment
from bikecast.ops.release import How, deploy
from bikecast.ops.tasks import work

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


def git(folder, *words):
    """Run git as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A git checkout of one file, with an environment that is not committed."""
    folder = tmp_path / "checkout"
    (folder / "deploy" / "environments").mkdir(parents=True)
    (folder / "deploy" / "environments" / "staging.toml").write_text("")
    (folder / "a.py").write_text("1\n")
    git(folder, "init", "-q")
    git(folder, "add", "a.py")
    git(folder, "commit", "-q", "-m", "one", "--date", "2026-03-01T13:00:00+01:00")
    return folder


@dataclass(frozen=True)
class Done:
    """How a task ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def play(monkeypatch, capsys) -> Callable[..., Done]:
    """Run `inv` in this process, on hosts of ours: local ones and such as are gone."""

    def run(hosts: tuple[Any, ...], *words: str, env: Environment | None = None) -> Done:
        reached = {h.name: h for h in hosts}
        monkeypatch.setattr(work, "SshHost", lambda address, settings: reached[address.host])
        monkeypatch.setattr(work, "environment", lambda name: env or environment())
        code = 0
        namespace = Collection.from_module(tasks)
        for task in namespace.tasks.values():
            # Invoke takes the help of a task's options out of it when they are parsed.
            monkeypatch.setattr(task, "help", dict(task.help))
        try:
            Program(namespace=namespace).run(["inv", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return run
