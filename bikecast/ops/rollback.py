"""The way back: to the colour that is still warm, or to an older release by its image."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bikecast.errors import HostGone, InputError, Locked, Refused, UnknownName
from bikecast.ops import commands
from bikecast.ops.commands import LOCK_EXPIRES, refresher_name, service_name
from bikecast.ops.host import Host
from bikecast.ops.locking import told_owner
from bikecast.ops.preparing import (
    prepare,
    put_back,
    stop_refreshers,
    swap_refresher,
    try_out,
    wait_healthy,
)
from bikecast.ops.release import (
    How,
    end_watch,
    finish,
    first_lived,
    history,
    holding,
    move,
    undone,
)
from bikecast.ops.settling import common_release, settle
from bikecast.ops.site import Site, States, Target, check_ready, look, look_if_up, releases
from bikecast.ops.state import TRAINING
from bikecast.ops.traffic import COLOURS, green_share

WISH_WITHIN = 120.0  # seconds that a deployer may take to do what was asked of it


def rollback(site: Site, to: str = "", *, of: str = "", wait: float = 0) -> Target:
    """Give riders the former release again, on every host that answers.

    :param to: a release to go to; by default the one before the live one.
    :param of: the release to go back from, by its tag or digest; by default whichever is live.
    :returns: the release that riders have now.
    :raises Refused: where ``of`` is not live any more; riders keep what they have.
    :raises HostGone: where a host did not answer; all others went back.
    """
    up, gone = site.fleet.each(lambda h: h.run(commands.reach(site.directory)))
    if not up:
        raise next(iter(gone.values()))
    with holding(site, f"rollback {to}".strip(), wait, tuple(up)):
        states, lost = look_if_up(site, tuple(up))
        gone |= lost
        if not states:
            raise next(iter(gone.values()))
        check_ready(states, time.time())
        check_live(states, of)
        colours = way_back(states, to)
        target = _to_image(site, states, to) if colours is None else _to_warm(site, states, colours)
    if gone:
        names = ", ".join(h.name for h in gone)
        raise HostGone(
            f"{names}: not rolled back, for it did not answer: {next(iter(gone.values())).what}",
            hint="all others went back; `inv rollback` again once it answers",
        )
    return target


def check_live(states: States, of: str) -> None:
    """See that a release, by its tag or digest, is still what some riders get.

    :raises Refused: where another took its place; the way back would lead away from that one.
    """
    live = [c for s in states.values() if s.live and (c := s.service(s.live))]
    if of and not any(of in (c.release, c.digest) for c in live):
        raise Refused(f"{of} is not live any more", hint="see with `inv status` what is")


def way_back(states: States, to: str = "") -> dict[Host, str] | None:
    """The colour to go back to on every host, where all of them still have the release.

    A canary goes back to the stable release, a mixed fleet to the older one of its releases. A
    fleet that was rolled back already does not roll forward again by the same command.
    """
    if to:
        return _colours_of(states, to)
    if any(s.canary for s in states.values()):
        return {h: s.live for h, s in states.items() if s.live}
    if len(releases(states)) > 1:
        common = common_release(states)
        return common[1] if common else None
    former = {h: s.former for h, s in states.items()}
    warm = [s.service(colour) for h, s in states.items() if (colour := former[h])]
    if len(warm) < len(states) or len({c.release for c in warm if c}) != 1:
        return None
    return {h: colour for h, colour in former.items() if colour}


def _colours_of(states: States, release: str) -> dict[Host, str] | None:
    found = {
        h: colour
        for h, s in states.items()
        for colour in COLOURS
        if (c := s.service(colour)) and c.release == release
    }
    return found if len(found) == len(states) else None


def _to_warm(site: Site, states: States, colours: dict[Host, str]) -> Target:
    began = time.monotonic()
    cold = {
        h: service_name(c)
        for h, c in colours.items()
        if (s := states[h].service(c)) and not s.running
    }
    if cold:
        site.on_all(
            lambda h: commands.holding(site.directory, site.token, "docker", "start", cold[h]),
            tuple(cold),
        )
        wait_healthy(site, cold)
    _, failed = site.fleet.each(
        lambda h: h.run(commands.switch(site.directory, site.token, green_share(colours[h], 100))),
        tuple(colours),
    )
    target = _target_of(states, colours)
    for error in failed.values():
        site.say(f"did not go back: {error.what}")
    seconds = time.monotonic() - began
    back = {h: c for h, c in colours.items() if h not in failed}
    site.say(f"{target.release}: switched {', '.join(h.name for h in back)} in {seconds:.2f} s")
    site.record("rollback", target, "live", tuple(back))
    with ThreadPoolExecutor(1) as aside:
        swapped = aside.submit(_swap_back, site, states, back, target)
        try_out(site, target.release, dict.fromkeys(back, ""))
        swapped.result()
    if any(s.canary for s in states.values()):
        put_back(site, states)
    if any(s.watched for s in states.values()):
        end_watch(site, states)
    if failed:
        raise HostGone(
            f"{', '.join(h.name for h in failed)} did not go back", hint="`inv rollback` again"
        )
    return target


def _target_of(states: States, colours: dict[Host, str]) -> Target:
    services = [states[h].service(c) for h, c in colours.items()]
    found = next(s for s in services if s)
    return Target(found.release, found.digest, found.labels.get(TRAINING, ""))


def _swap_back(site: Site, states: States, colours: dict[Host, str], target: Target) -> None:
    """The refresher of the release that is live again: the one that was kept, or a new one."""
    host = site.first
    if host not in colours:
        return
    wanted = refresher_name(colours[host])
    kept = states[host].container(wanted)
    if kept is None:
        swap_refresher(site, states, colours, target)
    elif not kept.running:
        stop_refreshers(site, states)
        host.run(commands.holding(site.directory, site.token, "docker", "start", wanted))


def _to_image(site: Site, states: States, to: str) -> Target:
    states = settle(site, states)
    target = older(site, states, to)
    site.say(f"{target.release} is not warm any more: it is started from its image")
    with undone(site, states, target, "rollback"):
        prepare(site, states, target, migrating=False)
    move(site, states, target, How(bake=0.0), "rollback")
    finish(site, states, target, "rollback")
    return target


def older(site: Site, states: States, to: str = "") -> Target:
    """The release before the live one, or the named one, from the hosts' logs.

    :raises UnknownName: where no such release was ever live.
    """
    order = first_lived(history(site, tuple(states)))
    known = [t.release for t in order]
    if to:
        if to not in known:
            raise UnknownName(
                f"no release {to!r} was live here (known: {', '.join(known) or 'none'})",
                hint="see `inv releases`",
            )
        return order[known.index(to)]
    live = next(iter(states.values())).release
    first = known.index(live) if live in known else len(known)
    if first == 0:
        raise Refused(f"there is no release before {live or 'the first'}", hint="`inv releases`")
    return order[first - 1]


def decide(site: Site, word: str, tell: Callable[[float], None] = time.sleep) -> None:
    """Promote or abort a canary: by its deployer where one is at work, else by ourselves.

    :param word: ``promote`` or ``abort``.
    :raises InputError: where there is no canary.
    """
    states = look(site)
    if not any(s.canary for s in states.values()):
        raise InputError("no canary is under way", hint="see `inv status`")
    locks = [s.lock for s in states.values() if s.lock and s.lock.age < LOCK_EXPIRES]
    if not locks:
        _decide_alone(site, word)
        return
    site.on_all(lambda h: commands.wish(site.directory, word))
    site.say(f"asked {told_owner(locks[0])} to {word}")
    until = time.monotonic() + WISH_WITHIN
    while not site.dry and any(s.lock for s in look(site).values()):
        if time.monotonic() > until:
            raise Locked(f"nothing came of it within {WISH_WITHIN:.0f} s", hint="`inv status`")
        tell(1.0)


def _decide_alone(site: Site, word: str) -> None:
    with holding(site, f"canary-{word}"):
        states = look(site)
        colours = {h: s.idle if word == "promote" else s.live for h, s in states.items()}
        target = _target_of(states, {h: c for h, c in colours.items() if c})
        end_watch(site, states)
        site.on_all(
            lambda h: commands.switch(
                site.directory, site.token, green_share(colours[h] or "", 100)
            )
        )
        try_out(site, target.release, dict.fromkeys(states, ""))
        if word == "promote":
            finish(site, states, target, "canary-promote")
        else:
            put_back(site, states)
            site.record("canary-abort", target, "live")
