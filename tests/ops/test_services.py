"""The services of one machine: commands to the letter, and backups that are whole."""

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bikecast.errors import InputError, Unavailable
from bikecast.ops import backups, services
from bikecast.ops.services import Compose, Container, Shell

TOP = Path(__file__).parents[2]
COMPOSE = Compose("compose.yaml")
START = "docker compose --file compose.yaml"
ROWS = {"bikecast": {"public.trip": 3}, "mlflow": {"public.runs": 1}}
MADE = datetime(2026, 11, 25, 12, tzinfo=UTC)

# Answers as Docker does in a machine where all is well.
DOCKER = """#!/bin/sh
echo "$*" >> calls
case "$*" in
  *"config --format json") echo '{"secrets": {"postgres_password": {"file": "secrets/p"}}}';;
  *pg_dump*) [ -e no-room ] && { echo 'pg_dump: error: no room' >&2; exit 1; }; echo a dump;;
  *tar*) echo a tar;;
  *psql*) while read -r line; do case "$line" in
      *pg_export_snapshot*) echo 00000003-1;;
      *count*) echo '{"public.t": 2}';;
      *alembic*) echo 0001;;
    esac; done;;
esac
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A stand-in for the docker command, in a folder of its own; the folder."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Recorder(Shell):
    """Takes down what would run; the first command with ``breaks`` in it fails, once."""

    breaks: str = ""
    counts: dict = field(default_factory=lambda: dict(ROWS))
    ran: list = field(default_factory=list)

    def run(self, argv, timeout, *, source=None, target=None):
        """Take down, or fail."""
        text = " ".join(argv)
        first = not any(self.breaks in done for done in self.ran)
        self.ran.append(text)
        if self.breaks and self.breaks in text and first:
            raise Unavailable("it broke")

    def ask(self, argv, pretend="", timeout=0):
        """Take down, or fail; rows as the manifest has them, and all services well."""
        self.run(argv, timeout)
        if "ps" in argv:
            return json.dumps([{"Service": s, "State": state(s)} for s in ALL])
        if argv[-1] == services.COUNT_SYSTEMS:
            return "1"
        return pretend if "query_to_xml" in argv[-1] else ""


def state(service):
    """Of a service that is well."""
    return "exited" if service in services.ONCE else "running"


ALL = ("postgres", "mlflow", "nginx", "api", "refresher", "migrate")


@pytest.fixture
def made(tmp_path):
    """A whole backup."""
    folder = tmp_path / "whole"
    folder.mkdir()
    for name in ("bikecast.dump", "mlflow.dump", "artifacts.tar"):
        (folder / name).write_text(f"what {name} holds")
    files = {p.name: backups._written(p) for p in folder.iterdir()}
    manifest = backups.Manifest(1, MADE, MADE, "0.1.0", "0001", files, ROWS)
    (folder / "manifest.json").write_text(json.dumps(manifest.document()))
    return folder


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (COMPOSE.config(), f"{START} config --format json"),
        (COMPOSE.up("api"), f"{START} up --detach --no-build api"),
        (COMPOSE.stop("api", "mlflow"), f"{START} stop api mlflow"),
        (COMPOSE.down(False), f"{START} --profile airflow down --remove-orphans"),
        (COMPOSE.down(True), f"{START} --profile airflow down --remove-orphans --volumes"),
        (COMPOSE.ps(), f"{START} ps --all --format json"),
        (COMPOSE.logs("api"), f"{START} logs --no-color --no-log-prefix --tail 20 api"),
        (COMPOSE.port(), f"{START} port nginx 8000"),
        (
            COMPOSE.psql("mlflow", "SELECT 1"),
            f"{START} exec -T postgres psql --no-psqlrc --quiet --tuples-only --no-align --set "
            "ON_ERROR_STOP=1 --username postgres --dbname mlflow --command SELECT 1",
        ),
        (
            backups.dump(COMPOSE, "mlflow", "0-1"),
            f"{START} exec -T postgres pg_dump --username postgres --format custom "
            "--snapshot 0-1 --dbname mlflow",
        ),
        (
            backups.load(COMPOSE, "mlflow"),
            f"{START} exec -T postgres pg_restore --username postgres --exit-on-error "
            "--no-owner --role mlflow --dbname mlflow_restoring",
        ),
        (
            backups.unpack(COMPOSE),
            f"{START} exec -T mlflow sh -c rm -rf /var/lib/mlflow/restoring && mkdir "
            "/var/lib/mlflow/restoring && exec tar --extract --file - --directory "
            "/var/lib/mlflow/restoring",
        ),
    ],
)
def test_commands_to_the_letter(argv, text):
    """Each is built, not run."""
    assert " ".join(argv) == text


def test_settings_are_named_where_there_are_some():
    """The file of variables goes before the verb."""
    assert Compose("a.yaml", "a.env").ps()[2:7] == ("--file", "a.yaml", "--env-file", "a.env", "ps")


def test_databases_change_places_in_one_statement_list():
    """One --command of several statements is one transaction to psql."""
    assert backups.swap("replaced", "restoring").endswith(
        "; ALTER DATABASE bikecast RENAME TO bikecast_replaced"
        "; ALTER DATABASE bikecast_restoring RENAME TO bikecast"
        "; ALTER DATABASE mlflow RENAME TO mlflow_replaced"
        "; ALTER DATABASE mlflow_restoring RENAME TO mlflow"
    )


def test_both_forms_of_ps_are_read():
    """One list from an older compose, a document a line from a newer one."""
    api = {"Service": "api", "State": "running", "Health": "starting", "ExitCode": 0}
    done = {"Service": "migrate", "State": "exited", "Health": "", "ExitCode": 0}
    lines = "\n".join(json.dumps(row) for row in (api, done))
    expected = [Container("api", "running", "starting", 0), Container("migrate", "exited", "", 0)]
    assert services.parse_ps(lines) == services.parse_ps(json.dumps([api, done])) == expected
    assert services.parse_ps("") == []


@pytest.mark.parametrize(
    ("container", "well", "failed"),
    [
        (Container("api", "running", "healthy", 0), True, False),
        (Container("refresher", "running", "", 0), True, False),
        (Container("migrate", "running", "", 0), False, False),
        (Container("migrate", "exited", "", 0), True, False),
        (Container("nginx", "exited", "", 0), False, True),
        (Container("api", "running", "starting", 0), False, False),
        (Container("api", "created", "", 0), False, False),
        (Container("api", "running", "unhealthy", 0), False, True),
        (Container("api", "restarting", "", 2), False, True),
        (Container("migrate", "exited", "", 3), False, True),
    ],
)
def test_who_is_well_and_who_never_will_be(container, well, failed):
    """One that is starting is neither."""
    assert (container.well, container.failed) == (well, failed)


def test_airflow_is_started_last_and_only_where_it_is_chosen():
    """It takes the longest, and riders do without it."""
    without, chosen = Recorder(), Recorder()
    services.start(without, COMPOSE, 10)
    services.start(chosen, COMPOSE, 10, services.AIRFLOW)
    ups = [line for line in chosen.ran if " up " in line]
    assert ups[-1] == f"{START} up --detach --no-build {' '.join(services.AIRFLOW)}"
    assert ups[:-1] == [line for line in without.ran if " up " in line]


def test_no_new_secrets_for_an_old_database(docker):
    """The volume is there (the stand-in says so) and its passwords are not: refused."""
    config = {
        "secrets": {"postgres_password": {"file": "secrets/postgres_password"}},
        "volumes": {"database": {"name": "bikecast_database"}},
    }
    with pytest.raises(InputError, match="bikecast_database is there, but not its secrets"):
        services.ensure_secrets(Shell(), config)
    assert not Path("secrets").exists()


def test_what_docker_says_is_one_line_with_a_next_step(docker):
    """A command that fails, one that hangs, no compose plugin, no Docker."""
    shell = Shell()
    for script, match in (
        ("echo first >&2; echo 'no such thing' >&2; exit 1", "`docker ps` failed: no such thing"),
        ("exec sleep 5", "did not end within 0 s"),
        ("echo \"docker: 'compose' is not a docker command.\" >&2; exit 1", "plugin, v2"),
    ):
        (docker / "bin" / "docker").write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(Unavailable, match=match):
            shell.read(("docker", "ps"), timeout=0.3)
    with pytest.raises(Unavailable, match="there is no dockre here"):
        shell.read(("dockre", "ps"))


def test_a_container_that_fails_shows_its_last_lines(capsys):
    """The one at fault is named with its exit code, not the one that waits for it."""

    class Failing(Recorder):
        def ask(self, argv, pretend="", timeout=0):
            if "logs" in argv:
                return "error: it does not start"
            rows = [("migrate", "exited", 3), ("api", "created", 0)]
            return json.dumps([{"Service": s, "State": t, "ExitCode": c} for s, t, c in rows])

    with pytest.raises(Unavailable, match=r"migrate is exited \(exit code 3\)"):
        services.start(Failing(breaks="up --detach"), COMPOSE, 5)
    assert "error: it does not start" in capsys.readouterr().err


def test_an_image_that_cannot_be_had_names_the_next_step():
    """Neither here nor in a registry."""

    class Bare(Recorder):
        def succeeds(self, argv):
            return False

    with pytest.raises(InputError, match="no image bikecast:latest here.*`inv build`"):
        services.ensure_images(Bare(breaks="pull"), ["bikecast:latest"])


# -- backups ---------------------------------------------------------------------------------------


def test_a_backup_is_whole_and_says_what_it_holds(docker):
    """Dumps, artifacts, and a manifest with sums, rows and the schema; nothing else is left."""
    to = docker / "backups" / "today"
    manifest = backups.backup(Shell(), COMPOSE, to, "0.1.0", MADE)
    names = {"artifacts.tar", "bikecast.dump", "manifest.json", "mlflow.dump"}
    assert {p.name for p in to.iterdir()} == names and manifest.schema == "0001"
    assert [p.name for p in to.parent.iterdir()] == ["today"]
    assert backups.read_backup(to) == manifest
    assert manifest.rows == {"bikecast": {"public.t": 2}, "mlflow": {"public.t": 2}}
    assert "--snapshot 00000003-1" in (docker / "calls").read_text()
    assert stat.S_IMODE(to.stat().st_mode) == 0o700
    with pytest.raises(InputError, match="exists already"):
        backups.backup(Shell(), COMPOSE, to, "0.1.0", MADE)


def test_a_backup_that_fails_leaves_nothing(docker):
    """Neither under its name nor under another."""
    (docker / "no-room").touch()
    with pytest.raises(Unavailable, match="pg_dump: error: no room"):
        backups.backup(Shell(), COMPOSE, docker / "backups" / "today", "0.1.0", MADE)
    assert list((docker / "backups").iterdir()) == []


def test_a_database_that_says_nothing_is_not_waited_for_without_end(docker):
    """Also where a child of docker's holds the pipe, as its plugins do."""
    (docker / "bin" / "docker").write_text("#!/bin/sh\nsleep 60 & sleep 60\n")
    began = time.monotonic()
    says = "docker psql` did not answer within 0 s; see that `inv up`"
    with pytest.raises(Unavailable, match=says), backups._Session(("docker", "psql")) as session:
        session.answer("SELECT 1;\n", 0.2)
    assert time.monotonic() - began < 10


