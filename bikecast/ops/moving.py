"""Move the riders: switch, watch what they get, go on or go back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bikecast.errors import BikecastError, Refused
from bikecast.ops import commands
from bikecast.ops.commands import service_name
from bikecast.ops.host import Host
from bikecast.ops.site import Site, States
from bikecast.ops.traffic import (
    Judgement,
    Seen,
    Verdict,
    green_share,
    judge,
    read_log,
)

LOOK_EVERY = 1.0  # seconds
BASELINE = 60.0  # seconds before the switch that the new colour is held against


@dataclass
class Window:
    """What a host's proxy said since a moment.

    :param now: the host's clock at its end; where the next window begins.
    :param down: why a colour's container cannot be relied on, by colour.
    """

    now: str
    seen: dict[str, Seen]
    wish: str = ""
    down: dict[str, str] = field(default_factory=dict)


def parse_window(text: str) -> Window:
    """Read what :func:`bikecast.ops.commands.traffic` printed."""
    lines = text.splitlines()
    window = Window("", read_log(lines))
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "now":
            window.now = rest
        elif word == "wish":
            window.wish = rest
        elif word == "state":
            colour, status, restarts = rest.split()
            if (status, restarts) != ("running", "0"):
                window.down[colour] = f"{service_name(colour)} is {status}, restarted {restarts}×"
    return window


def windows(site: Site, since: dict[Host, str]) -> dict[Host, Window]:
    """The next window of every host."""
    command = commands.traffic
    return site.fleet.all(
        lambda h: parse_window(h.run(command(site.directory, since[h]))), tuple(since)
    )


def switch(site: Site, states: States, percent: int) -> None:
    """Give the idle colour of every host this percentage of the requests."""
    site.on_all(
        lambda h: commands.switch(site.directory, site.token, green_share(states[h].idle, percent)),
        tuple(states),
    )


def switch_back(site: Site, states: States) -> dict[Host, BikecastError]:
    """Give all requests back to the colour that every host had; where that failed, and why."""
    _, failed = site.fleet.each(
        lambda h: h.run(commands.switch(site.directory, site.token, back_to(states, h))),
        tuple(states),
    )
    for error in failed.values():
        site.say(f"did not go back: {error.what}")
    return failed


def back_to(states: States, host: Host) -> int:
    """Percentage of green with which a host has its live colour alone."""
    live = states[host].live
    return green_share(live, 100) if live else states[host].green or 0


def baseline(site: Site, states: States) -> Seen:
    """What the live colours answered in the last minute, on all hosts together."""
    past = {h: f"{s.clock - BASELINE:.3f}" for h, s in states.items()}
    seen = Seen()
    for host, window in windows(site, past).items():
        if live := states[host].live:
            seen.add(window.seen[live])
    return seen


def bake(
    site: Site,
    states: States,
    seconds: float,
    old: Seen | None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Judgement, str]:
    """Watch the idle colours, which now have traffic, for a while; end at once on a bad sign.

    :param old: what they are held against; None: the live colours in the same time.
    :returns: the last judgement, and what a person wished meanwhile (``promote``, ``abort``).
    """
    release = site.env.release
    new, beside = Seen(), Seen()
    since = {h: w.now for h, w in windows(site, dict.fromkeys(states, "now")).items()}
    until = time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        if not site.dry:
            sleep(min(LOOK_EVERY, max(left, 0)))
        for host, window in windows(site, since).items():
            since[host] = window.now
            state = states[host]
            new.add(window.seen[state.idle])
            if state.live:
                beside.add(window.seen[state.live])
            if state.idle in window.down:
                return Judgement(Verdict.GO_BACK, f"{host.name}: {window.down[state.idle]}"), ""
            if window.wish:
                return Judgement(Verdict.GO_ON, f"{window.wish} was asked for"), window.wish
        found = judge(
            new,
            beside if old is None else old,
            release.max_error_share,
            release.max_latency_ratio,
        )
        if found.verdict is Verdict.GO_BACK or left <= LOOK_EVERY or site.dry:
            return found, ""


def went_back(site: Site, states: States, why: BaseException) -> BikecastError:
    """Switch every host back; the error that tells of it."""
    missing = switch_back(site, states)
    back = ", ".join(h.name for h in states if h not in missing)
    what = why.what if isinstance(why, BikecastError) else type(why).__name__
    if not missing:
        return Refused(f"{what}; all hosts went back", hint="riders have the former release")
    names = ", ".join(h.name for h in missing)
    return Refused(
        f"{what}; {back or 'no host'} went back, {names} could not and may still have the new "
        f"release: {next(iter(missing.values())).what}",
        hint="`inv rollback` mends that once it can be reached",
    )
