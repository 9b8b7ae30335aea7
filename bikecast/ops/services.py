"""The services of one machine, by ``docker compose``: commands, secrets, start, stop.

``Compose`` only builds argv; ``Shell`` is the edge that runs it.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bikecast.errors import InputError, Unavailable

Argv = tuple[str, ...]

FILE = Path("deploy/compose.yaml")
SETTINGS = Path("deploy/compose.env")
FIRST = ("migrate", "nginx")  # and what they depend on
# Those of the profile `airflow`, where that is chosen; the first ends when it is done.
AIRFLOW = ("airflow-setup", "airflow", "airflow-scheduler", "airflow-dag-processor")
ONCE = (
    "migrate",
    "mlflow-migrate",
    "mlflow-volume",
    "airflow-setup",
)  # which end when they are done
MODELS = ("mlflow",)
SERVICE, REFRESHER = PRODUCT = ("api", "refresher")  # which need a system to serve
SERVICE_PORT = 8000  # of nginx, inside
QUICK = 60  # seconds for a command that only asks
PULL = 1800  # seconds for an image
LOG_LINES = 20

PSQL = (
    *("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
    *("--set", "ON_ERROR_STOP=1", "--username", "postgres"),
)
ADMIN_TOKEN = "admin_token"  # nosec B105  # a file's name
COUNT_SYSTEMS = "SELECT count(*) FROM system"


@dataclass(frozen=True)
class Compose:
    """Words for ``docker compose``.

    :param file: the compose file.
    :param settings: its file of variables; empty for none.
    """

    file: str = str(FILE)
    settings: str = ""

    def __call__(self, *words: str) -> Argv:
        """A command on the project."""
        settings = ("--env-file", self.settings) if self.settings else ()
        return ("docker", "compose", "--file", self.file, *settings, *words)

    def config(self) -> Argv:
        """The file as compose understands it, variables filled in, as JSON."""
        return self("config", "--format", "json")

    def up(self, *services: str) -> Argv:
        """Start services and what they depend on, in the background."""
        return self("up", "--detach", "--no-build", *services)

    def stop(self, *services: str) -> Argv:
        """Stop services; their containers stay."""
        return self("stop", *services)

    def down(self, volumes: bool) -> Argv:
        """Remove all containers and networks, also of profiles; with ``volumes`` the data too."""
        words = ("--profile", "airflow", "down", "--remove-orphans")
        return self(*words, *(["--volumes"] if volumes else []))

    def ps(self) -> Argv:
        """All containers of the project, stopped ones too, as JSON."""
        return self("ps", "--all", "--format", "json")

    def logs(self, service: str) -> Argv:
        """A service's newest lines of log."""
        return self("logs", "--no-color", "--no-log-prefix", "--tail", str(LOG_LINES), service)

    def port(self) -> Argv:
        """Where nginx is reached from outside."""
        return self("port", "nginx", str(SERVICE_PORT))

    def inside(self, service: str, *words: str) -> Argv:
        """A command in a running container; it may read stdin."""
        return self("exec", "-T", service, *words)

    def psql(self, database: str, *statements: str) -> Argv:
        """Statements as the superuser, one transaction each; without any, they come on stdin."""
        given = [word for statement in statements for word in ("--command", statement)]
        return self.inside("postgres", *PSQL, "--dbname", database, *given)


def here() -> Compose:
    """Commands for the compose file of this checkout.

    :raises InputError: where the current folder is none.
    """
    if not FILE.exists():
        raise InputError(f"no {FILE} here", hint="run this in a checkout of bikecast")
    return Compose(settings=str(SETTINGS) if SETTINGS.exists() else "")


