"""Is a host fit for releases, and what is missing: checks, and the folders that it needs."""

from dataclasses import dataclass, replace

from bikecast.ops.commands import Command, script
from bikecast.ops.environment import Environment

# KiB; two releases of both images take about 2 GB, all else is logs of some lines.
FOR_IMAGES = 3 << 20
FOR_FILES = 100 << 10
OLDEST_ENGINE = (20, 10)
CLOCKS_APART = 10.0  # seconds

# One line per fact; nothing is changed.
ASK = """
echo "user $(id -u) $(id -un)"
echo "clock $(date +%s.%N)"
for tool in docker flock timeout readlink mktemp; do
  command -v $tool >/dev/null || echo "missing $tool"
done
there() { at=$1; while [ ! -d "$at" ]; do at=$(dirname "$at"); done; echo "$at"; }
free() { df -Pk "$(there "$1")" | awk 'NR == 2 { print $4 }'; }
if engine=$(docker version -f '{{.Server.Version}}' 2>/dev/null); then
  root=$(docker info -f '{{.DockerRootDir}}')
  echo "engine $engine"; echo "root $root"; echo "rootfree $(free "$root")"
else echo "noengine $(docker version 2>&1 >/dev/null | tail -n 1)"; fi
[ -w "$(there "$1")" ] && echo writable || echo unwritable
echo "free $(free "$1")"
echo "lowest $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo 1024)"
hex=$(printf ':%04X' "$2")
if awk -v p="$hex" '$4 == "0A" && substr($2, length($2) - 4) == p { found = 1 }
  END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
then [ -n "$(docker ps -q --filter name=^bikecast-proxy$ 2>/dev/null)" ] || echo "taken $2"; fi
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    :param remedy: what to do about it where it is not as it should be.
    """

    what: str
    fine: bool
    remedy: str = ""


def ask(env: Environment) -> Command:
    """Ask a host for all that a release needs to know of it."""
    return replace(script(ASK, env.hosts.directory, env.proxy.port), reads=True)


def findings(text: str, env: Environment, now: float) -> list[Finding]:
    """Judge what :func:`ask` printed.

    :param now: our wall clock, seconds since 1970.
    """
    facts = dict(line.partition(" ")[::2] for line in text.splitlines() if line)
    missing = [line.split()[1] for line in text.splitlines() if line.startswith("missing ")]
    directory, port = env.hosts.directory, env.proxy.port
    uid, _, user = facts.get("user", "0 root").partition(" ")
    apart = float(facts.get("clock", now)) - now
    lowest = int(facts.get("lowest") or 1024)
    return [
        Finding(f"SSH as {user}", uid != "0", "log in as a user without root's rights"),
        Finding(
            f"tools: {', '.join(missing) + ' missing' if missing else 'all there'}",
            not missing,
            "install docker.io (or Docker's own packages), util-linux and coreutils",
        ),
        _engine(facts, user),
        Finding(
            f"{directory} can be written",
            "writable" in facts,
            f"sudo install -d -o {user} {directory}",
        ),
        _room(facts.get("free"), directory, FOR_FILES),
        *([_room(facts.get("rootfree"), facts["root"], FOR_IMAGES)] if "root" in facts else []),
        Finding(
            f"port {port} can be taken",
            "taken" not in facts and port >= lowest,
            (
                f"sudo sysctl net.ipv4.ip_unprivileged_port_start={port}"
                if port < lowest
                else "stop what listens there, or set proxy.port"
            ),
        ),
        Finding(f"clock {apart:+.1f} s from ours", abs(apart) <= CLOCKS_APART, "let NTP set it"),
    ]


def _room(free: str | None, place: str, needed: int) -> Finding:
    found = int(free or 0)
    return Finding(
        f"{found / 2**20:.1f} GiB free for {place}",
        found >= needed,
        f"make room: {needed / 2**20:.1f} GiB are needed",
    )


def _engine(facts: dict[str, str], user: str) -> Finding:
    if "engine" not in facts:
        said = facts.get("noengine", "")
        return Finding(
            f"Docker: {said or 'does not answer'}",
            False,
            f"start it, and let {user} use it: sudo usermod -aG docker {user}",
        )
    version = tuple(int(part) for part in facts["engine"].split(".")[:2] if part.isdecimal())
    return Finding(
        f"Docker {facts['engine']}", version >= OLDEST_ENGINE, "install Docker 20.10 or newer"
    )
