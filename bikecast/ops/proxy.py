"""Replace the proxy itself: a second one beside the first, which then takes its leave."""

import time

from bikecast.errors import Refused
from bikecast.ops import commands
from bikecast.ops.commands import NEXT_PROXY, PROXY_LABEL
from bikecast.ops.host import Host
from bikecast.ops.images import registry_host
from bikecast.ops.preparing import (
    proxy_instance,
    proxy_label,
    show_logs,
    try_out,
    write_proxy_files,
)
from bikecast.ops.release import holding
from bikecast.ops.settling import adopt_proxies
from bikecast.ops.site import Site, States, check_ready, look

# Seconds in which the old proxy ends every connection with its next answer, announced.
LEAVING = 10.0


def upgrade(site: Site) -> None:
    """Put a proxy with the environment's settings in the place of every one that has others.

    Both listen for a while, mostly on the same port; one that has a port of its own is tried out
    there first. The old one announces on each answer that its connection ends; after some seconds
    it stops accepting, answers what is in flight and closes what is idle.

    :raises Refused: where a new proxy does not come up; the old one goes on.
    """
    check_ready(look(site), time.time())
    with holding(site, "proxy-upgrade"):
        states = look(site)
        if adopt_proxies(site, states):
            states = look(site)
        wanted = proxy_instance(site)
        old = {h: s for h, s in states.items() if s.proxy and proxy_label(s) != wanted}
        if not old:
            site.say("every proxy has the settings of the environment already")
            return
        site.say(f"replacing the proxy on {', '.join(h.name for h in old)}")
        _pull(site, old)
        _start_beside(site, old, wanted)
        _take_leave(site, old)
        try_out(site, "", dict.fromkeys(old, ""))
        site.say(f"new proxy on {', '.join(h.name for h in old)}")


def _pull(site: Site, old: States) -> None:
    """Have the image there before anything is done; it may come from the registry of our own."""
    registry = site.env.registry
    pulling = commands.pull(
        registry_host(registry.image),
        registry.username,
        registry.password.get_secret_value(),
        [site.env.proxy.image],
    )
    site.on_all(lambda h: pulling, tuple(old))


def _start_beside(site: Site, old: States, wanted: str) -> None:
    hosts = tuple(old)
    # What an upgrade that was cut off has left.
    site.on_all(lambda h: commands.remove(site.directory, site.token, NEXT_PROXY), hosts)
    write_proxy_files(site, hosts, wanted)
    try:
        site.on_all(
            lambda h: commands.start_proxy(
                site.env, site.token, NEXT_PROXY, old[h].user, wanted, {PROXY_LABEL: wanted}
            ),
            hosts,
        )
        answers = site.on_all(lambda h: commands.wait_proxy(NEXT_PROXY), hosts)
        failed = [h for h, text in answers.items() if text.strip() != "up"]
        if failed:
            show_logs(site, dict.fromkeys(failed, NEXT_PROXY))
            raise Refused(
                f"the new proxy does not come up on {', '.join(h.name for h in failed)}",
                hint="its last lines are above; the old one goes on",
            )
        _try_new(site, hosts)
    except BaseException:
        site.fleet.each(
            lambda h: h.run(commands.remove(site.directory, site.token, NEXT_PROXY)), hosts
        )
        raise


def _try_new(site: Site, hosts: tuple[Host, ...]) -> None:
    """Try those that can be told from the old ones by their port; from now on the new are asked."""
    apart = [h for h in hosts if site.front(h).port != site.env.proxy.port]
    for host in hosts:
        site.fronts.pop(host, None)
    if apart:
        try_out(site, "", dict.fromkeys(apart, ""))


def _take_leave(site: Site, old: States) -> None:
    def leave(host: Host) -> None:
        instance = proxy_label(old[host])
        host.run(commands.announce(site.directory, site.token, instance))
        if not site.dry:
            time.sleep(LEAVING)
        host.run(commands.replace_proxy(site.directory, site.token, instance))

    site.fleet.all(leave, tuple(old))
