"""An environment's hosts during one piece of work: looked at, recorded on, spoken of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bikecast.errors import BikecastError, InputError, LockLost
from bikecast.ops import commands
from bikecast.ops.commands import Command
from bikecast.ops.environment import Environment, Proxy
from bikecast.ops.host import Fleet, Host
from bikecast.ops.images import IMAGES, repository
from bikecast.ops.state import HostState, parse_state

CLOCKS_APART = 10.0  # seconds between a host's clock and ours before a release is refused

States = dict[Host, HostState]


@dataclass(frozen=True)
class Target:
    """A release to bring somewhere.

    :param release: its tag, by which people name it.
    :param digest: of the api image; that is what is deployed.
    :param training: digest of the training image.
    """

    release: str
    digest: str
    training: str


@dataclass
class Site:
    """What every step of a release needs to know.

    :param say: told each thing that happened, one line at a time.
    :param dry: print commands and run none that changes something.
    :param token: of the lock; empty before it is taken.
    :param fronts: how the proxies are reached that were there at the last look.
    :param show: told each step on this machine; where the run is dry, somebody listens.
    """

    env: Environment
    fleet: Fleet
    who: str
    say: Callable[[str], None]
    dry: bool = False
    token: str = ""
    show: Callable[[str], None] = lambda line: None
    fronts: dict[Host, Proxy] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Where everything lies on a host."""
        return self.env.hosts.directory

    @property
    def first(self) -> Host:
        """The host that does what is done once for all."""
        return self.fleet.hosts[0]

    def front(self, host: Host) -> Proxy:
        """How the proxy of a host is reached; one that is new has the environment's settings."""
        return self.fronts.get(host, self.env.proxy)

    def image(self, name: str, digest: str) -> str:
        """An image by its digest, as a host pulls it."""
        image = next(i for i in IMAGES if i.name == name)
        return f"{repository(self.env.registry.image, image)}@{digest}"

    def on_all(
        self, command: Callable[[Host], Command], hosts: tuple[Host, ...] | None = None
    ) -> dict[Host, str]:
        """Run a command on all hosts at once; one failure is a failure."""
        return self.fleet.all(lambda h: h.run(command(h)), hosts)

    def entry(self, action: str, target: Target, verdict: str) -> dict[str, object]:
        """A line for the log of releases."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "who": self.who,
            "action": action,
            "release": target.release,
            "digest": target.digest,
            "training": target.training,
            "verdict": verdict,
            "identity": self.token,
        }

    def record(
        self, action: str, target: Target, verdict: str, hosts: tuple[Host, ...] | None = None
    ) -> None:
        """Write how some work ended into the log of each host that answers.

        :raises LockLost: where the host is somebody else's by now, whose word counts.
        """
        line = commands.record(self.directory, self.token, self.entry(action, target, verdict))
        _, failed = self.fleet.each(lambda h: h.run(line), hosts)
        for error in failed.values():
            if isinstance(error, LockLost):
                raise error
            self.say(f"not written into the log: {error.what}")


def look(site: Site) -> States:
    """Look at all hosts at once.

    :raises BikecastError: where one cannot be looked at.
    """
    command = commands.look(site.directory)
    return _seen(site, site.fleet.all(lambda h: parse_state(h.run(command))))


def _seen(site: Site, states: States) -> States:
    site.fronts |= {h: s.front for h, s in states.items() if s.front}
    return states


def look_if_up(
    site: Site, hosts: tuple[Host, ...] | None = None
) -> tuple[States, dict[Host, BikecastError]]:
    """Look at the hosts that answer; what the others failed with."""
    command = commands.look(site.directory)
    states, failed = site.fleet.each(lambda h: parse_state(h.run(command)), hosts)
    return _seen(site, states), failed


def check_ready(states: States, now: float) -> None:
    """See that a release may begin.

    :param now: our wall clock, seconds since 1970.
    :raises InputError: for a host that was never set up, or whose clock is wrong.
    """
    for host, state in states.items():
        if not state.docker:
            raise InputError(f"{host.name} has no Docker", hint="`inv setup` says what to do")
        if not state.present:
            raise InputError(f"{host.name} is not set up for releases", hint="run `inv setup`")
        apart = state.clock - now
        if abs(apart) > CLOCKS_APART:
            raise InputError(
                f"the clock of {host.name} is {abs(apart):.0f} s "
                f"{'ahead of' if apart > 0 else 'behind'} ours",
                hint="let it be set by NTP",
            )


def releases(states: States) -> dict[str, list[Host]]:
    """The live releases and where they are; more than one is a mixed fleet."""
    found: dict[str, list[Host]] = {}
    for host, state in states.items():
        found.setdefault(state.release, []).append(host)
    return found
