"""Dangerous code is found in every folder that holds code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bandit", reason="not among the lowest versions")
pytestmark = pytest.mark.e2e
TOP = Path(__file__).parents[2]
DANGEROUS = 'import subprocess\n\nsubprocess.run("ls", shell=True, check=True)\n'


@pytest.mark.parametrize("folder", ["bikecast", "deploy", "migrations", ".github"])
@pytest.mark.parametrize("worktree", [True, False])
def test_a_planted_line_is_found(tmp_path, folder, worktree):
    """Also in a worktree, whose .git is a file, and with the words that the session uses."""
    words = re.search(r"^BANDIT = (\[[^]]*\])$", (TOP / "noxfile.py").read_text(), re.M)[1]
    (tmp_path / "pyproject.toml").write_text((TOP / "pyproject.toml").read_text())
    (tmp_path / ".git").touch() if worktree else (tmp_path / ".git").mkdir()
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "planted.py").write_text(DANGEROUS)
    done = subprocess.run(
        [sys.executable, "-m", *ast.literal_eval(words), folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "B602" in done.stdout, done.stderr
