"""Bring a release to riders, straight through: prepare, move, finish, or leave all as it was."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bikecast.errors import BikecastError, LockLost, Refused
from bikecast.ops import commands
from bikecast.ops.commands import WATCH, service_name
from bikecast.ops.host import Host, to_the_end
from bikecast.ops.images import IMAGES, listed, repository
from bikecast.ops.locking import locked
from bikecast.ops.moving import back_to, bake, baseline, switch, went_back
from bikecast.ops.preparing import (
    prepare,
    put_back,
    see_refresher,
    show_logs,
    swap_refresher,
    try_out,
)
from bikecast.ops.settling import settle
from bikecast.ops.site import Site, States, Target, check_ready, look
from bikecast.ops.state import Entry, parse_history
from bikecast.ops.traffic import Judgement, Seen, Verdict

HISTORY = 500  # newest lines of a host's log that are read


@dataclass(frozen=True)
class How:
    """How riders come to a release.

    :param steps: percentages, rising to 100; a single 100 is a switch.
    :param bake: seconds to watch after each.
    """

    steps: tuple[int, ...] = (100,)
    bake: float = 30.0


Ready = Callable[[Site, States, Target], None]


class Held(Refused):
    """A canary stays at its weight until a person decides."""


def deploy(site: Site, target: Target, how: How, *, wait: float = 0) -> None:
    """Bring a release to all hosts, or leave all of them as they were.

    :param wait: seconds to wait for somebody else's lock.
    :raises Refused: where the release failed; riders have what they had.
    """
    check_ready(look(site), time.time())
    with holding(site, f"deploy {target.release}", wait):
        states = settle(site, look(site))
        bring(site, states, target, how, "deploy", partial(prepare, migrating=True))
        finish(site, states, target, "deploy")


@contextmanager
def holding(
    site: Site, reason: str, wait: float = 0, hosts: tuple[Host, ...] | None = None
) -> Iterator[None]:
    """Hold the lock of all hosts, or of some, for a ``with`` block."""
    chosen = site.fleet.hosts if hosts is None else hosts
    with locked(site.fleet, site.directory, site.who, reason, chosen, site.say, wait) as token:
        site.token = token
        yield


def bring(site: Site, states: States, target: Target, how: How, action: str, ready: Ready) -> None:
    """Bring riders to a release step by step, or leave all hosts as they were.

    :param ready: does all that is to be done before riders are moved.
    :raises Refused: where the release failed after the switch; before it, what made it fail.
    """
    moving = False
    try:
        ready(site, states, target)
        moving = True
        move(site, states, target, how)
    except (LockLost, Held):
        raise
    except BaseException as error:
        told = to_the_end(partial(_undo, site, states, error, moving))
        verdict = "went back" if moving else "failed before the switch"
        site.record(action, target, verdict, tuple(states))
        if told is error:
            raise
        if isinstance(error, Exception):
            raise told from error
        site.say(str(told))
        raise


def _undo(site: Site, states: States, why: BaseException, moving: bool) -> BaseException:
    """Leave all as it was; the error that tells of it."""
    still_ours(site, states)
    if not moving:
        put_back(site, states)
        return why
    told = went_back(site, states, why)
    show_logs(site, {h: service_name(s.idle) for h, s in states.items()})
    put_back(site, states)
    # One that stays does no harm: it would bring riders where they are.
    site.fleet.each(_without_watch(site), tuple(states))
    return told


def still_ours(site: Site, states: States) -> None:
    """See that nobody took over, before anything is undone or said to be live.

    :raises LockLost: where somebody did; what is there now is theirs.
    """
    beat = commands.keep_lock(site.directory, site.token)
    _, failed = site.fleet.each(lambda h: h.run(beat), tuple(states))
    if lost := next((e for e in failed.values() if isinstance(e, LockLost)), None):
        raise lost


def move(site: Site, states: States, target: Target, how: How) -> None:
    """Bring riders to the idle colour step by step, a canary watched by the hosts themselves."""
    if how.steps == (100,):
        _climb(site, states, target, how)
        return
    watch_over(site, states, target)
    _climb(site, states, target, how)
    # Part of the climb: a host that kept its watch would go back alone, so then all of them do.
    end_watch(site, tuple(states))


def _climb(site: Site, states: States, target: Target, how: How) -> None:
    old = baseline(site, states) if how.steps == (100,) else None
    promoted = False
    for percent in how.steps:
        if promoted and percent != 100:
            continue
        switch(site, states, percent)
        site.say(f"{target.release}: has {percent} % of the requests")
        if percent == 100:
            try_out(site, target.release, dict.fromkeys(states, ""))
        if not promoted:
            promoted = _judged(site, states, how, old, percent, target)


def _judged(
    site: Site, states: States, how: How, old: Seen | None, percent: int, target: Target
) -> bool:
    """Watch one step; whether a person asked meanwhile to go straight to the end.

    :raises Refused: where the figures say go back, or a person does.
    :raises Held: where too few asked to tell.
    """
    found, wish = bake(site, states, how.bake, old)
    partly = percent < 100 and not site.dry
    if found.verdict is Verdict.TOO_LITTLE and partly:
        site.say(f"too little traffic so far: {found.why}; waiting as long again")
        found, wish = bake(site, states, how.bake, old)
        if found.verdict is Verdict.TOO_LITTLE:
            hold(site, states, target, percent, found)
    if found.verdict is Verdict.GO_BACK or wish == "abort":
        raise Refused(f"at {percent} %: {found.why}")
    site.say(f"at {percent} %: {found.verdict.value}; {found.why}")
    return wish == "promote"


def hold(site: Site, states: States, target: Target, percent: int, found: Judgement) -> None:
    """Leave a canary where it is, unwatched, and say so.

    :raises Held: always, unless the watch could not be ended.
    """
    end_watch(site, tuple(states))
    site.record("deploy", target, f"held at {percent} %")
    raise Held(
        f"{found.verdict.value}: {found.why}; the canary stays at {percent} %",
        hint="`inv canary-promote` or `inv canary-abort`",
    )


def watch_over(site: Site, states: States, target: Target) -> None:
    """Have every host go back by itself, should this deployer die."""
    entry = site.entry("deploy", target, "went back by itself: its deployer was gone")
    site.on_all(
        lambda h: commands.start_watch(
            site.env, site.token, states[h].user, back_to(states, h), entry
        )
    )


def end_watch(site: Site, hosts: tuple[Host, ...]) -> None:
    """No host is to go back by itself any more."""
    site.fleet.all(_without_watch(site), hosts)


def _without_watch(site: Site) -> Callable[[Host], str]:
    return lambda host: host.run(commands.remove(site.directory, site.token, WATCH))


def finish(site: Site, states: States, target: Target, action: str) -> None:
    """The release is there to stay: its refresher, the log, and what may go.

    :raises BikecastError: where something of this failed; riders have the release all the same.
    """
    still_ours(site, states)
    site.record(action, target, "live", tuple(states))
    with live_all_the_same(target):
        swap_refresher(site, states, {h: s.idle for h, s in states.items()}, target)
        site.on_all(lambda h: commands.drop_former(site.directory, site.token), tuple(states))
        _stop_former(site, states)
        prune(site, tuple(states), target)
        if target.training and site.first in states:
            see_refresher(site, states[site.first].idle)
    site.say(f"{target.release}: live on {', '.join(h.name for h in states)}")


@contextmanager
def live_all_the_same(target: Target) -> Iterator[None]:
    """Say of an error that riders have the release in spite of it."""
    try:
        yield
    except LockLost:
        raise  # What riders have is up to somebody else.
    except BikecastError as error:
        error.what = f"{target.release} is live, but: {error.what}"
        raise


def _stop_former(site: Site, states: States) -> None:
    if site.env.release.previous == "stopped":
        site.on_all(
            lambda h: commands.holding(
                *(site.directory, site.token, "docker", "stop", "--time", "30"),
                service_name(states[h].live or ""),
            ),
            tuple(h for h, s in states.items() if s.live),
        )


def prune(site: Site, hosts: tuple[Host, ...], target: Target) -> None:
    """Remove the images of all but the newest releases that were live, the last one included."""
    others = [t for t in last_lived(history(site, hosts)) if t != target]
    newest = [*others, target][-site.env.release.keep :]
    kept = [digest for t in newest for digest in (t.digest, t.training)]
    ours = [listed(repository(site.env.registry.image, image)) for image in IMAGES]
    site.on_all(lambda h: commands.prune(site.directory, site.token, ours, kept), hosts)


def last_lived(entries: dict[Host, list[Entry]]) -> list[Target]:
    """The releases that were live anywhere, by when they last became so."""
    return _lived(entries, newest=True)


def first_lived(entries: dict[Host, list[Entry]]) -> list[Target]:
    """The releases that were live anywhere, by when they first became so: their age."""
    return _lived(entries, newest=False)


def _lived(entries: dict[Host, list[Entry]], newest: bool) -> list[Target]:
    found: dict[Target, str] = {}
    lines = sorted((e for of in entries.values() for e in of), key=lambda e: e.at)
    for entry in lines:
        target = Target(entry.release, entry.digest, entry.training)
        if entry.verdict == "live" and (newest or target not in found):
            found[target] = entry.at
    return sorted(found, key=lambda target: found[target])


def history(site: Site, hosts: tuple[Host, ...] | None = None) -> dict[Host, list[Entry]]:
    """The log of every host, the oldest entry first."""
    command = commands.history(site.directory, HISTORY)
    return site.fleet.all(lambda h: parse_history(h.run(command)), hosts)
