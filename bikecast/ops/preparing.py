"""Before riders notice anything: pull, migrate, start beside the live colour, try it out."""

import hashlib
import json
from collections.abc import Iterable

from bikecast.errors import CommandFailed, Refused
from bikecast.ops import commands
from bikecast.ops.commands import (
    LOG_LINES,
    NEXT_SECRETS,
    PROXY,
    PROXY_LABEL,
    RUN_NGINX,
    Command,
    refresher_name,
    service_name,
)
from bikecast.ops.host import Host, together
from bikecast.ops.images import registry_host
from bikecast.ops.site import Site, States, Target
from bikecast.ops.smoke import asking, smoke
from bikecast.ops.state import BACK, DIGEST, RELEASE, TRAINING, HostState
from bikecast.ops.traffic import COLOURS


def pull(site: Site, states: States, target: Target) -> None:
    """Have every host hold the images that it will run."""
    registry = site.env.registry

    def command(host: Host) -> Command:
        images = [site.env.proxy.image, site.image("api", target.digest)]
        if host is site.first and target.training:
            images.append(site.image("training", target.training))
        return commands.pull(
            registry_host(registry.image),
            registry.username,
            registry.password.get_secret_value(),
            images,
        )

    site.on_all(command, tuple(states))
    site.say(f"{target.release}: pulled on {_names(states)}")


def write_secrets(site: Site, states: States) -> None:
    """Have the service's secrets on every host; they go to the colour that is set aside for it."""
    for name, value in commands.secrets(site.env).items():
        site.on_all(
            lambda _, name=name, value=value: commands.write_file(  # type: ignore[misc]
                site.directory, site.token, f"{NEXT_SECRETS}/{name}", value
            ),
            tuple(states),
        )


def migrate(site: Site, states: States, target: Target) -> None:
    """Bring the database to the release's schema, once."""
    user = states[site.first].user
    image = site.image("api", target.digest)
    try:
        site.first.run(commands.migrate(site.env, site.token, user, image))
    except CommandFailed as error:
        said = [line for line in (error.said.strip() or error.out).splitlines() if line.strip()]
        show(site, site.first, said[-LOG_LINES:])
        raise Refused(
            f"the database could not be migrated: {error.what}",
            hint="its last lines are above; nothing was changed",
        ) from error
    site.say("the database has the schema of this release")


def start_proxies(site: Site, states: States) -> None:
    """Start the proxy where there is none; one that runs is left as it is."""
    wanted = proxy_instance(site)
    missing = tuple(h for h, s in states.items() if s.proxy is None)
    stopped = tuple(h for h, s in states.items() if s.proxy and not s.proxy.running)
    outdated = [h.name for h, s in states.items() if s.proxy and proxy_label(s) != wanted]
    if outdated:
        site.say(f"the proxy on {', '.join(outdated)} has older settings: `inv proxy-upgrade`")
    site.on_all(
        lambda h: commands.holding(site.directory, site.token, "docker", "start", PROXY), stopped
    )
    write_proxy_files(site, missing, wanted)
    site.on_all(
        lambda h: commands.start_proxy(
            site.env, site.token, PROXY, states[h].user, wanted, {PROXY_LABEL: wanted}
        ),
        missing,
    )
    if missing:
        site.say(f"proxy started on {', '.join(h.name for h in missing)}")


def write_proxy_files(site: Site, hosts: tuple[Host, ...], instance: str) -> None:
    """The configuration and the certificate of a proxy, on some hosts."""
    for path, content in commands.proxy_files(site.env, instance).items():
        site.on_all(
            lambda h, path=path, content=content: commands.write_file(  # type: ignore[misc]
                site.directory, site.token, path, content
            ),
            hosts,
        )


