"""Real disks: of a few kilobytes, and of what lies on one."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(place: Path) -> Iterator[Path]:
    """A small one at this new folder, full, for the time of a ``with`` block."""
    place.mkdir()
    _mount(place, "size=256k")
    try:
        fill(place)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@contextmanager
def growing_disk(place: Path) -> Iterator[Path]:
    """One at this new folder, for the time of a ``with`` block; large until it is shrunk."""
    place.mkdir()
    _mount(place, "size=1g,mode=755")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def shrink(disk: Path) -> None:
    """To what lies on it: it is full."""
    _mount(disk, f"remount,size={shutil.disk_usage(disk).used}")


def grow(disk: Path) -> None:
    """Make it large again."""
    _mount(disk, "remount,size=1g")


def _mount(place: Path, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
