"""A secret in the tree is found, shown with planted ones."""

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("detect_secrets", reason="not among the lowest versions")
pytestmark = pytest.mark.e2e
RANDOM = base64.b64encode(hashlib.sha256(b"made up").digest()).decode()
PLANTED = {
    "AWS Access Key": 'KEY = "AKIA' + 'Z7QWERTYUIOPASDF"',
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "Basic Auth Credentials": "URL = 'postgresql://bikecast:" + "correct-horse@db/bikecast'",
    "Slack Token": 'WEBHOOK = "https://hooks.slack.com/' + 'services/T0AAAAAA1/B0AAAAAA1/x1y2z3a4"',
    "Base64 High Entropy String": f'TOKEN_OF_IT = "{RANDOM}"',
}


def scan(tmp_path, line):
    """Scan a file of one line, as the session does."""
    file = tmp_path / "settings.py"
    file.write_text(line + "\n")
    return subprocess.run(
        [Path(sys.executable).with_name("detect-secrets-hook"), file.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found_by_file_and_line(tmp_path, kind):
    """Without being shown."""
    found = scan(tmp_path, PLANTED[kind])
    assert found.returncode == 1 and "settings.py:1" in found.stdout + found.stderr
    assert kind in found.stdout and PLANTED[kind] not in found.stdout


def test_a_reference_to_a_secret_is_none(tmp_path):
    """The name of a variable is no password."""
    assert scan(tmp_path, 'password = os.environ["BIKECAST_PASSWORD"]').returncode == 0
