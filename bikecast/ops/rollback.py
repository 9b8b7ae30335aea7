"""The way back: to the colour that is still warm, or to an older release by its image."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bikecast.errors import BikecastError, HostGone, InputError, Locked, Refused, UnknownName
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
    bring,
    end_watch,
    finish,
    first_lived,
    history,
    holding,
    live_all_the_same,
)
from bikecast.ops.settling import common_release, settle
from bikecast.ops.site import Site, States, Target, check_ready, look, look_if_up, releases
from bikecast.ops.state import TRAINING, HostState, Lock
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
    found = {}
    for host, state in states.items():
        of = [(s.age, c) for c in COLOURS if (s := state.service(c)) and s.release == release]
        if of:
            found[host] = max(of)[1]
    return found if len(found) == len(states) else None


def _to_warm(site: Site, states: States, colours: dict[Host, str]) -> Target:
    began = time.monotonic()
    cold = {h: c for h, c in colours.items() if (s := states[h].service(c)) and not s.running}
    if cold:
        site.on_all(
            lambda h: commands.holding(
                site.directory, site.token, "docker", "start", service_name(cold[h])
            ),
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
    with live_all_the_same(target), ThreadPoolExecutor(1) as aside:
        swapped = aside.submit(_swap_back, site, states, back, target)
        _try_back(site, target, tuple(back))
        swapped.result()
        if any(s.canary for s in states.values()):
            put_back(site, {h: states[h] for h in back})
        if any(s.watched for s in states.values()):
            end_watch(site, tuple(back))
    if failed:
        raise HostGone(
            f"{', '.join(h.name for h in failed)} did not go back", hint="`inv rollback` again"
        )
    return target


def _try_back(site: Site, target: Target, back: tuple[Host, ...]) -> None:
    try:
        try_out(site, target.release, dict.fromkeys(back, ""))
    except BikecastError as error:
        site.record("rollback", target, "live, but failed its smoke test", back)
        error.hint = "see `inv logs`; `inv rollback` again goes one release further back"
        raise
    site.record("rollback", target, "live", back)


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
    order = first_lived(history(site, tuple(states)))
    target = named(order, to) if to else before(order, states)
    site.say(f"{target.release} is not warm any more: it is started from its image")
    back = order.index(target) < max(place(order, s) for s in states.values())
    ready = partial(prepare, migrating=False, back=back)
    bring(site, states, target, How(bake=0.0), "rollback", ready)
    finish(site, states, target, "rollback")
    return target


def named(order: list[Target], release: str) -> Target:
    """The release of that name; of a tag that was built anew what was built last.

    :param order: all that were ever live, by their age.
    :raises UnknownName: where none of them is it.
    """
    found = [t for t in order if t.release == release]
    if not found:
        known = ", ".join(dict.fromkeys(t.release for t in order))
        raise UnknownName(
            f"no release {release!r} was live here (known: {known or 'none'})",
            hint="see `inv releases`",
        )
    return found[-1]


def before(order: list[Target], states: States) -> Target:
    """The release before the live one; of a mixed fleet the oldest that is live.

    :raises Refused: where there is none.
    """
    places = {place(order, s) for s in states.values()}
    found = order[: min(places) + (len(places) > 1)]
    if not found:
        live = next(iter(states.values())).release
        raise Refused(f"there is no release before {live or 'the first'}", hint="`inv releases`")
    return found[-1]


def place(order: list[Target], state: HostState) -> int:
    """Where a host's live release stands; behind all where it was never said to be live."""
    service = state.service(state.live) if state.live else None
    digests = [t.digest for t in order]
    return digests.index(service.digest) if service and service.digest in digests else len(order)


def decide(site: Site, word: str, tell: Callable[[float], None] = time.sleep) -> None:
    """Promote or abort a canary: by its deployer where one is at work, else by ourselves.

    :param word: ``promote`` or ``abort``.
    :raises InputError: where there is no canary.
    """
    states = look(site)
    if not any(s.canary for s in states.values()):
        raise InputError("no canary is under way", hint="see `inv status`")
    canaries = {h: (s.canary if word == "promote" else s.live) for h, s in states.items()}
    wished = _target_of(states, {h: c for h, c in canaries.items() if c}).release
    asked = {h: s.lock for h, s in states.items() if s.lock and s.lock.age < LOCK_EXPIRES}
    if asked:
        _ask(site, word, asked, tell)
    else:
        _decide_alone(site, word)
    _see_done(site, word, wished)


def _ask(site: Site, word: str, asked: dict[Host, Lock], tell: Callable[[float], None]) -> None:
    """Leave a wish beside the locks of a deployer, and wait until it has done its work.

    :raises Locked: where that takes too long; the wish is taken back.
    """
    site.on_all(lambda h: commands.wish(site.directory, asked[h].text, word), tuple(asked))
    site.say(f"asked {told_owner(next(iter(asked.values())))} to {word}")
    until = time.monotonic() + WISH_WITHIN
    while not site.dry and any(s.lock for s in look(site).values()):
        if time.monotonic() > until:
            # Refused where the lock has changed hands: there is no wish then.
            site.fleet.each(
                lambda h: h.run(commands.wish(site.directory, asked[h].text, "")), tuple(asked)
            )
            raise Locked(
                f"nothing came of it within {WISH_WITHIN:.0f} s; it is not asked for any more",
                hint="`inv status`",
            )
        tell(1.0)


def _see_done(site: Site, word: str, wished: str) -> None:
    """See that riders have what was wished.

    :raises Refused: naming what they have.
    """
    if site.dry:
        return
    others = {h.name: s for h, s in look(site).items() if s.canary or s.release != wished}
    if others:
        have = ", ".join(f"{name} has {s.release or 'nothing'}" for name, s in others.items())
        raise Refused(
            f"the canary was not {word}{'d' if word == 'promote' else 'ed'}: {have}",
            hint="`inv releases` says how it ended",
        )


def _decide_alone(site: Site, word: str) -> None:
    with holding(site, f"canary-{word}"):
        states = look(site)
        colours = {h: s.idle if word == "promote" else s.live for h, s in states.items()}
        target = _target_of(states, {h: c for h, c in colours.items() if c})
        end_watch(site, tuple(states))
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
