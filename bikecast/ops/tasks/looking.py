"""``inv setup``, ``status``, ``releases``, ``smoke``, ``logs`` and ``exec``: look at the hosts."""

import shlex
import sys
import time
from collections.abc import Iterable
from json import dumps

from invoke import Context, Exit, task

from bikecast.errors import BikecastError, CommandFailed, InputError, UnknownName
from bikecast.ops import commands, setup
from bikecast.ops.host import Host, together
from bikecast.ops.preparing import try_out
from bikecast.ops.release import HISTORY
from bikecast.ops.reports import Row, advice, merged, row_of
from bikecast.ops.setup import Finding
from bikecast.ops.site import Site, look_if_up
from bikecast.ops.smoke import asking, expect
from bikecast.ops.state import Container, HostState, parse_history, parse_state
from bikecast.ops.tasks.common import confirm, helped, told
from bikecast.ops.tasks.work import site_of

PLACES = ("live", "idle", "proxy", "refresher")


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


@task(name="setup", help=helped("env", "dry", "json"))  # type: ignore[untyped-decorator]
def setup_task(
    context: Context, env: str = "staging", dry: bool = False, json: bool = False
) -> None:
    """Check that the hosts are fit for releases, and prepare them: inv setup --env staging.

    Says what is missing and how to get it. Nothing that is there is changed; run it as often as
    you like.
    """
    with told(), site_of(context, env, dry) as site:
        answers, gone = site.fleet.each(lambda h: h.run(setup.ask(site.env)))
        found = {h.name: setup.findings(text, site.env, time.time()) for h, text in answers.items()}
        found |= {h.name: [Finding("SSH", False, error.what)] for h, error in gone.items()}
        if json:
            print(dumps({name: [vars(f) for f in of] for name, of in found.items()}, indent=2))
        for name, of in () if json else found.items():
            for finding in of:
                mark = "✓" if finding.fine else "✗"
                remedy = "" if finding.fine else f": {finding.remedy}"
                print(f"{name} {mark} {finding.what}{remedy}")
        if gone:
            raise together(gone)
        unfit = [name for name, of in found.items() if not all(f.fine for f in of)]
        if unfit:
            raise InputError(f"not fit yet: {', '.join(unfit)}", hint="see the lines marked ✗")
        site.on_all(lambda h: commands.prepare(site.directory))
        site.say(f"{', '.join(found)}: ready for `inv deploy --env {env}`")


@task(help=helped("env", "json"))  # type: ignore[untyped-decorator]
def status(context: Context, env: str = "staging", json: bool = False) -> None:
    """Ask every host what runs, and warn of what is not as it should be: inv status.

    Exit code 1 where something needs to be mended.
    """
    with told(), site_of(context, env) as site:
        states, gone = look_if_up(site)
        models, _ = site.fleet.each(lambda h: _model(site, h), tuple(states))
        rows = [row_of(h.name, s, models.get(h, "")) for h, s in states.items()]
        rows += [Row(h.name, error=error.what) for h, error in gone.items()]
        warnings = advice(rows, {h.name: s for h, s in states.items()})
        if json:
            print(dumps({"hosts": [vars(r) for r in rows], "warnings": warnings}, indent=2))
        else:
            columns = [name for name in Row.__annotations__ if name != "error"]
            show(env, columns, [r.cells() for r in rows])
            for line in warnings:
                print(f"! {line}")
    if warnings:
        raise Exit(code=1)


def _model(site: Site, host: Host) -> str:
    """The model that riders get answers of; empty where that cannot be asked."""
    try:
        front = site.front(host)
        with host.tunnel(front.port) as port:
            key = site.env.release.smoke_key.get_secret_value()
            answer = expect(asking(port, front.tls, key=key), "GET", "/model")
            return f"{answer.get('name', '')} {answer.get('version', '')}".strip()
    except BikecastError:
        return ""


@task(help=helped("env", "json", last="How many of the newest."))  # type: ignore[untyped-decorator]
def releases(context: Context, env: str = "staging", last: int = 20, json: bool = False) -> None:
    """List who released what, when, and how it ended: inv releases.

    Exit code 3 where a host does not tell; the others do all the same.
    """
    with told(), site_of(context, env) as site:
        command = commands.history(site.directory, HISTORY)
        found, gone = site.fleet.each(lambda h: parse_history(h.run(command)))
        entries = merged(found)[-last:]
        columns = ["at", "who", "action", "release", "verdict", "hosts"]
        if json:
            print(dumps(entries, indent=2))
        else:
            show(env, columns, [[str(e[c]) for c in columns] for e in entries])
        if gone:
            raise together(gone)


