"""A command for a host, and the names of what is there."""

import math
import shlex
from dataclasses import dataclass

LOST = 75  # EX_TEMPFAIL of sysexits.h: the lock is not (or no longer) ours
PROXY = "bikecast-proxy"
NEXT_PROXY = "bikecast-proxy-next"
WATCH = "bikecast-watch"
LABEL = "bikecast.directory"
PROXY_LABEL = "bikecast.proxy"  # the settings that a proxy was started with, by their hash
LOCK_EXPIRES = 30  # seconds without a heartbeat
LOG_OPTIONS = ("--log-driver", "json-file", "--log-opt", "max-size=20m", "--log-opt", "max-file=3")
UNPRIVILEGED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # nosec B108  # in a container
    *("--security-opt", "no-new-privileges", "--restart", "unless-stopped"),
)
LOG_LINES = 20
KILL_AFTER = 5  # seconds that a command may take to end once it was told to
LOOK_WITHIN = 20.0  # seconds; an engine that takes longer does not answer


@dataclass(frozen=True)
class Command:
    """One command for one host.

    :param argv: its words; quoted for the shell by :meth:`text`.
    :param stdin: what it reads, such as a secret; never shown.
    :param reads: it changes nothing, so a dry run may run it too.
    :param pretend: what a dry run takes for its output where it changes something.
    :param timeout: seconds; None takes the environment's.
    :param what: what it does, for errors, as in ``pulling images``; empty shows its words.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    reads: bool = False
    pretend: str = ""
    timeout: float | None = None
    what: str = ""

    def text(self) -> str:
        """As a shell reads it."""
        return shlex.join(self.argv)

    def limited(self, seconds: float) -> str:
        """The same, ended by the host itself where it takes longer; its own limit goes first."""
        return f"timeout -k {KILL_AFTER} {self.limit(seconds)} {self.text()}"

    def limit(self, seconds: float) -> int:
        """Whole seconds that it may take; its own limit goes before the one given."""
        return math.ceil(self.timeout or seconds)

    def __str__(self) -> str:
        """What it does: in words where those are known, else by its first ones."""
        return self.what or f"`{shlex.join(self.argv[:3])}`"


def script(text: str, *arguments: object, what: str = "a script") -> Command:
    """A shell script with its arguments as ``$1``, ``$2`` …"""
    return Command(("sh", "-c", text.strip(), "bikecast", *map(str, arguments)), what=what)


def service_name(colour: str) -> str:
    """The container of a colour."""
    return f"bikecast-{colour}"


def refresher_name(colour: str) -> str:
    """The container that keeps the forecast table fresh, beside the service of a colour."""
    return f"bikecast-refresher-{colour}"
