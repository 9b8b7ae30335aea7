"""Hosts for tests: every command runs for real, by ``/bin/sh`` in a folder that stands for a host.

Only Docker is a fake (``fake_docker.sh``, first on the path), and the proxy is a small HTTP server
that reads the same traffic link as nginx does.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bikecast.errors import HostGone, Refused
from bikecast.ops import commands
from bikecast.ops.commands import NEXT_PROXY, PROXY, PROXY_LABEL, Command
from bikecast.ops.environment import Environment, parse_environment
from bikecast.ops.host import in_time, printed
from bikecast.ops.site import Target
from bikecast.ops.state import HostState, parse_state

DIRECTORY = "/opt/bikecast"
DOCKER = Path(__file__).parent / "fake_docker.sh"
FIELDS = ("status", "restarts", "behaviour", "created", "started", "image", "labels", "argv")
REGISTRY = "registry.test/org/bikecast"
PROXY_IMAGE = "nginx:1.28"
WITHIN = 300  # seconds for a command without a limit of its own, as it is without a setting
SECRETS = {
    # pragma: allowlist nextline secret: made up
    "password": "pass-word-of-the-registry",
    "key": "the-private-key-of-hosts",
    # pragma: allowlist nextline secret: made up
    "database": "postgresql://b:pass-word-of-the-database@db/bikecast",
    # pragma: allowlist nextline secret: made up
    "mlflow": "http://m:pass-word-of-mlflow@mlflow",
    "tls": "the-private-key-of-the-proxy",
}
TEXT = f"""
[registry]
image = "{REGISTRY}"
username = "robot"
password = "{SECRETS['password']}"
[hosts]
addresses = ["deploy@one", "deploy@two"]
key = "{SECRETS['key']}"
known_hosts = ""
concurrency = 1
[release]
bake = 0
health_timeout = 0.5
[service]
system = "made-up"
database_url = "{SECRETS['database']}"
"""


def environment(*changes: tuple[str, str]) -> Environment:
    """The environment of all these tests, some pieces of its text replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_environment(text, "staging.toml", "staging", {})


def target(letter: str) -> Target:
    """A release by one letter: ``a`` is ``aaaaaaaaaaaa``."""
    return Target(letter * 12, f"sha256:{letter * 64}", f"sha256:{letter.upper() * 64}")


