"""What is installed is locked by hash, in versions that belong together; a wheel repeats itself."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
MACHINE = default_environment()
LOCKS = sorted((TOP / "deploy" / "locks").glob("*.txt"))


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
        ("dev", ["all"], list(PROJECT["dependency-groups"])),
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
    assert pins(path.stem).items() <= pins("dev").items()


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
