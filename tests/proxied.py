"""The proxy of hosts as a process of a test's own, its folders elsewhere."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bikecast.ops.traffic import configuration

WITHIN = 60.0  # seconds for what takes milliseconds
FOLDERS = ("log", "traffic/green", "traffic/leaving", "tmp", "sockets/blue", "sockets/green")


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def proxied(folder: Path, port: int) -> Iterator[None]:
    """nginx with the configuration of hosts; riders get ``sockets/blue/api.sock`` of the folder."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = configuration(port, False, "i1").replace(f"listen [::]:{port} reuseport;", "")
    # At once: the folder itself may be in /tmp.
    moved = re.sub(r"( |unix:)/(log|traffic|tmp|sockets)/", rf"\1{folder}/\2/", text)
    (folder / "nginx.conf").write_text(moved)
    # Started by root, its workers would be somebody who cannot look into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    words = ["nginx", "-e", str(folder / "log/error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen([*words, "-g", f"daemon off; {user}"])
    try:
        until_listens(process, port)
        yield
    finally:
        process.terminate()
        process.wait(WITHIN)


def until_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait for a server to take connections."""
    deadline = time.monotonic() + WITHIN
    while True:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < deadline, "nginx does not listen"
        time.sleep(0.05)
