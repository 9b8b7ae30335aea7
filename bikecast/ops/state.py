"""How things stand on a host, as the host itself tells it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from bikecast.ops.commands import PROXY, PROXY_LABEL, WATCH, refresher_name, service_name
from bikecast.ops.environment import Proxy, Tls
from bikecast.ops.traffic import BLUE, BUCKETS, COLOURS, GREEN, other

DIGEST = "bikecast.digest"
RELEASE = "bikecast.release"
TRAINING = "bikecast.training"  # digest of the training image
BACK = "bikecast.back"  # started by a rollback: the release is older than its container


@dataclass(frozen=True)
class Container:
    """A container of ours.

    :param created: when it was made; of two colours the newer release is the one made later.
    :param health: as the engine tells it; empty where none is asked.
    """

    name: str
    status: str
    health: str
    created: datetime
    started: datetime
    restarts: int
    labels: dict[str, str]
    image: str

    @property
    def release(self) -> str:
        """The release that it runs."""
        return self.labels.get(RELEASE, "")

    @property
    def digest(self) -> str:
        """The digest of its image."""
        return self.labels.get(DIGEST, "")

    @property
    def age(self) -> tuple[bool, float]:
        """Sorts the containers of a host by the age of their releases, the oldest first.

        One that a rollback started runs an older release than all that were there before it.
        """
        back, made = BACK in self.labels, self.created.timestamp()
        return not back, -made if back else made

    @property
    def running(self) -> bool:
        """Whether it runs, and not only for a moment."""
        return self.status == "running"


@dataclass(frozen=True)
class Lock:
    """Somebody's claim on the host.

    :param age: seconds since its last heartbeat, by the host's clock.
    :param owner: what its owner wrote down; empty where that was cut off.
    """

    age: int
    owner: dict[str, Any]
    text: str


@dataclass(frozen=True)
class HostState:
    """What a host says of itself.

    :param docker: whether the host has it.
    :param present: whether it was set up.
    :param green: percentage of requests that green gets; None before the first release.
    :param user: ``uid:gid`` of the SSH user, as whom containers run.
    :param clock: the host's wall clock, seconds since 1970.
    :param fronts: how each proxy whose files are there is reached, by its label.
    """

    docker: bool = True
    present: bool = False
    green: int | None = None
    user: str = ""
    clock: float = 0.0
    lock: Lock | None = None
    containers: tuple[Container, ...] = ()
    fronts: Mapping[str, Proxy] = field(default_factory=dict)

    def container(self, name: str) -> Container | None:
        """The container of that name."""
        return next((c for c in self.containers if c.name == name), None)

    def service(self, colour: str) -> Container | None:
        """The service of a colour."""
        return self.container(service_name(colour))

    def refresher(self, colour: str) -> Container | None:
        """The refresher beside a colour."""
        return self.container(refresher_name(colour))

    @property
    def proxy(self) -> Container | None:
        """The proxy."""
        return self.container(PROXY)

    @property
    def front(self) -> Proxy | None:
        """How its proxy is reached, which may have older settings than the environment."""
        return self.fronts.get(self.proxy.labels.get(PROXY_LABEL, "")) if self.proxy else None

    @property
    def watched(self) -> bool:
        """Whether a canary is watched, so that it goes back by itself."""
        return self.container(WATCH) is not None

    def share(self, colour: str) -> int:
        """Percentage of requests that a colour gets."""
        green = self.green or 0
        return green if colour == GREEN else BUCKETS - green

    @property
    def live(self) -> str | None:
        """The colour that riders have: all requests, or the older one of two that share them."""
        present = [c for c in COLOURS if self.service(c)]
        serving = [c for c in present if self.share(c)]
        if len(serving) < 2:
            return serving[0] if serving else None
        return min(serving, key=self._made)

    @property
    def idle(self) -> str:
        """The colour that a next release takes; before the first one, that without requests."""
        return other(self.live) if self.live else BLUE if self.green else GREEN

    @property
    def canary(self) -> str | None:
        """The colour that gets a share of the requests, where two share them."""
        shared = all(self.share(c) for c in COLOURS) and all(self.service(c) for c in COLOURS)
        return self.idle if shared else None

    @property
    def release(self) -> str:
        """The live release; empty before the first one."""
        service = self.service(self.live) if self.live else None
        return service.release if service else ""

    @property
    def former(self) -> str | None:
        """The colour that still has an older release, to go back to at once."""
        if self.live is None:
            return None
        idle, live = self.service(self.idle), self.service(self.live)
        if idle is None or live is None or BACK in live.labels:
            return None
        return self.idle if idle.created < live.created else None

    def _made(self, colour: str) -> datetime:
        service = self.service(colour)
        return service.created if service else datetime.max.replace(tzinfo=UTC)


def parse_state(text: str) -> HostState:
    """Read what :func:`bikecast.ops.commands.look` printed."""
    if text.strip() in ("absent", "no docker"):
        return HostState(docker=text.strip() == "absent")
    facts: dict[str, str] = {}
    containers, fronts = [], {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "container":
            containers.append(parse_container(json.loads(value)))
        elif name == "front":
            instance, port, certificate = value.split(" ")
            fronts[instance] = _front(port, base64.b64decode(certificate).decode())
        else:
            facts[name] = value
    green = facts.get("green", "").rpartition("/")[2]
    return HostState(
        present=True,
        green=int(green) if green.isdecimal() else None,
        user=facts.get("user", ""),
        clock=float(facts.get("clock", 0)),
        lock=parse_lock(facts["lock"]) if "lock" in facts else None,
        containers=tuple(containers),
        fronts=fronts,
    )


def _front(port: str, certificate: str) -> Proxy:
    tls = Tls(certificate=certificate, key=SecretStr("")) if certificate else None
    return Proxy(port=int(port), tls=tls)


def parse_container(raw: dict[str, Any]) -> Container:
    """One line of the engine's answer."""
    return Container(
        name=raw["name"].lstrip("/"),
        status=raw["status"],
        health=raw["health"],
        created=moment(raw["created"]),
        started=moment(raw["started"]),
        restarts=raw["restarts"],
        labels=raw["labels"] or {},
        image=raw["image"],
    )


def moment(text: str) -> datetime:
    """A time as Docker writes it, with up to nine decimals.

    >>> moment("2026-01-02T03:04:05.123456789Z").microsecond
    123456
    """
    return datetime.fromisoformat(text)


def parse_lock(text: str) -> Lock:
    """Its age, and the owner's JSON behind it."""
    age, _, owner = text.partition(" ")
    try:
        read = json.loads(owner)
    except ValueError:
        read = {}
    return Lock(int(age), read if isinstance(read, dict) else {}, owner)


@dataclass(frozen=True)
class Entry:
    """A line of a host's log of releases.

    :param verdict: how it ended: ``live``, ``went back`` …
    """

    at: str
    who: str
    action: str
    release: str
    digest: str
    training: str
    verdict: str
    identity: str


def parse_history(text: str) -> list[Entry]:
    """The entries of a host's log, the oldest first; a line cut off by a full disk is left out."""
    entries = []
    for line in text.splitlines():
        try:
            raw = json.loads(line)
            entries.append(
                Entry(**{name: str(raw.get(name, "")) for name in Entry.__annotations__})
            )
        except (ValueError, AttributeError):
            continue
    return entries