def note(text: str) -> None:
    """Progress goes to stderr: stdout is for what was asked."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Shell:
    """Runs commands on this machine; a dry one prints them instead.

    :raises Unavailable: from each method, where a command fails, hangs or does not exist.
    """

    dry: bool = False

    def run(
        self,
        argv: Argv,
        timeout: float,
        *,
        source: Path | None = None,
        target: Path | None = None,
    ) -> None:
        """Run a command that changes something, its stdin from and its stdout to a file."""
        if self.dry:
            ends = [f"< {source}"] * bool(source) + [f"> {target}"] * bool(target)
            print(" ".join([shlex.join(argv), *ends]))
            return
        with open(source or os.devnull, "rb") as stdin, open(target or os.devnull, "wb") as stdout:
            _run(argv, timeout, stdin=stdin, stdout=stdout)

    def ask(self, argv: Argv, pretend: str = "", timeout: float = QUICK) -> str:
        """What a command says; a dry run takes ``pretend`` for it."""
        if self.dry:
            print(shlex.join(argv))
            return pretend
        return self.read(argv, timeout)

    def read(self, argv: Argv, timeout: float = QUICK) -> str:
        """What a command says that only reads files, in a dry run too."""
        done = _run(argv, timeout, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        return done.stdout.decode(errors="replace").strip()

    def succeeds(self, argv: Argv) -> bool:
        """Whether a command that only asks ends well."""
        try:
            self.read(argv)
        except Unavailable:
            return False
        return True


def _run(argv: Argv, timeout: float, **ends: Any) -> subprocess.CompletedProcess[bytes]:
    try:
        # Words built here, of which no shell reads any.
        done = subprocess.run(  # nosec B603
            argv, stderr=subprocess.PIPE, timeout=timeout, check=False, **ends
        )
    except FileNotFoundError as error:
        raise Unavailable(f"there is no {argv[0]} here", hint="install Docker") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"`{short(argv)}` did not end within {timeout:.0f} s",
            hint="see that Docker answers, as with `docker ps`",
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word of why"]
        why = next((line for line in said if "error" in line.lower()), said[-1])
        hint = "see to that, then try again"
        if "is not a docker command" in why:
            hint = "install the compose plugin, v2"
        raise Unavailable(f"`{short(argv)}` failed: {why.strip()}", hint=hint)
    return done


def short(argv: Argv) -> str:
    """A command as people would say it.

    >>> short(("docker", "compose", "--file", "x.yaml", "exec", "-T", "postgres", "pg_dump", "-v"))
    'docker compose exec postgres pg_dump'
    """
    words = [w for w in argv if not w.startswith("-") and not w.endswith((".yaml", ".env"))]
    return " ".join(words[:5])


# -- secrets ---------------------------------------------------------------------------------------


def new_secrets(password: Callable[[], str]) -> dict[str, str]:
    """File name → what compose.yaml expects in it, each with a password of its own."""
    return {
        "postgres_password": password(),
        "database_url": f"postgresql://bikecast:{password()}@postgres:5432/bikecast",
        "mlflow_service": (
            f"[mlflow]\nhost=postgres\ndbname=mlflow\nuser=mlflow\npassword={password()}\n"
        ),
    }


def read_config(shell: Shell, compose: Compose) -> dict[str, Any]:
    """The services as Compose understands them."""
    config: dict[str, Any] = json.loads(shell.read(compose.config()))
    return config


def secrets_folder(config: dict[str, Any]) -> Path:
    """Where the secrets of a resolved compose file are."""
    return Path(config["secrets"]["postgres_password"]["file"]).parent


def missing_secrets(folder: Path) -> list[str]:
    """The files that are not there.

    :raises InputError: where some are and some are not; new ones would not fit the old.
    """
    names = list(new_secrets(str))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and len(missing) < len(names):
        raise InputError(f"{folder} lacks {', '.join(missing)}", hint="put them back")
    return missing


def make_secrets(folder: Path) -> None:
    """Write new secrets, all or none.

    Each container runs as a user of its own and must read the file that is mounted into it, so
    the files are readable for all, behind a folder that only its owner can enter.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))  # mode 0700
    try:
        (partial / ".gitignore").write_text("*\n")
        for name, text in new_secrets(lambda: secrets.token_urlsafe(32)).items():
            (partial / name).write_text(text)
            (partial / name).chmod(0o444)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"no secrets can be made in {folder}: {error.strerror}",
            hint="empty that folder, or name another in BIKECAST_SECRETS",
        ) from error


def ensure_secrets(shell: Shell, config: dict[str, Any]) -> bool:
    """Make secrets where there are none yet; whether it did.

    :raises InputError: where the database was made with others, which are gone.
    """
    folder = secrets_folder(config)
    if not missing_secrets(folder):
        return False
    volume = config["volumes"]["database"]["name"]
    if not shell.dry and shell.succeeds(("docker", "volume", "inspect", volume)):
        raise InputError(
            f"the volume {volume} is there, but not its secrets in {folder}",
            hint="put them back, or `inv down --volumes` to begin anew",
        )
    if shell.dry:
        print(f"# make new secrets in {folder}")
    else:
        make_secrets(folder)
        note(f"made new passwords in {folder}: keep them")
    return True


def ensure_admin_token(shell: Shell, folder: Path) -> None:
    """Make an admin token for the service where there is none; any fits, unlike a password."""
    path = folder / ADMIN_TOKEN
    if path.is_file():
        return
    if shell.dry:
        print(f"# make an admin token in {path}")
        return
    try:
        partial = folder / f".{ADMIN_TOKEN}"
        partial.unlink(missing_ok=True)  # of a run that was cut off
        partial.write_text(secrets.token_urlsafe(32))
        partial.chmod(0o444)
        partial.rename(path)
    except OSError as error:
        raise InputError(
            f"no admin token can be made in {folder}: {error.strerror}",
            hint=f"write one of 16 characters or more into {path}",
        ) from error
    note(f"made an admin token in {path}")


