"""A command for a host, and the names of what is there."""

import shlex
from dataclasses import dataclass

LOST = 75  # EX_TEMPFAIL of sysexits.h: the lock is not (or no longer) ours
PROXY = "bikecast-proxy"
NEXT_PROXY = "bikecast-proxy-next"
WATCH = "bikecast-watch"
LABEL = "bikecast.directory"
LOCK_EXPIRES = 30  # seconds without a heartbeat
LOG_OPTIONS = ("--log-driver", "json-file", "--log-opt", "max-size=20m", "--log-opt", "max-file=3")
UNPRIVILEGED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # nosec B108  # in a container
    *("--security-opt", "no-new-privileges", "--restart", "unless-stopped"),
)
LOG_LINES = 20
LOOK_WITHIN = 20.0  # seconds; an engine that takes longer does not answer


@dataclass(frozen=True)
class Command:
    """One command for one host.

    :param argv: its words; quoted for the shell by :meth:`text`.
    :param stdin: what it reads, such as a secret; never shown.
    :param reads: it changes nothing, so a dry run may run it too.
    :param pretend: what a dry run takes for its output where it changes something.
    :param timeout: seconds; None takes the environment's.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    reads: bool = False
    pretend: str = ""
    timeout: float | None = None

    def text(self) -> str:
        """As a shell reads it."""
        return shlex.join(self.argv)


def script(text: str, *arguments: object) -> Command:
    """A shell script with its arguments as ``$1``, ``$2`` …"""
    return Command(("sh", "-c", text.strip(), "bikecast", *map(str, arguments)))


def service_name(colour: str) -> str:
    """The container of a colour."""
    return f"bikecast-{colour}"


def refresher_name(colour: str) -> str:
    """The container that keeps the forecast table fresh, beside the service of a colour."""
    return f"bikecast-refresher-{colour}"
