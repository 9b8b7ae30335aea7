"""What `inv status` and `inv releases` show: values in, rows and warnings out."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bikecast.ops.host import Host
from bikecast.ops.state import Container, Entry, HostState
from bikecast.ops.traffic import COLOURS


@dataclass(frozen=True)
class Row:
    """A host at a glance.

    :param share: percentage of requests that the live colour gets.
    :param idle: the release that the other colour has.
    """

    host: str
    colour: str = ""
    release: str = ""
    digest: str = ""
    health: str = ""
    uptime: str = ""
    share: str = ""
    model: str = ""
    idle: str = ""
    proxy: str = ""
    lock: str = ""
    error: str = ""

    def cells(self) -> list[str]:
        """As text for a table; a host that does not answer says why."""
        if self.error:
            return [self.host, self.error]
        return [v or "–" for k, v in asdict(self).items() if k != "error"]


def row_of(host: str, state: HostState, model: str, now: datetime | None = None) -> Row:
    """A row for a host that answered."""
    service = state.service(state.live) if state.live else None
    idle = state.service(state.idle)
    return Row(
        host,
        colour=state.live or "",
        release=state.release,
        digest=service.digest[7:19] if service else "",
        health=_health(service),
        uptime=_since(service, now or datetime.now(UTC)),
        share=f"{state.share(state.live)} %" if state.live else "",
        model=model,
        idle=f"{idle.release} ({idle.status})" if idle else "",
        proxy=state.proxy.status if state.proxy else "",
        lock=str(state.lock.owner.get("who", "somebody")) if state.lock else "",
    )


def _health(container: Container | None) -> str:
    if container is None:
        return ""
    return (container.health or container.status) if container.running else container.status


def _since(container: Container | None, now: datetime) -> str:
    if container is None or not container.running:
        return ""
    minutes = int((now - container.started).total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days}d {hours}h" if days else f"{hours}h {minutes % 60}m"


def advice(rows: list[Row], states: dict[str, HostState]) -> list[str]:
    """What is not as it should be, each with the next step."""
    found = [f"{r.host} does not answer: {r.error}" for r in rows if r.error]
    answering = [r for r in rows if not r.error]
    live = sorted({r.release or "nothing" for r in answering})
    if len(live) > 1:
        found.append(f"the fleet is mixed ({', '.join(live)}): `inv rollback` puts it on the older")
    for name, state in states.items():
        if state.canary:
            share = state.share(state.canary)
            found.append(
                f"{name}: a canary has {share} %: `inv canary-promote` or `inv canary-abort`"
            )
        service = state.service(state.live) if state.live else None
        if service and _health(service) not in ("healthy", "starting"):
            found.append(f"{name}: {service.name} is {_health(service)}: `inv logs`")
        if service and not (state.proxy and state.proxy.running):
            found.append(f"{name}: the proxy does not run: `inv deploy` starts it")
    refreshers = [s.refresher(c) for s in states.values() for c in COLOURS]
    if any(s.live for s in states.values()) and not any(r and r.running for r in refreshers):
        found.append("no refresher keeps the forecasts fresh: the next `inv deploy` starts one")
    return found


def merged(history: dict[Host, list[Entry]]) -> list[dict[str, Any]]:
    """One entry for each piece of work, with the hosts that tell of it; the oldest first."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for host, entries in history.items():
        for entry in entries:
            key = (entry.identity, entry.action, entry.release, entry.verdict)
            row = found.setdefault(key, {**asdict(entry), "hosts": []})
            row["hosts"].append(host.name)
    return sorted(found.values(), key=lambda row: row["at"])