@task(help=helped("env"))  # type: ignore[untyped-decorator]
def smoke(context: Context, env: str = "staging") -> None:
    """Try what riders get on every host: inv smoke --env staging."""
    with told(), site_of(context, env) as site:
        states, gone = look_if_up(site)
        for release, hosts in _by_release(states).items():
            try_out(site, release, dict.fromkeys(hosts, ""))
        if gone:
            raise together(gone)


def _by_release(states: dict[Host, HostState]) -> dict[str, list[Host]]:
    found: dict[str, list[Host]] = {}
    for host, state in states.items():
        # While a canary runs either may answer.
        found.setdefault("" if state.canary else state.release, []).append(host)
    return found


@task(  # type: ignore[untyped-decorator]
    help=helped(
        *("env", "json"),
        of="live, idle, proxy or refresher.",
        host="Only this host.",
        lines="How many of the newest lines; of the proxy, in each of its logs.",
    )
)
def logs(
    context: Context,
    env: str = "staging",
    of: str = "live",
    host: str = "",
    lines: int = 50,
    json: bool = False,
) -> None:
    """Show the newest log lines of the service, the proxy or the refresher: inv logs --of proxy.

    Exit code 3 where a host does not answer; the lines of the others are shown all the same.
    """
    with told(), site_of(context, env) as site:
        if of not in PLACES:
            raise InputError(f"--of is {of!r}", hint=f"write one of {', '.join(PLACES)}")
        asked, gone = site.fleet.each(lambda h: _log(site, h, of, lines), _chosen(site, host))
        found = {h: text for h, text in asked.items() if text is not None}
        if json:
            print(dumps({h.name: text.splitlines() for h, text in found.items()}, indent=2))
        for each, text in () if json else found.items():
            for line in text.splitlines():
                print(f"{each.name}| {line}")
        if gone:
            raise together(gone)
        absent = [h for h in asked if h not in found]
        if absent and (of != "refresher" or not found):  # which runs on one host alone
            raise _absent(of, absent)


def _log(site: Site, host: Host, of: str, lines: int) -> str | None:
    """The newest lines of a container; None where the host has none of that kind."""
    container = _container(parse_state(host.run(commands.look(site.directory))), of)
    return (
        host.run(commands.last_lines(site.directory, container.name, lines)) if container else None
    )


@task(  # type: ignore[untyped-decorator]
    name="exec",
    positional=["command"],
    help=helped(
        *("env", "yes"),
        command="Words for `bikecast`, quoted as one; may include --json.",
        of="live or refresher, which has MLflow.",
        host="Another host than the first.",
        json="Print one JSON document around what the command printed.",
    ),
)
def execute(
    context: Context,
    command: str,
    env: str = "staging",
    host: str = "",
    of: str = "live",
    yes: bool = False,
    json: bool = False,
) -> None:
    """Run a bikecast command in a container of one host: inv exec "db status --json".

    Its output and its exit code are passed on.
    """
    with told(), site_of(context, env) as site:
        if site.env.protected:
            confirm(f"run bikecast {command} in {env}", yes)
        if of not in ("live", "refresher"):
            raise InputError(f"--of is {of!r}", hint="write live or refresher")
        each = _chosen(site, host)[0]
        state = parse_state(each.run(commands.look(site.directory)))
        container = _container(state, of)
        if container is None:
            raise _absent(of, [each])
        code, said = 0, ""
        try:
            words = shlex.split(command)
            out = each.run(commands.bikecast_in(container.name, site.who, tuple(words)))
        except CommandFailed as error:
            code, out, said = error.code, error.out, error.said
    if json:
        print(dumps({"host": each.name, "container": container.name, "code": code, "out": out}))
    else:
        print(out, end="")
    print(said, end="", file=sys.stderr)
    if code:
        raise Exit(code=code)


def _chosen(site: Site, name: str) -> tuple[Host, ...]:
    found = tuple(h for h in site.fleet.hosts if name in ("", h.name))
    if not found:
        names = ", ".join(h.name for h in site.fleet.hosts)
        raise InputError(f"no host {name!r} here", hint=f"there are {names}")
    return found


def _container(state: HostState, of: str) -> Container | None:
    """A container by its place, where the host has one there."""
    if of == "proxy":
        return state.proxy
    if of == "idle":
        return state.service(state.idle)
    if state.live is None:
        return None
    return state.service(state.live) if of == "live" else state.refresher(state.live)


def _absent(of: str, hosts: Iterable[Host]) -> UnknownName:
    names = ", ".join(h.name for h in hosts)
    whom = of if of in ("proxy", "refresher") else f"{of} service"
    return UnknownName(f"there is no {whom} on {names}", hint="see `inv status`")
