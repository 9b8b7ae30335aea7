"""Which colour gets how many requests, who watches over it, and what the proxy's log says."""

import json
from dataclasses import replace

from bikecast.ops.commands.base import (
    Command,
    LOCK_EXPIRES,
    LOG_OPTIONS,
    UNPRIVILEGED,
    WATCH,
    script,
)
from bikecast.ops.commands.containers import _labels
from bikecast.ops.commands.locks import GUARD, HOLDING, holding
from bikecast.ops.environment import Environment

SWITCH = HOLDING + """
if [ ! -d "traffic/sets/$3" ]; then
  new=$(mktemp -d traffic/.new.XXXXXX) && chmod 755 "$new" || exit 1
  i=0; while [ $i -lt "$3" ]; do : > "$new/$i" || exit 1; i=$((i + 1)); done
  mv -T "$new" "traffic/sets/$3" || exit 1
fi
rm -f traffic/.next && ln -s "sets/$3" traffic/.next && mv -T traffic/.next traffic/green
"""


def switch(directory: str, token: str, green: int) -> Command:
    """Give green this percentage of the requests, in one rename, if the lock is still ours."""
    return replace(script(SWITCH, directory, token, green, what="switching"), timeout=30)


# Runs in a container of its own, so that it survives a reboot, and never ends: whoever takes the
# lock next removes it. It acts for one deployer alone, whose heartbeat stopped or whose lock was
# broken: one that gave its lock back, or lost it to another, has left the traffic as it is to be.
WATCHING = """
cd "$1" || exit 66
while sleep 1; do
  [ "$(readlink traffic/green)" != "sets/$3" ] || continue
  exec 9>>guard; flock 9
  owner=$(cat lock/token 2>/dev/null)
  age=$(($(date +%s) - $(stat -c %Y lock/token 2>/dev/null || echo 0)))
  [ -n "$owner" ] || [ "$(cat broken 2>/dev/null)" != "$2" ] || owner=$2 age=$4
  if [ "$owner" = "$2" ] && [ "$age" -ge "$4" ]; then
    rm -f traffic/.next && ln -s "sets/$3" traffic/.next && mv -T traffic/.next traffic/green &&
    printf '%s\n' "$5" >> history.jsonl
  fi
  exec 9>&-
done
"""


def start_watch(
    env: Environment, token: str, user: str, green: int, entry: dict[str, object]
) -> Command:
    """Watch over a canary: once its deployer gives no sign of life, the traffic goes back.

    :param green: the percentage of green to go back to.
    :param entry: what is then written into the log of releases.
    """
    directory = env.hosts.directory
    words = script(WATCHING, directory, token, green, LOCK_EXPIRES, json.dumps(entry)).argv
    starting = holding(
        *(directory, token, "docker", "run", "--detach", "--name", WATCH, "--user", user),
        *("--network", "none", *UNPRIVILEGED, *LOG_OPTIONS, *_labels(env, {})),
        *("--volume", f"{directory}:{directory}", "--entrypoint", words[0], env.proxy.image),
        *words[1:],
    )
    return replace(starting, what=f"starting {WATCH}")


# The window ends where the next one begins, by the host's clock. A line has the time of the turn of
# nginx in which it is written; the pause is for one that is just being written. Where the log was
# put aside while it was read, a piece between the two may have been missed.
TRAFFIC = """
cd "$1" || exit 66
pieces() { stat -c %i proxy/*/log/access.log 2>/dev/null; }
at=$(pieces) || [ -z "$(ls proxy)" ] ||
  { echo "its proxy writes no log that can be read: inv proxy-upgrade" >&2; exit 1; }
now=$(date +%s.%N); [ "$2" != now ] || { echo "now $now"; exit 0; }
sleep 0.1
while :; do
  lines=$(cat proxy/*/log/access.log.1 proxy/*/log/access.log 2>/dev/null |
    awk -v since="$2" -v until="$now" '$1 >= since && $1 < until')
  was=$at at=$(pieces); [ "$was" != "$at" ] || break
done
printf '%s\\n' "$lines"
echo "now $now"; echo "wish $(cat lock/wish 2>/dev/null)"
for c in blue green; do docker inspect -f "state $c {{.State.Status}} {{.RestartCount}}" \
bikecast-$c 2>/dev/null; done; :
"""


def traffic(directory: str, since: str) -> Command:
    """The proxy's log since a moment of the host's clock (``now`` to begin), and a new moment."""
    asking = script(TRAFFIC, directory, since, what="reading the proxy's log")
    return replace(asking, reads=True)


WISH = GUARD + """
[ "$(cat lock/owner 2>/dev/null)" = "$2" ] ||
  { echo "its deployer is not at work any more" >&2; exit 1; }
if [ -n "$3" ]; then printf %s "$3" > lock/wish; else rm -f lock/wish; fi
"""


def wish(directory: str, owner: str, word: str) -> Command:
    """Tell whoever holds the lock of a canary what to do.

    :param owner: as the lock was found; nobody else is told.
    :param word: ``promote`` or ``abort``; empty takes it back.
    """
    what = f"asking to {word}" if word else "taking back what was asked"
    return script(WISH, directory, owner, word, what=what)
