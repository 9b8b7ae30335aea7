"""The health check of the images: one line, and an exit code."""

import socket
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from http_server import Handler, serving

TOP = Path(__file__).parents[2]


def healthcheck(bind):
    """Run it as the image does."""
    return subprocess.run(
        [sys.executable, "-I", "-S", TOP / "deploy" / "healthcheck.py"],
        env={"BIKECAST_BIND": bind},
        capture_output=True,
        text=True,
        timeout=30,
    )


class Health(Handler):
    """GET /health, and nothing else."""

    status = 200

    def do_GET(self):  # noqa: N802
        """Answer for the service."""
        self.answer(self.status if self.path == "/health" else 404, b"{}")

    def address_string(self):
        """A unix socket's client has none."""
        return "client"


class UnixServer(ThreadingHTTPServer):
    """HTTP on a unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self):
        """Without the look-up of a host name."""
        self.socket.bind(self.server_address)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_health_over_a_unix_socket(tmp_path, status, code):
    """Only 200 is well, and a line says what came."""
    path = str(tmp_path / "api.sock")
    with serving(UnixServer(path, type("Told", (Health,), {"status": status}))):
        done = healthcheck(f"unix:{path}")
    assert done.returncode == code and done.stderr == ""
    assert done.stdout.startswith(f"GET /health on unix:{path}: HTTP/1.1 {status}")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_health_over_tcp(host):
    """A service on all addresses is asked on the loopback one."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Health)) as server:
        assert healthcheck(f"{host}:{server.server_port}").returncode == 0


@pytest.mark.parametrize("bind", ["127.0.0.1:9", "unix:/no/such.sock", "nonsense", "[::1]:9"])
def test_nobody_there_is_one_line(bind):
    """With exit code 1."""
    done = healthcheck(bind)
    assert done.returncode == 1 and done.stderr == "" and done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"GET /health on {bind}: ")