def test_a_backup_without_a_database_says_what_to_do(docker):
    """psql ends at once where PostgreSQL is down."""
    (docker / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Unavailable, match="psql` ended early; see that `inv up`"):
        backups.backup(Shell(), COMPOSE, docker / "today", "0.1.0", MADE)


def test_an_altered_or_half_backup_is_refused(made):
    """A changed byte, a missing file, another format, no manifest."""
    assert backups.read_backup(made).made == MADE
    (made / "mlflow.dump").write_text("what mlflow.dumb holds")
    (made / "artifacts.tar").unlink()
    with pytest.raises(InputError, match="not as it was made: artifacts.tar, mlflow.dump"):
        backups.read_backup(made)
    text = (made / "manifest.json").read_text()
    (made / "manifest.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="has format 2"):
        backups.read_backup(made)
    (made / "manifest.json").write_text(text[:-20])
    with pytest.raises(InputError, match="no whole backup"):
        backups.read_backup(made)
    with pytest.raises(InputError, match="no whole backup"):
        backups.read_backup(made / "absent")


def steps(shell):
    """The commands that matter, shortened."""
    words = {
        f"{START} stop refresher mlflow": "stop others",
        f"{START} stop api": "stop api",
        f"{START} up --detach --no-build mlflow api refresher": "start",
        "bikecast RENAME TO bikecast_replaced": "swap",
        "bikecast RENAME TO bikecast_restoring": "swap back",
        "EXISTS mlflow_replaced": "drop replaced",
        "pg_restore": "load",
        "cp --archive": "place",
    }
    return [w for text in shell.ran for key, w in words.items() if key in text]


def test_a_restore_stops_the_service_only_to_change_places(made):
    """Everything that takes long is done before."""
    shell = Recorder()
    backups.restore(shell, COMPOSE, made, backups.read_backup(made), 5)
    assert steps(shell) == [
        *("drop replaced", "load", "load", "place"),
        *("stop others", "stop api", "swap", "start", "drop replaced"),
    ]


def test_a_restore_with_other_numbers_of_rows_replaces_nothing(made):
    """The table is named; the service was never stopped."""
    manifest = backups.read_backup(made)

    class Lossy(Recorder):
        def ask(self, argv, pretend="", timeout=0):
            found = super().ask(argv, pretend, timeout)
            return found.replace('"public.trip": 3', '"public.trip": 2')

    shell = Lossy()
    with pytest.raises(Unavailable, match="other numbers of rows in public.trip"):
        backups.restore(shell, COMPOSE, made, manifest, 5)
    assert not {"swap", "stop api"} & set(steps(shell))
    assert "EXISTS mlflow_restoring" in shell.ran[-1]


def test_a_restore_whose_services_do_not_start_goes_back(made):
    """The old databases get their names again, and the services start on them."""
    shell = Recorder(breaks="up --detach --no-build mlflow")
    with pytest.raises(Unavailable, match="the data from before are back"):
        backups.restore(shell, COMPOSE, made, backups.read_backup(made), 5)
    back = ["swap", "start", "stop others", "stop api", "swap back", "start"]
    assert steps(shell)[-6:] == back


def test_a_restore_that_cannot_swap_starts_what_it_stopped(made):
    """The renames are one transaction: none happened."""
    shell = Recorder(breaks="RENAME")
    with pytest.raises(Unavailable):
        backups.restore(shell, COMPOSE, made, backups.read_backup(made), 5)
    assert steps(shell)[-3:] == ["stop api", "swap", "start"]


def test_a_restore_needs_running_services(made):
    """Nothing was asked of a database."""

    class Stopped(Recorder):
        def ask(self, argv, pretend="", timeout=0):
            return ""

    shell = Stopped()
    with pytest.raises(Unavailable, match="not running; `inv up` starts them"):
        backups.restore(shell, COMPOSE, made, backups.read_backup(made), 5)
    assert shell.ran == []


# -- tasks -----------------------------------------------------------------------------------------


@pytest.fixture
def inv(docker):
    """Run `inv` in a folder with a compose file, on the stand-in for Docker."""
    (docker / "deploy").mkdir()
    (docker / "deploy" / "compose.yaml").touch()

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "invoke", "--search-root", str(TOP), *words],
            cwd=docker,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_dry_run_prints_and_runs_nothing(inv, docker, made):
    """Every verb that changes something; `inv --dry` means the same."""
    for words in (("down", "--volumes"), ("backup", "--to", "x"), ("restore", str(made))):
        shown = inv(*words, "--dry")
        assert shown.returncode == 0 and "docker compose --file" in shown.stdout, shown.stderr
    assert inv("--dry", "down").stdout == (
        "docker compose --file deploy/compose.yaml --profile airflow down --remove-orphans\n"
    )
    assert not (docker / "calls").exists() and not (docker / "x").exists()


