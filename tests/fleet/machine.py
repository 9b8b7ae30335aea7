"""What the fleet needs of this machine: root's commands, one fleet at a time, the bridge."""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NETWORK = "10.199.7"
GATEWAY = f"{NETWORK}.1"
BRIDGE = "bikecast0"
PREFIX = "bikecast-"  # of network namespaces
LINK = "bc"  # of the hosts' ends on the bridge, followed by the address
CGROUP = "bikecast-fleet"
CONTAINER = "bikecast-fleet-registry"
TRUST = Path(f"/etc/docker/certs.d/{GATEWAY}:5000")  # hosts share /etc
# Not below a pytest folder: engines need a real file system, and sockets short paths.
WORKSPACE = Path("/var/tmp/bikecast-fleet")
NEEDED = {
    "docker": "Docker",
    "dockerd": "the Docker engine",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


class FleetError(Exception):
    """The fleet cannot be made here, or does not do what it was told."""


def program(name: str) -> str:
    """The path of a program, also where root alone has its folder on the path."""
    return shutil.which(name, path=PATH) or name


def sudo(*argv: object) -> list[str]:
    """The same command, run by root."""
    words = ["env", f"PATH={PATH}", *(str(a) for a in argv)]
    return words if os.geteuid() == 0 else ["sudo", "-n", *words]


def root(*argv: object, check: bool = True, timeout: float = 60, shown: str = "") -> str:
    """What a command that needs root prints.

    :param shown: what an error message calls it; the command itself where empty.
    :raises FleetError: where it fails, with what it said.
    """
    # Not subprocess's timeout: who is not root may not kill what sudo runs.
    done = subprocess.run(
        sudo("timeout", "-s", "KILL", timeout, *argv),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"ended with {done.returncode}"
        raise FleetError(f"{shown or ' '.join(map(str, argv))}: {said}")
    return done.stdout


def missing() -> str:
    """Why no fleet can be made on this machine, or nothing."""
    absent = [f"{what} ({name})" for name, what in NEEDED.items() if program(name) == name]
    if absent:
        return "not installed: " + ", ".join(absent)
    if os.geteuid() and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
        return "neither root, nor allowed to use sudo without a password"
    if subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode:
        return "no Docker engine answers (docker info)"
    return ""


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait for something that must come.

    :raises FleetError: where it does not come in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise FleetError(f"after {seconds:g} s: {what}")
        time.sleep(0.05)


def dies_with_us() -> None:
    """Have the kernel end the calling child when its parent is gone (for ``preexec_fn``)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class OneAtATime:
    """A claim on the fleet's addresses, which the kernel ends with this process."""

    _name = "\0bikecast-fleet"

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(self._name)
            self._socket.listen(8)
        except OSError:
            self._socket.close()
            raise FleetError(
                f"another test run{self._holder()} uses {NETWORK}.0/24; wait for it, or stop it"
            ) from None

    def release(self) -> None:
        """Let the next one have them."""
        self._socket.close()

    def _holder(self) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(self._name)
                told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return ""
        return f" (process {struct.unpack('3i', told)[0]})"


def remember(name: str, pid: int) -> None:
    """Note a process, so that a later run can end it where this one is killed."""
    (WORKSPACE / f"{name}.pid").write_text(str(pid))


def prepare() -> None:
    """Clear what a killed run left, then make the folder and the bridge.

    :raises FleetError: where the addresses are taken by something else.
    """
    clear()
    for link in json.loads(root("ip", "-json", "-4", "addr", "show")):
        for address in link["addr_info"]:
            if address["local"].startswith(f"{NETWORK}."):
                raise FleetError(f"{NETWORK}.0/24 is taken by {link['ifname']}; free it first")
    WORKSPACE.mkdir(mode=0o755)
    WORKSPACE.chmod(0o755)
    root("ip", "link", "add", BRIDGE, "type", "bridge")
    root("ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    root("ip", "link", "set", BRIDGE, "up")
    for rule in _RULES:
        root("iptables", "-w", "-I", *rule)


# Docker drops what is forwarded and lets bridges pass through iptables; some firewalls drop
# what comes in.
_RULES = (
    ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"),
    ("INPUT", "-i", BRIDGE, "-j", "ACCEPT"),
)


def clear() -> None:
    """Take away everything that a fleet puts on this machine; harmless where there is nothing."""
    for note in WORKSPACE.glob("*.pid"):
        _end(int(note.read_text() or 0))
    subprocess.run(["docker", "rm", "-f", CONTAINER], capture_output=True, timeout=60)
    for name in namespaces():
        root("ip", "netns", "del", name)
    if root("ip", "link", "show", BRIDGE, check=False):
        root("ip", "link", "del", BRIDGE)
    for rule in _RULES:
        while iptables_has(rule):
            root("iptables", "-w", "-D", *rule)
    root("rm", "-rf", TRUST)
    for disk in reversed(mounts()):
        root("umount", "--lazy", disk)
    _remove_cgroups()
    if WORKSPACE.exists():
        root("rm", "-rf", "--one-file-system", WORKSPACE)


def leftovers() -> list[str]:
    """What of a fleet is on this machine: processes, namespaces, links, mounts, rules, files."""
    found = [f"process {pid}" for pid in _ours()]
    found += [f"namespace {name}" for name in namespaces()]
    links = json.loads(root("ip", "-json", "link", "show"))
    found += [
        f"link {one['ifname']}"
        for one in links
        if one["ifname"] == BRIDGE or one["ifname"].removeprefix(LINK).isdigit()
    ]
    found += [f"mount {where}" for where in mounts()]
    found += [f"rule {' '.join(rule)}" for rule in _RULES if iptables_has(rule)]
    found += [f"cgroup {where}" for where in _cgroups()]
    return found + [str(path) for path in (TRUST, WORKSPACE) if path.exists()]


def namespaces() -> list[str]:
    """The fleet's network namespaces."""
    found = [line.split()[0] for line in root("ip", "netns", "list").splitlines() if line.strip()]
    return [name for name in found if name.startswith(PREFIX)]


def mounts() -> list[str]:
    """Where file systems of the fleet are mounted, as everybody sees them."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [where for line in lines if (where := line.split()[1]).startswith(f"{WORKSPACE}/")]


def iptables_has(rule: tuple[str, ...]) -> bool:
    """Whether a rule is there."""
    return subprocess.run(sudo("iptables", "-w", "-C", *rule), capture_output=True).returncode == 0


def _ours() -> list[int]:
    """Processes whose command names our folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{WORKSPACE}/".encode() in words:
            found.append(int(folder.name))
    return found


def _end(pid: int) -> None:
    """Kill a noted process, if it is still the one that was noted."""
    if pid in _ours():
        root("kill", "-KILL", pid, check=False)
        until(lambda: pid not in _ours(), f"process {pid} does not end")


def _cgroups() -> list[Path]:
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    return [found for top in tops if (found := top / CGROUP).is_dir()]


def _remove_cgroups() -> None:
    for top in _cgroups():
        # The kernel takes a moment after the last process is gone.
        remove = ("find", top, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
        until(lambda: root(*remove, check=False) or not top.exists(), f"{top} is in use", 10)
