"""One process of `inv` that reaches local hosts, fails where it is told to, and what it leaves."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from local_host import SECRETS, WITHIN, LocalHost, environment, target

from bikecast.errors import CommandFailed, HostGone
from bikecast.ops import commands
from bikecast.ops.commands import Command
from bikecast.ops.environment import Environment
from bikecast.ops.host import DryHost, Fleet, Host
from bikecast.ops.release import How
from bikecast.ops.site import Site

SCRIPTS = {
    commands.LOOK: "look",
    commands.RECORD: "record",
    commands.HISTORY: "history",
    commands.LAST_LINES: "last lines",
    commands.TAKE: "take lock",
    commands.PREPARE: "prepare",
    commands.PULL: "pull",
    commands.WRITE: "write",
    commands.OURS + commands.REMOVE: "remove",
    commands.OURS + commands.KILL: "kill",
    commands.OURS + commands.SET_ASIDE: "set aside",
    commands.OURS + commands.PUT_BACK: "put back",
    commands.HEALTHY: "wait healthy",
    commands.SWITCH: "switch",
    commands.TRAFFIC: "traffic",
    commands.WAIT_PROXY: "wait proxy",
    commands.STAYING: "see refresher",
    commands.OURS + commands.DROP_FORMER: "drop former",
    commands.OURS + commands.PRUNE: "prune",
    commands.HOLDING + "touch lock/token": "heartbeat",
    commands.HOLDING + "rm -rf lock": "give lock back",
}
NAMES = {text.strip(): name for text, name in SCRIPTS.items()}


def name_of(command: Command) -> str:
    """What a command is, in two words."""
    text = command.argv[2] if command.argv[0] == "sh" else ""
    if text.startswith(commands.OURS) and "docker" in command.argv:
        words = command.argv[command.argv.index("docker") + 1 :]
        named = words[words.index("--name") + 1] if "--name" in words else ""
        return f"{words[0]} {named.removeprefix('bikecast-')}".strip()
    if "run inv setup" in text:
        return "present"
    return NAMES.get(text, text[:20] or " ".join(command.argv[:2]))


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    :param kind: ``fails`` (the command ends with an error, and had no effect), ``lost`` (it had
        its effect, but the host does not answer this once), ``gone`` (the host does not answer
        from now on), ``killed`` (the deployer is no more: nothing that it does reaches any host),
        ``stopped`` (it gets SIGTERM meanwhile).
    :param step: number of the command on that host, from 0; heartbeats are not counted.
    """

    kind: str
    host: str
    step: int


@dataclass
class Deployer:
    """One process of `inv`, which reaches some hosts.

    :param faults: what goes wrong with it.
    """

    hosts: tuple[LocalHost, ...]
    env: Environment = field(default_factory=environment)
    faults: tuple[Fault, ...] = ()
    dry: bool = False
    who: str = "ann@laptop"

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self.steps: dict[str, list[str]] = {h.name: [] for h in self.hosts}
        self.ran: dict[str, list[Command]] = {h.name: [] for h in self.hosts}
        self.gone: set[str] = set()
        wires: tuple[Host, ...] = tuple(_Wire(self, h) for h in self.hosts)
        if self.dry:
            wires = tuple(DryHost(w, self.said.append, WITHIN) for w in wires)
        fleet = Fleet(wires, self.env.hosts.concurrency)
        self.site = Site(self.env, fleet, self.who, self.said.append, self.dry)

    @property
    def happened(self) -> bool:
        """Whether each fault was met."""
        return all(len(self.steps[f.host]) > f.step for f in self.faults)

    def tells(self, words: str) -> bool:
        """Whether it said something."""
        return any(words in line for line in self.said)

    def meet(self, host: str, what: str, do: Callable[[], Any]) -> Any:
        """Take one step on a host, or meet the fault there."""
        if host in self.gone:
            raise HostGone(f"{host} does not answer: gone")
        if what == "heartbeat":
            return do()
        self.steps[host].append(what)
        here = (host, len(self.steps[host]) - 1)
        fault = next((f for f in self.faults if (f.host, f.step) == here), None)
        if fault is None:
            return do()
        if fault.kind == "fails":
            raise CommandFailed(host, what, 1, "it was made to fail")
        if fault.kind == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
            return do()
        if fault.kind == "lost":
            do()
        else:
            self.gone |= {host} if fault.kind == "gone" else set(self.steps)
        raise HostGone(f"{host} does not answer: {fault.kind}")


class _Wire:
    """A host as one deployer reaches it."""

    def __init__(self, deployer: Deployer, host: LocalHost) -> None:
        self.name = host.name
        self._deployer = deployer
        self._host = host

    def run(self, command: Command) -> str:
        """See :class:`Host`."""
        self._deployer.ran[self.name].append(command)
        run = self._host.run
        printed: str = self._deployer.meet(self.name, name_of(command), lambda: run(command))
        return printed

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """See :class:`Host`."""
        self._deployer.meet(self.name, "ask", lambda: None)
        with self._host.tunnel(port) as local:
            yield local

    def close(self) -> None:
        """See :class:`Host`."""


def live(hosts: tuple[LocalHost, ...]) -> Counter[str]:
    """The releases that riders get, by their first letter."""
    return Counter(h.answers()[1][:1] for h in hosts)


# -- what a release leaves ------------------------------------------------------------------------

AT_ONCE = How(bake=0)
# The settings of a release that fails are not to reach those that riders have or go back to.
CHANGED = environment((SECRETS["database"], "postgresql://another"))

# What a release does on the first host, and on every other.
FIRST = (
    *("look", "take lock", "look", "pull", "write", "run", "set aside", "run blue"),
    *("wait healthy", "ask", "traffic", "switch", "ask", "traffic", "traffic", "record", "kill"),
    *("run refresher-blue", "drop former", "history", "prune", "see refresher", "give lock back"),
)
ALONE = ("run", "kill", "run refresher-blue", "see refresher")
OTHER = tuple(s for s in FIRST if s not in ALONE)
STEPS = {"one": FIRST, "two": OTHER}
BEFORE = {
    "one": {
        "bikecast-blue": "a",
        "bikecast-green": "b",
        "bikecast-proxy": "-",
        "bikecast-refresher-green": "b",
    },
    "two": {"bikecast-blue": "a", "bikecast-green": "b", "bikecast-proxy": "-"},
}


def assert_as_before(host: LocalHost) -> None:
    """Riders and the host itself have what they had."""
    assert host.answers() == ("green", target("b").release)
    assert host.running() == BEFORE[host.name]
    assert not any(name.endswith("-former") for name in host.containers())
    assert secrets(host) == {colour: SECRETS["database"] for colour in ("blue", "green")}


def secrets(host: LocalHost) -> dict[str, str]:
    """What the service of each colour is told of its database."""
    folders = (host.root / "secrets").iterdir()
    return {f.name: (f / "database_url").read_text() for f in folders}


def assert_unlocked(*hosts: LocalHost) -> None:
    """Nobody holds a lock."""
    assert [h.name for h in hosts if (h.root / "lock").exists()] == []


def assert_one_release(hosts: tuple[LocalHost, ...], letter: str | None = None) -> None:
    """All hosts give riders one and the same release, and nothing is left over."""
    found = live(hosts)
    assert len(found) == 1 and "" not in found, found
    assert letter is None or set(found) == {letter}
    for host in hosts:
        assert host.state().green in (0, 100)
        assert commands.WATCH not in host.containers()
    assert_unlocked(*hosts)