def test_deleting_and_replacing_need_a_yes(inv, docker, made):
    """Where nobody can be asked: exit code 2, nothing touched."""
    for words in (("down", "--volumes"), ("restore", str(made))):
        refused = inv(*words)
        assert refused.returncode == 2 and "nobody can be asked; add --yes" in refused.stderr
    assert not (docker / "calls").exists()
    assert inv("down", "--volumes", "--yes").returncode == 0


def test_a_restore_makes_the_admin_token_that_an_older_installation_lacks(inv, docker, made):
    """Before anything stops: the services would not start again without it."""
    (docker / "secrets").mkdir()
    refused = inv("restore", str(made), "--yes")
    assert refused.returncode == 3 and "PostgreSQL and MLflow are not running" in refused.stderr
    assert len((docker / "secrets" / "admin_token").read_text()) >= 16


def test_backup_reports_in_a_line_and_as_json(inv, docker):
    """Progress goes to stderr."""
    assert inv("backup", "--to", "one").stdout.startswith("one: 4 rows and all models in")
    document = json.loads(inv("backup", "--to", "two", "--json").stdout)
    assert document["schema"] == "0001" and set(document["files"]) == {
        *("artifacts.tar", "bikecast.dump", "mlflow.dump")
    }


def test_outside_of_a_checkout_it_says_so(inv, docker):
    """One line, exit code 2."""
    (docker / "deploy" / "compose.yaml").unlink()
    refused = inv("up")
    assert refused.returncode == 2 and "no deploy/compose.yaml here" in refused.stderr
