"""A copy of this tree to break, and the sessions of CI to catch it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import osv
import pytest

TOP = Path(__file__).parents[2]
LIMIT = 1800  # seconds for one session, on a busy machine


def pytest_collection_modifyitems(config, items):
    """Leave the full cases out unless they are asked for."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("full"):
            if not config.getoption("--all"):
                item.add_marker(pytest.mark.skip(reason="a full case: run `nox -s e2e -- --all`"))


@dataclass(frozen=True)
class Tree:
    """A repository of its own, with this tree as its only commit."""

    path: Path

    def command(self, *words):
        """Run a program in it, as a shell of its own would; exit code and all that it says."""
        foreign = re.compile("NOX|PYTEST|COV|BIKECAST|GIT|VIRTUAL_ENV|UV_PROJECT|FORCE_COLOR")
        own = {key: value for key, value in os.environ.items() if not foreign.match(key)}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        own["NO_COLOR"] = "1"
        done = subprocess.run(
            words,
            cwd=self.path,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
        return done.returncode, done.stdout

    def nox(self, session, *words, install=True):
        """Run a session; its environment is kept from one test to the next."""
        reuse = ["--reuse-existing-virtualenvs"] if install else ["-R"]
        asked = ["--error-on-missing-interpreters", *reuse, "--session", session]
        return self.command(sys.executable, "-m", "nox", *asked, "--", *words)

    def git(self, *words):
        """Run git, as nobody in particular."""
        who = ("-c", "user.name=gate", "-c", "user.email=gate@example.com")
        code, said = self.command("git", *who, *words)
        assert code == 0, said

    def change(self, path, old, new):
        """Replace the one place in a file where some text stands."""
        text = (self.path / path).read_text()
        assert text.count(old) == 1, f"{path} no longer has one {old!r}"
        (self.path / path).write_text(text.replace(old, new))

    def append(self, path, text):
        """Add to the end of a file, which is made where it is not there."""
        with (self.path / path).open("a") as file:
            file.write(text)


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    """The copy, unbroken."""
    if not (TOP / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no checkout: what is committed cannot be told")
    pytest.importorskip("nox", reason="not among the lowest versions")
    tree = Tree(tmp_path_factory.mktemp("gates") / "tree")
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=TOP, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (TOP / name).exists():  # what was deleted is still in the index
            (tree.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, tree.path / name)
    tree.git("init", "--quiet")
    tree.git("add", "--all")
    tree.git("commit", "--quiet", "--message", "as it is")
    return tree


@pytest.fixture
def tree(copy):
    """The copy, to break; it is mended afterwards, and keeps what tools have cached."""
    yield copy
    copy.git("reset", "--quiet", "--hard")
    copy.git("clean", "--quiet", "--force", "-d")


@pytest.fixture(scope="session")
def advisories():
    """The URL of a server of advisories."""
    with osv.serving() as url:
        yield url
