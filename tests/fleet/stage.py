"""An environment on a fleet: images of several releases, its file, and `inv` run against it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bikecast.store.schema import SCHEMA
from fleet.client import Load
from fleet.hosts import Fleet, Host
from fleet.images import nginx_image
from fleet.machine import FleetError
from fleet.registry import Registry
from fleet.service import Database

TOP = Path(__file__).parents[2]
IMAGE = "bikecast-stage"
PORT = 8000
# What the registry of every test has: two good releases, and two that are not.
FIRST, NEXT, SICK, SPOILED = "aaaaaaaaaaa1", "bbbbbbbbbbb2", "ccccccccccc3", "ddddddddddd4"
MLFLOW_PASSWORD = "geheim-mlflow-42"  # pragma: allowlist secret: searched for where none may be
RATE = 100  # requests per second and host

# Releases that differ from the real image in what a test needs, and in nothing else.
VARIANT = """
FROM {base}
USER root
{change}
USER 10001:10001
LABEL org.opencontainers.image.revision={revision}
ENV BIKECAST_COMMIT={revision}
"""
NEVER_HEALTHY = 'CMD ["serve", "--workers", "none"]'
# Answers as it should for some requests, then only with 500.
LATER_FAILING = """RUN printf '%s\\n' \\
 'import bikecast.serve.app as app, itertools' \\
 'made, asked = app.create_app, itertools.count()' \\
 'def create(*a, **k):' \\
 '    flask = made(*a, **k)' \\
 '    flask.before_request(lambda: ("no", 500) if next(asked) > 60 else None)' \\
 '    return flask' \\
 'app.create_app = create' > /venv/lib/python3.11/site-packages/spoiled.py \\
 && echo 'import sys; sys.argv[0].endswith("bikecast") and __import__("spoiled")' \\
  > /venv/lib/python3.11/site-packages/spoiled.pth"""
# A release whose schema is one step further; its migration only expands, or fails half way.
PACKAGE = "/venv/lib/python3.11/site-packages/bikecast"
LATER = SCHEMA + 1
NEXT_SCHEMA = f"""RUN sed -i 's/^SCHEMA = {SCHEMA}$/SCHEMA = {LATER}/' {PACKAGE}/store/schema.py \\
 && printf '%s\\n' 'from alembic import op' 'revision, down_revision = "9999", "{SCHEMA:04}"' \\
 'def upgrade():' '    op.execute("CREATE TABLE later (x int); STATEMENT")' \\
  > {PACKAGE}/_migrations/versions/9999_later.py"""
MIGRATES = NEXT_SCHEMA.replace("STATEMENT", f"UPDATE schema_info SET schema = {LATER}")
MIGRATES_BADLY = NEXT_SCHEMA.replace("STATEMENT", "SELECT no_such_column FROM station")
REFRESHER = (
    """RUN printf '#!/bin/sh\\ntrap exit TERM; sleep 86400 & wait\\n' > /venv/bin/bikecast"""
)

ENVIRONMENT = """
protected = false

[registry]
image    = "{registry}/bikecast"
username = "{username}"
password = {{env = "REGISTRY_PASSWORD"}}

[hosts]
addresses   = [{addresses}]
key         = {{file = "{key}"}}
known_hosts = {{file = "{known_hosts}"}}
connect_timeout = 5
command_timeout = 60

[proxy]
port  = {port}
image = "{nginx}"

[release]
bake = 3
previous = "warm"
health_timeout = 40

[service]
system       = "{system}"
workers      = 1
database_url = {{env = "BIKECAST_DATABASE_URL"}}
mlflow_tracking_uri = "http://robot:{mlflow_password}@mlflow.invalid"
"""


@dataclass
class Done:
    """A task that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def last(self) -> str:
        """The line that says how it ended."""
        return (self.err.strip().splitlines() or [""])[-1]