def proxy_instance(site: Site) -> str:
    """The name of a proxy with the settings of the environment."""
    parts = [site.env.proxy.image, RUN_NGINX, *commands.proxy_files(site.env, "").values()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def proxy_label(state: HostState) -> str:
    """The name of the proxy that runs."""
    return state.proxy.labels.get(PROXY_LABEL, "") if state.proxy else ""


def set_aside(site: Site, states: States) -> None:
    """Stop what the idle colour runs, and keep it for the case that this release fails."""
    site.on_all(
        lambda h: commands.set_aside(site.directory, site.token, states[h].idle), tuple(states)
    )


def put_back(site: Site, states: States) -> None:
    """Remove what was started in the idle colour, and start again what was set aside for it.

    Hosts that do not answer are left out: the next command finds them as they are.
    """
    _, failed = site.fleet.each(
        lambda h: h.run(_put_back(site, states[h])),
        tuple(states),
    )
    for error in failed.values():
        site.say(f"left as it is: {error.what}")


def _put_back(site: Site, state: HostState) -> Command:
    former = state.service(state.idle)
    spare = former is not None and not state.canary
    start = former is None or former.running
    return commands.put_back(site.directory, site.token, state.idle, spare, start)


def start_idle(site: Site, states: States, target: Target, *, back: bool) -> None:
    """Start the release in the idle colour of every host and wait until it is healthy.

    :param back: it is an older release than the live one.
    """
    labels = {RELEASE: target.release, DIGEST: target.digest, TRAINING: target.training}
    if back:
        labels[BACK] = "yes"
    image = site.image("api", target.digest)
    site.on_all(
        lambda h: commands.start_service(
            site.env, site.token, states[h].idle, states[h].user, image, labels
        ),
        tuple(states),
    )
    wait_healthy(site, {h: s.idle for h, s in states.items()})
    places = ", ".join(f"{h.name} ({s.idle})" for h, s in states.items())
    site.say(f"{target.release}: healthy on {places}")


def wait_healthy(site: Site, colours: dict[Host, str]) -> None:
    """Wait until a colour of each host is healthy.

    :raises Refused: with the last lines of the log of one that is not.
    """
    limit = site.env.release.health_timeout
    answers = site.on_all(
        lambda h: commands.wait_healthy(site.directory, colours[h], limit), tuple(colours)
    )
    sick = {h: text for h, text in answers.items() if text.strip() != "healthy"}
    for host, text in sick.items():
        why, _, lines = text.strip().partition("\n")
        site.say(f"{host.name}: {why}; the last lines of {service_name(colours[host])}:")
        show(site, host, lines.splitlines())
    if sick:
        why = next(iter(sick.values())).partition("\n")[0]
        raise Refused(
            f"the release is not healthy on {', '.join(h.name for h in sick)}: {why}",
            hint="its last lines are above",
        )


def try_out(site: Site, release: str, colours: dict[Host, str], *, reaching: bool = False) -> None:
    """Smoke-test a release on every host.

    :param colours: the colour to ask; empty: whatever riders get.
    :param reaching: each must reach its database.
    :raises Refused: naming the host, the request and the answer.
    """
    if site.dry:
        for host, colour in colours.items():
            whom = f"of {colour}" if colour else "as riders get it"
            site.say(
                f"{host.name}: through the proxy, {whom}: "
                "GET /health /ready /version /stations, POST /predict"
            )
        return
    env = site.env

    def one(host: Host) -> str:
        front = site.front(host)
        with host.tunnel(front.port) as port:
            key = env.release.smoke_key.get_secret_value()
            ask = asking(port, front.tls, colours[host], key)
            try:
                return smoke(ask, release, env.release.smoke_station, reaching=reaching)
            except Refused as error:
                error.what = f"{host.name}: {error.what}"
                raise

    seen, failed = site.fleet.each(one, tuple(colours))
    if failed:
        # Riders' own colour goes on, and its log is there to be read.
        refused = [host for host, error in failed.items() if isinstance(error, Refused)]
        show_logs(site, {h: service_name(colours[h]) for h in refused if colours[h]})
        raise together(failed)
    site.say(f"{release}: smoke test passed on {_names(colours)}; {next(iter(seen.values()), '')}")


def prepare(
    site: Site, states: States, target: Target, *, migrating: bool, back: bool = False
) -> None:
    """Everything up to the switch; riders still have what they had.

    :param back: it is an older release than the live one.
    """
    pull(site, states, target)
    write_secrets(site, states)
    if migrating:
        migrate(site, states, target)
    start_proxies(site, states)
    set_aside(site, states)
    start_idle(site, states, target, back=back)
    # A way back must be open while the database is down; a way forward is not.
    try_out(site, target.release, {h: s.idle for h, s in states.items()}, reaching=migrating)


def swap_refresher(site: Site, states: States, colours: dict[Host, str], target: Target) -> None:
    """Let the release's own training image keep the table fresh, on the first host alone.

    :param colours: the colour of every host that riders have from now on.
    """
    stop_refreshers(site, states)
    host = site.first
    if host not in states or not target.training:
        return
    labels = {RELEASE: target.release, DIGEST: target.training}
    image = site.image("training", target.training)
    env, user = site.env, states[host].user
    command = commands.start_refresher(env, site.token, colours[host], user, image, labels)
    host.run(command)
    site.say(f"{target.release}: refresher started on {host.name}")


def see_refresher(site: Site, colour: str) -> None:
    """Warn of a refresher that does not stay.

    No failure of the release: its answers are right, and only age until a refresher runs.
    """
    host, name = site.first, refresher_name(colour)
    text = host.run(commands.see_running(name)).strip()
    if text != "running":
        why, _, lines = text.partition("\n")
        site.say(
            f"warning: no refresher keeps the forecasts fresh: {name} on {host.name} does not "
            f"stay, {why}; mend what it says and deploy again:"
        )
        show(site, host, lines.splitlines())


def stop_refreshers(site: Site, states: States) -> None:
    """No refresher runs any more; those of a colour that stays are kept."""
    running = {
        h: [refresher_name(c) for c in COLOURS if (r := s.refresher(c)) and r.running]
        for h, s in states.items()
    }
    site.on_all(
        lambda h: commands.kill(site.directory, site.token, *running[h]),
        tuple(h for h, names in running.items() if names),
    )


def show_logs(site: Site, containers: dict[Host, str]) -> None:
    """The last lines of containers that failed, where they can still be had."""
    found, _ = site.fleet.each(
        lambda h: h.run(commands.last_lines(site.directory, containers[h])), tuple(containers)
    )
    for host, text in found.items():
        show(site, host, text.strip().splitlines())


def show(site: Site, host: Host, lines: Iterable[str]) -> None:
    """What something on a host said."""
    for line in lines:
        site.say(f"{host.name}|   {line}")


def _names(hosts: Iterable[Host]) -> str:
    return ", ".join(h.name for h in hosts)
