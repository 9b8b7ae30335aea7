"""Ask a host how things stand, and its log of releases."""

import json
from dataclasses import replace

from bikecast.ops.commands.base import Command, LABEL, LOG_LINES, LOOK_WITHIN, PROXY_LABEL, script
from bikecast.ops.commands.locks import HOLDING

FORMAT = (
    '{"name":{{json .Name}},"status":{{json .State.Status}},"created":{{json .Created}},'
    '"started":{{json .State.StartedAt}},"restarts":{{json .RestartCount}},'
    '"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}""{{end}},'
    '"labels":{{json .Config.Labels}},"image":{{json .Config.Image}}}'
)
LOOK = """
command -v docker >/dev/null || { echo "no docker"; exit 0; }
cd "$1" 2>/dev/null && [ -L traffic/green ] || { echo absent; exit 0; }
echo "clock $(date +%s.%N)"
echo "user $(id -u):$(id -g)"
echo "green $(readlink traffic/green)"
if [ -d lock ]; then
  beat=$(stat -c %Y lock/token 2>/dev/null || date +%s)
  echo "lock $(($(date +%s) - beat)) $(cat lock/owner 2>/dev/null)"
fi
ids=$(docker ps -aq --filter "label=$2=$1") || exit 1
[ -z "$ids" ] || docker inspect -f "$3" $ids | sed 's/^/container /'
for i in proxy/*; do
  port=$(sed -n '/listen/{s/[^0-9]*\\([0-9]*\\).*/\\1/p;q}' "$i/nginx.conf" 2>/dev/null)
  [ -z "$port" ] || echo "front ${i#*/} $port $(base64 -w0 "$i/tls/certificate.pem" 2>/dev/null)"
done
"""


def look(directory: str) -> Command:
    """Ask a host how things stand: one line per fact, see :mod:`bikecast.ops.state`."""
    looking = script(LOOK, directory, LABEL, FORMAT, what="looking at it")
    return replace(looking, reads=True, timeout=LOOK_WITHIN)


REACH = """
[ -L "$1/traffic/green" ] || { echo "it is not set up: run inv setup" >&2; exit 1; }
try=$(mktemp "$1/.try.XXXXXX") || exit 1
echo "room for a line" > "$try"; wrote=$?; rm -f "$try"; exit $wrote
"""


def reach(directory: str) -> Command:
    """Connect, and see that the host was set up and can be written to."""
    return script(REACH, directory, what="trying to write there")


HISTORY = 'tail -n "$2" "$1/history.jsonl" 2>/dev/null; :'


def history(directory: str, lines: int) -> Command:
    """The newest lines of the host's log of releases."""
    return replace(
        script(HISTORY, directory, lines, what="reading its log of releases"), reads=True
    )


RECORD = HOLDING + 'printf "%s\\n" "$3" >> history.jsonl'


def record(directory: str, token: str, entry: dict[str, object]) -> Command:
    """Append one line to the host's log of releases; lines are never changed."""
    return script(RECORD, directory, token, json.dumps(entry), what="writing its log of releases")


# A proxy writes what it has to say into files of its own.
LAST_LINES = """
docker logs --tail "$2" "$1" 2>&1
proxy=$(docker inspect -f '{{index .Config.Labels "PROXY"}}' "$1" 2>/dev/null)
[ -n "$proxy" ] && cd "$3/proxy/$proxy/log" || exit 0
for of in access error; do cat $of.log.1 $of.log 2>/dev/null | tail -n "$2"; done; :
""".replace("PROXY", PROXY_LABEL)


def last_lines(directory: str, container: str, lines: int = LOG_LINES) -> Command:
    """What a container said last, errors included; of a proxy that many of each of its files."""
    return replace(
        script(LAST_LINES, container, lines, directory, what=f"reading the log of {container}"),
        reads=True,
    )