class Stage:
    """The environment `staging` for the time of a ``with`` block inside a fleet's.

    :param folder: where the environment's file is written.
    """

    def __init__(
        self, folder: Path, fleet: Fleet, hosts: list[Host], registry: Registry, database: Database
    ) -> None:
        self.folder = folder
        self.fleet = fleet
        self.hosts = hosts
        self.registry = registry
        self.database = database
        self.nginx = nginx_image(registry)
        self.write()

    def write(self, changes: dict[str, str] | None = None) -> None:
        """Write the environment's file, with other values of some keys, as in ``proxy.port``."""
        environments = self.folder / "deploy" / "environments"
        environments.mkdir(parents=True, exist_ok=True)
        for name, text in (("key", self.fleet.key), ("known_hosts", self.fleet.known_hosts)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)
        text = ENVIRONMENT.format(
            registry=self.registry.address,
            username=self.registry.username,
            addresses=", ".join(f'"{h.address}"' for h in self.hosts),
            key=self.folder / "key",
            known_hosts=self.folder / "known_hosts",
            port=PORT,
            nginx=self.nginx,
            system=self.database.system,
            mlflow_password=MLFLOW_PASSWORD,
        )
        lines, section, left = [], "", dict(changes or {})
        for line in text.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            name = line.partition("=")[0].strip()
            value = left.pop(f"{section}.{name}", "")
            lines.append(f"{name} = {value}" if value else line)
        assert not left, f"no such keys: {left}"
        (environments / "staging.toml").write_text("\n".join(lines) + "\n")

    @property
    def environ(self) -> dict[str, str]:
        """What `inv` sees: secrets by the environment, and whom to trust."""
        own = {k: v for k, v in os.environ.items() if not k.startswith("BIKECAST_")}
        return own | {
            "REGISTRY_PASSWORD": self.registry.password,
            "BIKECAST_DATABASE_URL": self.database.url,
            "SSL_CERT_FILE": str(self.registry.ca_file),
        }

    def start(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start `inv`, by default in a folder that has nothing but the environment."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "--search-root", str(TOP), *words],
            cwd=cwd or self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def inv(self, *words: str, timeout: float = 240, cwd: Path | None = None) -> Done:
        """Run `inv` to its end."""
        began = time.monotonic()
        process = self.start(*words, cwd=cwd)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"inv {words} did not end: {out}\n{err}") from None
        return Done(process.returncode, out, err, time.monotonic() - began)

    def interrupted(self, after: str, number: int, *words: str) -> Done:
        """Run `inv` until it says something, then send it a signal."""
        began = time.monotonic()
        with self.start(*words) as process:
            seen = said_until(process, after)
            os.kill(process.pid, number)
            out, rest = process.communicate(timeout=120)
        return Done(process.returncode, out, seen + rest, time.monotonic() - began)

    def deploy(self, release: str, *words: str) -> Done:
        """`inv deploy` a release."""
        return self.inv("deploy", "--release", release, *words)

    def status(self) -> dict:
        """`inv status` as a document."""
        done = self.inv("status", "--json")
        assert done.out, done.err
        return json.loads(done.out)

    def live(self) -> dict[str, str]:
        """The live release of every host that answers."""
        return {h["host"]: h["release"] for h in self.status()["hosts"] if not h["error"]}

    def urls(self) -> list[str]:
        """Where riders ask."""
        return [f"http://{h.ip}:{PORT}" for h in self.hosts]

    def release(self, tag: str, change: str = "") -> str:
        """Put a release into the registry: both images, under a tag that is its commit."""
        assert len(tag) == 12, tag
        base = base_image()
        self._variant(base, tag, change)
        self._variant(base, tag, REFRESHER, "-training")
        return tag

    def complete_release(self, tag: str) -> str:
        """Put a release into the registry whose refresher is the real one."""
        self._variant(base_image(), tag)
        self._variant(base_image("training"), tag, suffix="-training")
        return tag

    def _variant(self, base: str, tag: str, change: str = "", suffix: str = "") -> None:
        local = f"{IMAGE}{suffix}:{tag}"
        build(local, "-", stdin=VARIANT.format(base=base, change=change, revision=f"{tag:0<40}"))
        self.registry.push(local, f"bikecast{suffix}:{tag}")

    def reset(self) -> None:
        """Hosts as they were before the first release, images kept."""
        for host in self.hosts:
            host.wipe()


def unharmed(load: Load) -> Counter:
    """Every request was answered well; how many came from which colour."""
    time.sleep(0.5)
    assert [str(f) for f in load.failures[:5]] == []
    return load.releases()


def agree(stage: Stage, release: str) -> None:
    """All hosts have this release, nobody holds a lock, nothing is left to mend."""
    found = stage.status()
    assert {h["host"]: h["release"] for h in found["hosts"]} == {
        h.ip: release for h in stage.hosts
    }, found
    assert not [h["lock"] for h in found["hosts"] if h["lock"]] and found["warnings"] == [], found


def said_until(process: subprocess.Popen[str], after: str) -> str:
    """Read what a task says on stderr until it says ``after``."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if after in line:
            return "".join(seen)
    raise AssertionError(f"it never said {after!r}: {''.join(seen)}")


def base_image(target: str = "api") -> str:
    """An image of this checkout, built once a session."""
    local = f"{IMAGE}:{target}"
    build(local, str(TOP), "--file", str(TOP / "deploy/Dockerfile"), "--target", target)
    return local


def build(tag: str, context: str, *words: str, stdin: str = "") -> None:
    """Build an image on this machine's engine; its cache makes a second time quick."""
    done = subprocess.run(
        ["docker", "build", "-q", "--tag", tag, *words, context],
        input=stdin or None,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode:
        raise FleetError(f"docker build {tag}: {done.stderr[-2000:]}")
