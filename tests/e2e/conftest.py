"""Two real hosts, a registry and a database for all tests on them, made once and taken away."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import machine
from fleet.client import Load
from fleet.hosts import Fleet, Host
from fleet.images import nginx_image
from fleet.machine import until
from fleet.registry import Registry
from fleet.service import Database
from fleet.stage import FIRST, LATER_FAILING, NEVER_HEALTHY, NEXT, RATE, SICK, SPOILED, TOP, Stage
from lacking import lacking


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the full cases out unless they are asked for; what needs no fleet comes first.

    There is one fleet at a time, so a test of its beginning and end runs before the session's.
    """
    for item in items:
        if item.get_closest_marker("full") and not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="a full case: run `nox -s e2e -- --all`"))
    items.sort(key=lambda item: "fleet" in getattr(item, "fixturenames", ()))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have a report say what its case promises."""
    first = (getattr(item, "obj", None).__doc__ or "").partition("\n")[0]
    item.user_properties.append(("promises", first))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of what cases of releases cost riders, as the README has it."""
    rows, stats = [], terminalreporter.stats
    bad = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, ())}
    for report in stats.get("", ()):  # where pytest keeps what is no test's result
        ours = "e2e/test_release" in report.nodeid and report.nodeid not in bad
        if report.when == "teardown" and ours:
            found = dict(report.user_properties)
            case = report.nodeid.rpartition("::test_")[2].replace("_", " ")
            asked = (f"{found[k]:,}" if k in found else "nobody asks" for k in ("requests", "lost"))
            rows.append("| " + " | ".join((case, found["promises"], *asked)) + " |")
    if rows:
        terminalreporter.section("what releases cost riders")
        terminalreporter.write_line("| case | what it shows | requests | lost |\n|---|---|---|---|")
        terminalreporter.write_line("\n".join(rows))


@pytest.fixture(scope="session")
def able() -> None:
    """A machine on which hosts can be made."""
    if why := machine.missing():
        lacking(f"no hosts can be made: {why}")


@pytest.fixture(scope="session")
def fleet(able: None) -> Iterator[Fleet]:
    """The bridge and the deployer's key; when it is over, nothing of it may be left."""
    with Fleet() as fleet:
        yield fleet
    assert machine.leftovers() == []


@pytest.fixture(scope="session")
def registry(fleet: Fleet) -> Iterator[Registry]:
    """A private registry with TLS and a password."""
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def database(fleet: Fleet) -> Iterator[Database]:
    """A PostgreSQL that the hosts reach, with a small city and its forecast."""
    with Database() as database:
        yield database


@pytest.fixture(scope="session")
def nginx(registry: Registry) -> str:
    """nginx's image in the registry."""
    return nginx_image(registry)


@pytest.fixture(scope="session")
def hosts(fleet: Fleet) -> list[Host]:
    """The hosts ``one`` and ``two``."""
    return fleet.add("one", "two")


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory,
    fleet: Fleet,
    hosts: list[Host],
    registry: Registry,
    database: Database,
) -> Stage:
    """The environment `staging` with four releases in its registry, hosts set up."""
    made = Stage(tmp_path_factory.mktemp("stage"), fleet, hosts, registry, database)
    for tag, change in ((FIRST, ""), (NEXT, ""), (SICK, NEVER_HEALTHY), (SPOILED, LATER_FAILING)):
        made.release(tag, change)
    return made


@pytest.fixture
def live(stage: Stage) -> Stage:
    """FIRST is live on all hosts, alone."""
    stage.write()
    done = stage.inv("setup")
    assert done.code == 0, done.err
    if set(stage.live().values()) != {FIRST} or stage.status()["warnings"]:
        done = stage.deploy(FIRST, "--bake", "0s", "--wait", "60s")
        assert done.code == 0, done.err
    return stage


@pytest.fixture
def riders(live: Stage, request: pytest.FixtureRequest) -> Iterator[Load]:
    """They ask both hosts; no test ends before they got an answer."""
    with Load(live.urls(), rate=RATE, header="X-Bikecast-Colour") as load:
        until(lambda: len(load.answers()) > 50, "nobody answers riders", 30)
        yield load
    request.node.user_properties += [
        ("requests", len(load.answers())),
        ("lost", len(load.failures)),
    ]


@pytest.fixture(scope="session")
def checkout(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with the stage's environment in it."""
    folder = tmp_path_factory.mktemp("clone") / "bikecast"
    subprocess.run(["git", "clone", "-q", str(TOP), str(folder)], check=True)
    shutil.copy(stage.folder / "deploy/environments/staging.toml", folder / "deploy/environments")
    return folder
