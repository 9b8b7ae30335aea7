"""Hosts on one machine: each with its own processes, name, address, Docker engine and sshd.

Everything of a host lives in namespaces below one process, so that killing that process is
pulling the plug, and that process ends by itself when the tests do.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fleet import machine
from fleet.machine import BRIDGE, CGROUP, GATEWAY, LINK, NETWORK, WORKSPACE, FleetError, root, until

USER = "deploy"
DISK_MB = 8000
FIRST = 11  # last number of the first host's address
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEY = WORKSPACE / "id_ed25519"

# The first process of a host. It reads its standard input until the tests are gone.
INIT = """
read -r pid _ < /proc/self/stat  # as seen from outside
echo "$pid" > "$FOLDER/init.new" && mv "$FOLDER/init.new" "$FOLDER/init.pid"
set -e
mount -t proc proc /proc
echo "$NAME" > /proc/sys/kernel/hostname
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=700 tmpfs /root
mkdir -p /run/sshd /run/lock "$FOLDER"/disk/{opt/bikecast,docker} "$FOLDER/home/$USER/.ssh"
cp "$FOLDER/authorized_keys" "$FOLDER/home/$USER/.ssh/"
chown -R "$ID:$ID" "$FOLDER/disk/opt/bikecast" "$FOLDER/home/$USER"
chmod -R go= "$FOLDER/home/$USER"
mount --bind "$FOLDER/home" /home
mount --bind "$FOLDER/disk/opt" /opt
# A copy: a file mounted over one of the machine's is gone as soon as the machine replaces that.
rm -rf --one-file-system "$FOLDER/etc" && mkdir -p /etc/docker && cp -a /etc "$FOLDER/etc"
cp "$FOLDER"/{passwd,group,shadow} "$FOLDER/etc/"
# What engines trust comes and goes with the registry.
mount --bind /etc/docker "$FOLDER/etc/docker"
mount --rbind "$FOLDER/etc" /etc
dockerd --config-file "$FOLDER/daemon.json" > "$FOLDER/dockerd.log" 2>&1 < /dev/null &
"$SSHD" -D -e -f "$FOLDER/sshd_config" > "$FOLDER/sshd.log" 2>&1 < /dev/null &
while read -r _; do :; done
"""

SSHD = """
ListenAddress {ip}:22
HostKey {folder}/hostkey
PidFile /run/sshd.pid
AuthenticationMethods publickey
PermitRootLogin no
AllowUsers {user}
UsePAM no
Subsystem sftp internal-sftp
"""


@dataclass
class Host:
    """One host; :class:`Fleet` makes and starts it.

    :param number: the last number of its address.
    :param disk_mb: size of the disk of its own that holds /opt and the engine's data. It takes
        as much of this machine's as is written to it.
    """

    name: str
    number: int
    disk_mb: int = DISK_MB
    _init: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def ip(self) -> str:
        """Its address on the bridge."""
        return f"{NETWORK}.{self.number}"

    @property
    def address(self) -> str:
        """As an environment names it."""
        return f"{USER}@{self.ip}:22"

    @property
    def folder(self) -> Path:
        """Where this machine keeps it; its logs lie here too."""
        return WORKSPACE / self.name

    @property
    def directory(self) -> Path:
        """Its /opt/bikecast, as seen from outside; root or the host's user may read it."""
        return self.folder / "disk" / "opt" / "bikecast"

    @property
    def known_hosts_line(self) -> str:
        """Its key, as a line of ``known_hosts``."""
        kind, key, *_ = (self.folder / "hostkey.pub").read_text().split()
        return f"{self.ip} {kind} {key}"

    @property
    def pid(self) -> int:
        """Its first process, as seen from outside."""
        return int((self.folder / "init.pid").read_text())

    @property
    def link(self) -> str:
        """The bridge's end of its cable."""
        return f"{LINK}{self.number}"

    @property
    def namespace(self) -> str:
        """Its network."""
        return f"{machine.PREFIX}{self.name}"

    def start(self) -> None:
        """Make it, and wait until its engine and its sshd answer."""
        self.folder.mkdir(mode=0o755)
        self.folder.chmod(0o755)
        (self.folder / "disk").mkdir()
        self._make_disk()
        self._write_files()
        self._power_on()

    def stop(self) -> None:
        """Take it away with everything that it had; harmless where it is not there."""
        self._power_off()
        for where in machine.mounts():
            if where.startswith(f"{self.folder}/"):
                root("umount", "--lazy", where)
        root("rm", "-rf", "--one-file-system", self.folder)

    def reboot(self) -> None:
        """Pull the plug, and start it again with the same disk."""
        self._power_off()
        self._power_on()

    def freeze_sshd(self) -> None:
        """Let it accept connections, and answer nothing."""
        self._signal("STOP", "sshd", "sshd-session", "sshd-auth")

    def thaw_sshd(self) -> None:
        """Undo :meth:`freeze_sshd`."""
        self._signal("CONT", "sshd", "sshd-session", "sshd-auth")

    def freeze_engine(self) -> None:
        """Let docker commands hang; containers run on."""
        self._signal("STOP", "dockerd", "containerd")

    def thaw_engine(self) -> None:
        """Undo :meth:`freeze_engine`."""
        self._signal("CONT", "dockerd", "containerd")

    def cut(self) -> None:
        """Pull its network cable."""
        root("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        """Put the cable back."""
        root("ip", "link", "set", self.link, "up")

    def fill_disk(self) -> None:
        """Leave no byte free on its disk."""
        ballast = self.folder / "disk" / "ballast"
        free = os.statvfs(ballast.parent)
        root("fallocate", "-l", max(free.f_bavail * free.f_frsize - (4 << 20), 1), ballast)
        # Fails, as it must, when nothing is left.
        rest = ("dd", "if=/dev/zero", f"of={ballast}.rest", "bs=4096")
        root(*rest, check=False)

    def free_disk(self) -> None:
        """Undo :meth:`fill_disk`."""
        ballast = self.folder / "disk" / "ballast"
        root("rm", "-f", ballast, f"{ballast}.rest")

    def run(
        self, *argv: object, user: str = "root", check: bool = True, timeout: float = 60
    ) -> str:
        """What a command on the host prints, run by one of its users.

        :raises FleetError: where it fails or takes too long.
        """
        into = ("nsenter", "-t", self.pid, "-m", "-u", "-i", "-n", "-p", "--wd=/", "env")
        words = [*into, f"HOME=/home/{USER}", f"PATH={PATH}"]
        if user != "root":
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        shown = f"on {self.name}: {' '.join(map(str, argv))}"
        return root(*words, *argv, check=check, timeout=timeout, shown=shown)

    def docker(self, *args: object, check: bool = True, timeout: float = 120) -> str:
        """What Docker's command line on the host prints, without the last newline."""
        return self.run("docker", *args, check=check, timeout=timeout).removesuffix("\n")

    def wipe(self) -> None:
        """Forget all releases: containers, and what is in the directory; images stay."""
        containers = self.docker("ps", "-aq").split()
        if containers:
            self.docker("rm", "-f", *containers)
        self.run("find", "/opt/bikecast", "-mindepth", 1, "-delete")

    def log(self) -> str:
        """The last lines of its engine and its sshd."""
        files = [self.folder / "dockerd.log", self.folder / "sshd.log"]
        return "\n".join(f.read_text()[-2000:] for f in files if f.exists())

    def _make_disk(self) -> None:
        image = self.folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(self.disk_mb << 20)
        root("mkfs.ext4", "-q", "-m", 0, "-b", 4096, image)
        # It only has to outlive processes: nothing waits for the platters.
        root("mount", "-o", "loop,noatime,nobarrier", image, self.folder / "disk")

    def _write_files(self) -> None:
        _keygen(self.folder / "hostkey", self.name)
        user_id = _free_id()
        entry = f"{USER}:x:{user_id}:{user_id}::/home/{USER}:/bin/bash\n"
        engine = {
            "data-root": f"{self.folder}/disk/docker",
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "hosts": ["unix:///run/docker.sock"],
            # systemd, which would be asked otherwise, belongs to this machine.
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{CGROUP}/{self.name}",
        }
        for name, text in {
            "passwd": Path("/etc/passwd").read_text() + entry,
            "group": _groups(user_id),
            "shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", USER)),
            "daemon.json": json.dumps(engine),
            "sshd_config": SSHD.format(ip=self.ip, folder=self.folder, user=USER),
            "authorized_keys": KEY.with_suffix(".pub").read_text(),
            "init.sh": INIT.lstrip(),
            "id": str(user_id),
        }.items():
            (self.folder / name).write_text(text)

    def _power_on(self) -> None:
        space = self.namespace
        root("ip", "netns", "add", space)
        # A card keeps its address: others, who still know it, would not find a new one for a while.
        card = ("address", f"02:00:00:00:00:{self.number:02x}")
        cable = ("ip", "link", "add", self.link, "type", "veth")
        root(*cable, *("peer", "eth0", "netns", space, *card))
        root("ip", "link", "set", self.link, "master", BRIDGE, "up")
        root("ip", "-n", space, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            root("ip", "-n", space, "link", "set", link, "up")
        root("ip", "-n", space, "route", "add", "default", "via", GATEWAY)
        self._boot()
        machine.remember(self.name, self.pid)
        try:
            until(self._answers, f"{self.name} does not answer", 60)
        except FleetError as error:
            raise FleetError(f"{error}\n{self.log()}") from error

    def _boot(self) -> None:
        (self.folder / "init.pid").unlink(missing_ok=True)
        settings = {
            "NAME": self.name,
            "FOLDER": str(self.folder),
            "USER": USER,
            "ID": (self.folder / "id").read_text(),
            "SSHD": machine.program("sshd"),
        }
        into = ("nsenter", f"--net=/run/netns/{self.namespace}")
        own = ("unshare", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child")
        with (self.folder / "init.log").open("wb") as log:
            self._init = subprocess.Popen(
                machine.sudo(
                    *(f"{name}={value}" for name, value in settings.items()),
                    *(*into, *own, "--propagation", "private"),
                    *("bash", self.folder / "init.sh"),
                ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
            )
        until((self.folder / "init.pid").exists, f"{self.name} does not start")

    def _answers(self) -> bool:
        if self._init is not None and self._init.poll() is not None:
            raise FleetError(f"{self.name} ended: {(self.folder / 'init.log').read_text()}")
        asked = ("docker", "info", "-f", "{{.ServerVersion}}")
        return bool(self.run(*asked, check=False).strip()) and bool(_pids(self.pid, "sshd"))

    def _power_off(self) -> None:
        if self._init is not None:
            if (self.folder / "init.pid").exists():
                root("kill", "-KILL", self.pid, check=False)
            assert self._init.stdin is not None
            self._init.stdin.close()
            self._init.wait(30)
            self._init = None
        if self.namespace in machine.namespaces():
            root("ip", "netns", "del", self.namespace)
            # The cable goes with the network, but not at once.
            until(lambda: not Path(f"/sys/class/net/{self.link}").exists(), "the cable stays")

    def _signal(self, signal: str, *programs: str) -> None:
        pids = _pids(self.pid, *programs)
        if not pids:
            raise FleetError(f"{programs[0]} does not run on {self.name}")
        root("kill", f"-{signal}", *pids)


class Fleet:
    """The bridge, the deployer's key and the hosts, for the time of a ``with`` block.

    :raises FleetError: where another fleet runs, or its addresses are taken.
    """

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._claim: machine.OneAtATime | None = None

    def __enter__(self) -> Self:
        self._claim = machine.OneAtATime()
        try:
            machine.prepare()
            _keygen(KEY, USER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._claim is not None
        try:
            for host in self.hosts:
                host._power_off()
        finally:
            machine.clear()
            self.hosts.clear()
            self._claim.release()

    @property
    def key(self) -> str:
        """The private key that all hosts let in."""
        return KEY.read_text()

    @property
    def known_hosts(self) -> str:
        """The keys of all hosts."""
        return "".join(f"{host.known_hosts_line}\n" for host in self.hosts)

    def add(self, *names: str, disk_mb: int = DISK_MB) -> list[Host]:
        """Make and start hosts, all at once."""
        used = {host.number for host in self.hosts}
        numbers = (n for n in range(FIRST, 250) if n not in used)
        made = [Host(name, number, disk_mb) for name, number in zip(names, numbers, strict=False)]
        self.hosts += made
        with ThreadPoolExecutor(max(len(made), 1)) as pool:
            list(pool.map(Host.start, made))
        return made

    def remove(self, host: Host) -> None:
        """Stop a host, and forget it."""
        host.stop()
        self.hosts.remove(host)


def _keygen(path: Path, comment: str) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def _free_id() -> int:
    taken = {line.split(":")[2] for line in Path("/etc/passwd").read_text().splitlines()}
    return next(number for number in range(4711, 60000) if str(number) not in taken)


def _groups(user_id: int) -> str:
    lines = Path("/etc/group").read_text().splitlines()
    others = [line for line in lines if not line.startswith("docker:")]
    own = [f"{USER}:x:{user_id}:", f"docker:x:{user_id + 1}:{USER}"]
    return "\n".join([*others, *own, ""])


def _pids(top: int, *programs: str) -> list[int]:
    """Processes below one that run one of the programs, parents first."""
    children: dict[int, list[tuple[int, str]]] = {}
    for pid, name, parent in _processes():
        children.setdefault(parent, []).append((pid, name))
    found, above = [], [top]
    for parent in above:
        for pid, name in children.get(parent, []):
            above.append(pid)
            if name in programs:
                found.append(pid)
    return found


def _processes() -> Iterator[tuple[int, str, int]]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = file.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        pid, _, name = before.partition(" (")
        yield int(pid), name, int(after.split()[1])
