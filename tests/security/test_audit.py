"""The audit of what is locked finds what it is there to find, shown with a planted old package."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pip_audit", reason="not among the lowest versions")
pytestmark = pytest.mark.e2e
TOP = Path(__file__).parents[2]
HASH = "--hash=sha256:" + "0" * 64
NOBODY = "http://127.0.0.1:9/v1/query"


def audit(tmp_path, url, *lines):
    """Audit a lock file of these lines, as the session does."""
    file = tmp_path / "lock.txt"
    file.write_text("# made up\n" + "".join(f"{line}\n" for line in lines))
    return subprocess.run(
        [sys.executable, ".github/audit.py", str(file), "--osv-url", url],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_planted_old_package_is_found(tmp_path, advisories):
    """jinja2 2.10 is caught by name and advisory, and the audit fails."""
    found = audit(tmp_path, advisories, f"jinja2==2.10 {HASH}")
    assert found.returncode == 1, found.stderr
    assert "jinja2 2.10: GHSA-462w-v97r-4m45, mended in 2.10.1" in found.stdout


@pytest.mark.parametrize(
    ("here", "elsewhere"),
    [
        ("sys_platform != 'win32'", "sys_platform == 'win32'"),
        ("python_full_version >= '3.9'", "python_full_version < '3.9'"),
    ],
)
def test_what_is_installed_elsewhere_is_audited_too(tmp_path, advisories, here, elsewhere):
    """Here its marker does not hold; the version that is installed here is another."""
    lines = (
        f"jinja2==3.1.6 ; {here} \\\n    {HASH} \\\n    {HASH}",
        f"jinja2==2.10 ; {elsewhere} \\\n    {HASH}",
        f"markupsafe==3.0.3 {HASH}",
    )
    found = audit(tmp_path, advisories, *lines)
    assert found.returncode == 1 and "GHSA-462w-v97r-4m45" in found.stdout, found.stderr
    assert "lock.txt: 3 of 3 pins audited, 1 advisories" in found.stdout


def test_a_mended_package_passes(tmp_path, advisories):
    """The version that mended it is not reported."""
    found = audit(tmp_path, advisories, f"jinja2==3.1.6 {HASH}")
    assert found.returncode == 0 and "1 of 1 pins audited, 0 advisories" in found.stdout


def test_an_audit_of_nothing_fails(tmp_path, advisories):
    """No pins, or nobody there whom advisories can be asked of."""
    assert audit(tmp_path, advisories).returncode == 1
    found = audit(tmp_path, NOBODY, f"jinja2==3.1.6 {HASH}")
    assert found.returncode == 1 and "0 of 1 pins audited" in found.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("jinja2==3.1.6", "does not contain a hash"),
        (f"jinja2>=3 {HASH}", "pinned"),
        (f"jinja2 {HASH}", "pinned"),
    ],
)
def test_what_is_not_pinned_by_hash_is_refused(tmp_path, advisories, line, says):
    """It could be anything by the time that it is installed."""
    found = audit(tmp_path, advisories, line)
    assert found.returncode == 1 and says in found.stderr
