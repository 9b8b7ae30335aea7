"""A dependency whose licence is not allowed is refused, shown with planted ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("piplicenses", reason="not among the lowest versions")
pytestmark = pytest.mark.e2e
TOP = Path(__file__).parents[2]


def check(folder, licence=None):
    """Look at what is installed, as the session does, and at a package in a folder."""
    if licence:
        info = folder / "planted-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: planted\nVersion: 1.0\n{licence}\n"
        )
    return subprocess.run(
        [Path(sys.executable).with_name("pip-licenses")],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "licence",
    [
        "License-Expression: GPL-3.0-only",
        "License-Expression: MIT AND AGPL-3.0-or-later",
        "Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)",
        "License: Proprietary",
        "Summary: it does not say",
    ],
)
def test_a_denied_or_unknown_licence_is_refused_by_name(tmp_path, licence):
    """Also as a part of an expression."""
    found = check(tmp_path, licence)
    assert found.returncode == 1 and "planted" in found.stderr, found.stdout


def test_what_is_locked_is_listed_and_allowed(tmp_path):
    """With a version and a licence each."""
    found = check(tmp_path, "License-Expression: MIT")
    assert found.returncode == 0, found.stderr
    assert "planted" in found.stdout and "Apache" in found.stdout