# -- start and stop --------------------------------------------------------------------------------


class Container(NamedTuple):
    """How a service of the project is doing, in Docker's words."""

    service: str
    state: str
    health: str
    code: int

    @property
    def well(self) -> bool:
        """Running and not unhealthy, or where that is its nature, done."""
        if self.service in ONCE:
            return self.state == "exited" and self.code == 0
        return self.state == "running" and self.health in ("healthy", "")

    @property
    def failed(self) -> bool:
        """It will not get well by waiting."""
        ended = self.state in ("exited", "dead", "restarting") and not self.well
        return ended or self.health == "unhealthy"

    def __str__(self) -> str:
        """As in ``api is restarting (exit code 2)``."""
        code = f" (exit code {self.code})" if self.code else ""
        return f"{self.service} is {self.health or self.state}{code}"


def parse_ps(text: str) -> list[Container]:
    """What ``docker compose ps --format json`` says: a list, or since 2.21 a document a line."""
    rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
    return [
        Container(row["Service"], row["State"], row.get("Health", ""), row.get("ExitCode", 0))
        for row in rows
    ]


class Started(NamedTuple):
    """What ``inv up`` has to tell.

    :param systems: how many cities the database holds; without one there is nothing to serve.
    """

    url: str
    systems: int
    services: dict[str, str]


def up(shell: Shell, compose: Compose, timeout: float) -> Started:
    """Bring all services up, and wait until they are healthy.

    :param timeout: seconds, beyond what fetching the images takes.
    :raises Unavailable: behind the failing container's last lines of log.
    """
    config = read_config(shell, compose)
    ensure_images(shell, {service["image"] for service in config["services"].values()})
    ensure_secrets(shell, config)
    ensure_admin_token(shell, secrets_folder(config))
    chosen = tuple(name for name in AIRFLOW if name in config["services"])
    return start(shell, compose, timeout, chosen)


def ensure_images(shell: Shell, images: Iterable[str]) -> None:
    """Fetch the images that are not here yet."""
    for image in sorted(images):
        if shell.dry or shell.succeeds(("docker", "image", "inspect", image)):
            continue
        note(f"pulling {image}")
        try:
            shell.run(("docker", "pull", "--quiet", image), PULL)
        except Unavailable as error:
            raise InputError(
                f"no image {image} here, and none can be pulled: {error.what}",
                hint="`inv build` makes bikecast's; others are named in deploy/compose.env",
            ) from error


def start(shell: Shell, compose: Compose, timeout: float, more: Argv = ()) -> Started:
    """Start what can run, and wait for it.

    :param more: services beside those that there always are.
    """
    deadline = time.monotonic() + timeout
    _start(shell, compose, FIRST, deadline)
    systems = int(shell.ask(compose.psql("bikecast", COUNT_SYSTEMS), pretend="1"))
    # The service does not wait for MLflow, whose start takes longest.
    _start(shell, compose, (*MODELS, *(PRODUCT if systems else ())), deadline)
    if more:
        _start(shell, compose, more, deadline)
    url = "http://" + shell.ask(compose.port(), pretend="127.0.0.1:8000")
    return Started(url, systems, {c.service: c.health or c.state for c in _look(shell, compose)})


def _start(shell: Shell, compose: Compose, services: Argv, deadline: float) -> None:
    note(f"starting {', '.join(services)}")
    try:
        shell.run(compose.up(*services), max(deadline - time.monotonic(), 1))
    except Unavailable as error:
        _fail(shell, compose, _look(shell, compose), error)
    # What is not asked for may be stopped or starting over; it is not waited for.
    while waiting := [c for c in _look(shell, compose) if c.service in services and not c.well]:
        if any(c.failed for c in waiting) or time.monotonic() > deadline:
            late = Unavailable(
                f"not up in time: {', '.join(map(str, waiting))}", hint="give it longer: --timeout"
            )
            _fail(shell, compose, waiting, late)
        time.sleep(0.5)


def _look(shell: Shell, compose: Compose) -> list[Container]:
    return parse_ps(shell.ask(compose.ps()))


def _fail(shell: Shell, compose: Compose, seen: list[Container], error: Unavailable) -> None:
    """Show why, then raise: a container that failed says more than one that waits for it."""
    culprits = [c for c in seen if c.failed] or [c for c in seen if not c.well and c.code == 0]
    for culprit in culprits[:2]:
        note(f"--- {culprit}; its last lines:\n{shell.ask(compose.logs(culprit.service))}")
    what = ", ".join(map(str, culprits)) or error.what
    raise Unavailable(
        what, hint="its last lines stand above" if culprits else error.hint
    ) from error


def down(shell: Shell, compose: Compose, volumes: bool) -> None:
    """Stop and remove all containers; with ``volumes`` the data too."""
    shell.run(compose.down(volumes), 300)
