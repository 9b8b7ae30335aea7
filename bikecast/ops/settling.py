"""Finish what an earlier deployer left half done, so that every piece of work starts the same."""

from bikecast.ops import commands
from bikecast.ops.commands import FORMER, NEXT_PROXY, WATCH, service_name
from bikecast.ops.host import Host
from bikecast.ops.moving import back_to
from bikecast.ops.site import Site, States, look, releases
from bikecast.ops.traffic import COLOURS, green_share


def settle(site: Site, states: States) -> States:
    """No canary under way, nothing set aside, one release on all hosts where that is possible.

    :returns: the states as they are afterwards.
    """
    steps = (
        _end_canaries(site, states),
        adopt_proxies(site, states),
        _restore(site, states),
        _unite(site, states),
    )
    return look(site) if any(steps) and not site.dry else states


def _end_canaries(site: Site, states: States) -> bool:
    watched = tuple(h for h, s in states.items() if s.watched)
    site.on_all(lambda h: commands.remove(site.directory, site.token, WATCH), watched)
    shared = tuple(h for h, s in states.items() if s.green not in (None, 0, 100))
    site.on_all(lambda h: commands.switch(site.directory, site.token, back_to(states, h)), shared)
    if shared:
        names = ", ".join(h.name for h in shared)
        site.say(f"a canary was left on {names}: all requests went back to the stable release")
    return bool(watched or shared)


def adopt_proxies(site: Site, states: States) -> bool:
    """Finish the replacement of a proxy that was cut off before the new one got its name."""
    hosts = tuple(h for h, s in states.items() if not s.proxy and s.container(NEXT_PROXY))
    site.on_all(lambda h: commands.adopt_proxy(site.directory, site.token), hosts)
    return bool(hosts)


def _restore(site: Site, states: States) -> bool:
    """What was set aside comes back where its successor never went live."""
    aside = {
        h: colour
        for h, s in states.items()
        for colour in COLOURS
        if s.container(service_name(colour) + FORMER)
    }
    for host, colour in aside.items():
        if states[host].live == colour:
            host.run(commands.drop_former(site.directory, site.token))
        else:
            host.run(commands.put_back(site.directory, site.token, colour))
            site.say(f"{host.name}: what an interrupted release had set aside is back")
    return bool(aside)


def _unite(site: Site, states: States) -> bool:
    """Put a mixed fleet on the older one of its releases, where every host still has that."""
    found = releases(states)
    if len(found) < 2:
        return False
    common = common_release(states)
    if common is None:
        site.say("the fleet is mixed and has no release in common; this one will end that")
        return False
    release, colours = common
    moving = tuple(h for h, s in states.items() if s.live != colours[h])
    site.on_all(
        lambda h: commands.switch(site.directory, site.token, green_share(colours[h], 100)),
        moving,
    )
    site.say(f"the fleet was mixed: all hosts have {release} now")
    return True


def common_release(states: States) -> tuple[str, dict[Host, str]] | None:
    """The oldest release that runs on every host, and the colour that it has on each.

    None where it would be forward for some host, whose riders have an older one already.
    """
    places: dict[str, dict[Host, str]] = {}
    for host, state in states.items():
        for colour in COLOURS:
            service = state.service(colour)
            if service and service.running:
                places.setdefault(service.release, {})[host] = colour
    everywhere = {r: p for r, p in places.items() if len(p) == len(states)}
    if not everywhere:
        return None

    def age(release: str) -> tuple[bool, float]:
        services = [states[h].service(c) for h, c in everywhere[release].items()]
        return min(s.age for s in services if s)

    oldest = min(everywhere, key=age)
    live = [s.service(s.live) for s in states.values() if s.live]
    forward = any(s.age < age(oldest) for s in live if s)
    return None if forward else (oldest, everywhere[oldest])
