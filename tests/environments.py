"""Environments of their own, for programs that tests run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lacking import lacking


def make(folder: Path, *words: str) -> Path:
    """An environment in a folder, and its Python; or say why it cannot be had here.

    :param words: what is installed, in the words of `uv pip install`.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        lacking("no uv here, which makes environments")
    python = folder / "bin" / "python"
    install = ("pip", "install", "--python", python, "--no-build", *words)
    for each in (("venv", "--python", sys.executable, folder), install):
        done = subprocess.run([uv, *each], capture_output=True, text=True, timeout=600)
        if done.returncode:
            lacking(f"an environment cannot be made here: {done.stderr.strip()[-500:]}")
    return python
