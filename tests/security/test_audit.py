"""The audit finds what it is there to find, shown with a planted vulnerable package."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("pip_audit", reason="only in the session that audits")

RECORD = {
    "id": "GHSA-462w-v97r-4m45",
    "modified": "2024-01-01T00:00:00Z",
    "summary": "sandbox escape",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.10.1"}]}],
            "versions": ["2.10"],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """Speaks as much of OSV's query interface as an audit asks."""

    def do_POST(self):
        """Answer with the record for the one package that it is about."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hit = asked["package"]["name"].lower() == "jinja2" and asked["version"] == "2.10"
        body = json.dumps({"vulns": [RECORD]} if hit else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def advisories():
    """The URL of a server of advisories, for the time of a test."""
    server = HTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def audit(tmp_path, requirement, url):
    """Audit one pinned requirement."""
    file = tmp_path / "requirements.txt"
    file.write_text(requirement + "\n")
    words = ["--strict", "-s", "osv", "--osv-url", url, "--no-deps", "--disable-pip"]
    return subprocess.run(
        [sys.executable, "-m", "pip_audit", *words, "-r", str(file)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_planted_old_package_is_found(tmp_path, advisories):
    """jinja2 2.10 is caught by name and advisory, and the audit fails."""
    found = audit(tmp_path, "jinja2==2.10", advisories)
    assert found.returncode == 1, found.stderr
    assert "GHSA-462w-v97r-4m45" in found.stdout


def test_a_mended_package_passes(tmp_path, advisories):
    """The version that mended it is not reported."""
    assert audit(tmp_path, "jinja2==3.1.6", advisories).returncode == 0


def test_an_audit_that_reaches_nobody_fails(tmp_path):
    """Where no advisory can be asked for, the answer is not green."""
    assert audit(tmp_path, "jinja2==3.1.6", "http://127.0.0.1:9/v1/query").returncode != 0
