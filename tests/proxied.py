"""The proxies of hosts and of `inv up` as processes of a test's own, their folders elsewhere."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bikecast.ops.traffic import configuration

DEPLOY = Path(__file__).parents[1] / "deploy"
WITHIN = 60.0  # seconds for what takes milliseconds
FOLDERS = ("log", "traffic/green", "traffic/leaving", "tmp", "sockets/blue", "sockets/green")


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def proxied(folder: Path, port: int, *balancers: str) -> Iterator[None]:
    """nginx with the configuration of hosts; riders get ``sockets/blue/api.sock`` of the folder."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = configuration(port, False, "i1", balancers).replace(f"listen [::]:{port} reuseport;", "")
    # At once: the folder itself may be in /tmp.
    moved = re.sub(r"( |unix:)/(log|traffic|tmp|sockets)/", rf"\1{folder}/\2/", text)
    (folder / "nginx.conf").write_text(moved)
    with running(["nginx", *own(folder), "-g", GLOBALS], port):
        yield


@contextmanager
def composed(folder: Path, port: int, service: int, *balancers: str) -> Iterator[None]:
    """nginx as `inv up` starts it, on a port in front of a service on another one."""
    (folder / "tmp").mkdir()
    changes = {
        "listen 8000": f"listen 127.0.0.1:{port}",
        "listen 5000": f"listen 127.0.0.1:{free_port()}",
        "127.0.0.1:8001": f"127.0.0.1:{free_port()}",
        "api:8000": f"127.0.0.1:{service}",
        "/dev/": f"{folder}/tmp/",
        "/tmp/": f"{folder}/tmp/",
        "exec nginx -g 'daemon off;'": f"exec nginx {' '.join(own(folder))} -g '{GLOBALS}'",
    }

    def moved(text: str) -> str:
        return re.sub("|".join(changes), lambda found: changes[found[0]], text)

    (folder / "nginx.conf").write_text(moved((DEPLOY / "compose/nginx.conf").read_text()))
    nginx = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nginx"]
    words = [moved(word.replace("$$", "$")) for word in nginx["command"]]
    with running(words, port, BIKECAST_BALANCERS=",".join(balancers)):
        yield


# Started by root, its workers would be somebody who cannot look into the folder.
GLOBALS = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")


def own(folder: Path) -> list[str]:
    """The options by which nginx keeps to a folder."""
    return ["-e", str(folder / "nginx.log"), "-c", str(folder / "nginx.conf")]


@contextmanager
def running(words: list[str], port: int, **environ: str) -> Iterator[None]:
    """A server for the time of a block, once it takes connections."""
    process = subprocess.Popen(words, env=os.environ | environ)
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
