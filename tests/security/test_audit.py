"""The audit of what is locked finds what it is there to find, shown with a planted old package."""

import subprocess
import sys

import pytest

pytest.importorskip("pip_audit", reason="not among the lowest versions")
pytestmark = pytest.mark.e2e
NOBODY = "http://127.0.0.1:9/v1/query"


def audit(tmp_path, requirement, url, *hashes):
    """Audit a lock file of one package, as the session does."""
    file = tmp_path / "lock.txt"
    file.write_text(" ".join([requirement, *(hashes or ["--hash=sha256:" + "0" * 64])]) + "\n")
    words = ["--strict", "--require-hashes", "--disable-pip", "-s", "osv", "--osv-url", url]
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
    assert audit(tmp_path, "jinja2==3.1.6", NOBODY).returncode != 0


def test_what_is_not_pinned_by_hash_is_refused(tmp_path, advisories):
    """It could be anything by the time that it is installed."""
    assert "hash" in audit(tmp_path, "jinja2==3.1.6", advisories, "# none").stderr