class LocalHost:
    """A host in a folder.

    :param folder: made if it is not there; a copy of another host's folder is another host.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.root = folder / "opt"
        self.docker = folder / "docker"
        self.path = folder / "bin"
        self.tools = "/usr/local/bin:/usr/bin:/bin"
        self.before: Callable[[Command], None] = lambda command: None
        self._proxy: ThreadingHTTPServer | None = None
        if not folder.exists():
            for made in (self.root, self.path, folder / "tmp"):
                made.mkdir(parents=True)
            for made in ("containers", "images", "registry", "logs"):
                (self.docker / made).mkdir(parents=True)
            (self.docker / "password").write_text(SECRETS["password"])
            (self.docker / "registry" / PROXY_IMAGE).write_text("running\n")
            (self.path / "docker").symlink_to(DOCKER)
            # Scripts that poll need not be slow here.
            (self.path / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.01\n")
            (self.path / "sleep").chmod(0o755)
        self._folder = folder

    def copy(self, folder: Path) -> "LocalHost":
        """Another host in the same state."""
        subprocess.run(["cp", "-a", self._folder, folder], check=True)
        for file in (folder / "docker" / "containers").iterdir():
            file.write_text(file.read_text().replace(str(self.root), str(folder / "opt")))
        return LocalHost(self.name, folder)

    @property
    def environ(self) -> dict[str, str]:
        """What its shell sees."""
        return {
            "PATH": f"{self.path}:{self.tools}",
            "FAKE_DOCKER": str(self.docker),
            "TMPDIR": str(self._folder / "tmp"),
        }

    def run(self, command: Command) -> str:
        """See :class:`bikecast.ops.host.Host`."""
        self.before(command)
        began = time.monotonic()
        code, out, said = self.shell(command.limited(WITHIN), command.stdin)
        here = str(self.root)
        out, said = out.replace(here, DIRECTORY), said.replace(here, DIRECTORY)
        in_time(self.name, command, WITHIN, code, time.monotonic() - began)
        return printed(self.name, command, code, out, said)

    def shell(self, text: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a line of shell."""
        done = subprocess.run(
            ["/bin/sh", "-c", text.replace(DIRECTORY, str(self.root))],
            input=stdin,
            env=self.environ,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=WITHIN + 10,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """To the proxies that run, where one of them listens on that port."""
        if port not in self.ports():
            raise Refused(f"{self.name}: nothing answers on its port {port}", hint="see there")
        if self._proxy is None:
            self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _answering(self))
            threading.Thread(target=self._proxy.serve_forever, args=(0.01,), daemon=True).start()
        yield self._proxy.server_address[1]

    def ports(self) -> set[int]:
        """Where its proxies listen, by the files that they were started with."""
        found = set()
        for name, container in self.containers().items():
            if name in (PROXY, NEXT_PROXY) and container["status"] == "running":
                instance = json.loads(f"{{{container['labels']}}}")[PROXY_LABEL]
                text = (self.root / "proxy" / instance / "nginx.conf").read_text()
                found |= {int(port) for port in re.findall(r"listen (\d+)", text)}
        return found

    def close(self) -> None:
        """Nothing is kept open that a next command would need."""

    def end(self) -> None:
        """Stop the proxy."""
        if self._proxy is not None:
            self._proxy.shutdown()
            self._proxy.server_close()

    # -- what a test sees and does from outside

    def lose_docker(self) -> None:
        """Let it have every program but Docker's."""
        (self.path / "docker").unlink()
        folder = self._folder / "tools"
        folder.mkdir()
        for tool in (t for place in self.tools.split(":") for t in Path(place).iterdir()):
            if tool.name != "docker" and not (folder / tool.name).is_symlink():
                (folder / tool.name).symlink_to(tool)
        self.tools = str(folder)

    def play_program(self, name: str, text: str) -> None:
        """Let a script stand for a program."""
        (self.path / name).unlink(missing_ok=True)
        (self.path / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.path / name).chmod(0o755)

    def offer(self, of: Target, behaviour: str = "healthy", commit: str = "") -> None:
        """Put a release into the registry, as this host sees it.

        :param behaviour: ``healthy``, ``sick`` (no good health), ``crashing``, ``unmigratable``,
            ``failing`` (answers with 500 as soon as it is asked to predict).
        :param commit: what it says it was built from, where that is another one.
        """
        commit = commit or of.release.removesuffix("-dirty")
        for suffix, digest in (("", of.digest), ("-training", of.training)):
            place = self.docker / "registry" / f"{REGISTRY}{suffix}@{digest}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{behaviour}\n{commit}\n")

    def withdraw(self, of: Target) -> None:
        """Take a release out of the registry again."""
        (self.docker / "registry" / f"{REGISTRY}@{of.digest}").unlink()

    def containers(self) -> dict[str, dict[str, str]]:
        """Every container with all that the engine knows of it."""
        files = sorted((self.docker / "containers").iterdir())
        return {f.name: _fields(f) for f in files}

    def change(self, container: str, **fields: str) -> None:
        """Let something happen to a container."""
        file = self.docker / "containers" / container
        file.write_text("\n".join((_fields(file) | fields).values()) + "\n")

    def running(self) -> dict[str, str]:
        """What runs: container and the first letter of its release."""
        return {
            name: json.loads(f"{{{c['labels']}}}").get("bikecast.release", "-")[:1]
            for name, c in self.containers().items()
            if c["status"] == "running"
        }

    def images(self) -> list[str]:
        """The images that it has."""
        return self.shell("docker images")[1].split()

    def state(self) -> HostState:
        """How it stands, as it tells itself."""
        return parse_state(self.run(commands.look(DIRECTORY)))

    def calls(self) -> list[str]:
        """Every call of Docker's command line."""
        return (self.docker / "calls").read_text().splitlines()

    def everything(self) -> dict[str, str]:
        """All files and links of the host; its memory of calls left out."""
        return {
            str(p.relative_to(self._folder)): (
                os.readlink(p) if p.is_symlink() else p.read_text() if p.is_file() else ""
            )
            for p in sorted(self._folder.rglob("*"))
            if p.name != "calls"
        }

    def say(self, container: str, *lines: str) -> None:
        """Let a container write into its log, now."""
        with self.log_of(container).open("a") as log:
            log.writelines(f"{time.time():.6f} {line}\n" for line in lines)

    def log_of(self, container: str) -> Path:
        """The file of a container's log: the engine's, or the proxy's own."""
        if container != PROXY:
            return self.docker / "logs" / container
        labels = self.containers()[PROXY]["labels"]
        return self.root / "proxy" / json.loads(f"{{{labels}}}")[PROXY_LABEL] / "log/access.log"

    def expire(self) -> None:
        """Let nothing be heard from the lock's owner for an hour."""
        lock = self.root / "lock"
        for path in (lock / "token", lock):
            if path.exists():
                os.utime(path, (time.time() - 3600,) * 2)

    def answers(self, colour: str = "") -> tuple[str, str]:
        """The colour that is asked, and the release that answers; empty where none does.

        As nginx: the colour asked for, else by the bucket, here the first one.
        """
        chosen = colour or ("green" if (self.root / "traffic/green/0").exists() else "blue")
        service = self.containers().get(f"bikecast-{chosen}")
        if service is None or service["status"] != "running":
            return chosen, ""
        return chosen, (self.docker / "images" / service["image"]).read_text().split()[1]

    def failing(self, colour: str) -> bool:
        """Whether a colour answers predictions with 500."""
        return self.containers()[f"bikecast-{colour}"]["behaviour"] == "failing"


class Gone:
    """A host that does not answer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, command: Command) -> str:
        """Fail."""
        raise HostGone(f"{self.name} does not answer: timed out", hint="see that it is up")

    def close(self) -> None:
        """Nothing is open."""


def _fields(file: Path) -> dict[str, str]:
    return dict(zip(FIELDS, file.read_text().split("\n"), strict=False))


def _answering(host: LocalHost) -> type[BaseHTTPRequestHandler]:
    """The service as the proxy of a host passes it on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer()

        def _answer(self) -> None:
            if host.containers().get(PROXY, {}).get("status") != "running":
                self.close_connection = True
                return
            colour, commit = host.answers(self.headers.get("X-Bikecast-Colour", ""))
            status = 200 if commit else 502
            if commit and self.path == "/predict" and host.failing(colour):
                status = 500
            body = json.dumps(_document(self.path, commit)).encode() if status == 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _document(path: str, commit: str) -> dict[str, Any]:
    means = {"pickups": {"mean": 1.5}, "returns": {"mean": 0.0}}
    return {
        "/version": {"commit": commit},
        "/ready": {"status": "ready"},
        "/model": {"name": "bikes", "version": "7"},
        "/stations": {"stations": [{"station_id": "A.10"}]},
        "/predict": {**means, "model": {"version": "7"}, "as_of": "2026-01-02T03:00:00Z"},
    }.get(path, {})
