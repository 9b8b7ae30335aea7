"""What is run on a host: values in, commands out; nothing here runs anything.

A command that changes something carries the token of the lock that it needs: the host itself
refuses it, with exit code :data:`LOST`, once the lock is somebody else's. A deployer that was
stopped and wakes up late changes nothing.
"""

import json
import shlex
from dataclasses import dataclass, replace

from bikecast.ops.environment import Environment
from bikecast.ops.traffic import COLOURS, configuration

LOST = 75  # EX_TEMPFAIL of sysexits.h: the lock is not (or no longer) ours
PROXY = "bikecast-proxy"
NEXT_PROXY = "bikecast-proxy-next"
WATCH = "bikecast-watch"
LABEL = "bikecast.directory"
LOCK_EXPIRES = 30  # seconds without a heartbeat
LOG_OPTIONS = ("--log-driver", "json-file", "--log-opt", "max-size=20m", "--log-opt", "max-file=3")
UNPRIVILEGED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # nosec B108  # in a container
    *("--security-opt", "no-new-privileges", "--restart", "unless-stopped"),
)
LOG_LINES = 20
LOOK_WITHIN = 20.0  # seconds; an engine that takes longer does not answer


@dataclass(frozen=True)
class Command:
    """One command for one host.

    :param argv: its words; quoted for the shell by :meth:`text`.
    :param stdin: what it reads, such as a secret; never shown.
    :param reads: it changes nothing, so a dry run may run it too.
    :param pretend: what a dry run takes for its output where it changes something.
    :param timeout: seconds; None takes the environment's.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    reads: bool = False
    pretend: str = ""
    timeout: float | None = None

    def text(self) -> str:
        """As a shell reads it."""
        return shlex.join(self.argv)


def script(text: str, *arguments: object) -> Command:
    """A shell script with its arguments as ``$1``, ``$2`` …"""
    return Command(("sh", "-c", text.strip(), "bikecast", *map(str, arguments)))


def service_name(colour: str) -> str:
    """The container of a colour."""
    return f"bikecast-{colour}"


def refresher_name(colour: str) -> str:
    """The container that keeps the forecast table fresh, beside the service of a colour."""
    return f"bikecast-refresher-{colour}"


# -- looking ---------------------------------------------------------------------------------------

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
"""


def look(directory: str) -> Command:
    """Ask a host how things stand: one line per fact, see :mod:`bikecast.ops.state`."""
    return replace(script(LOOK, directory, LABEL, FORMAT), reads=True, timeout=LOOK_WITHIN)


REACH = """
[ -L "$1/traffic/green" ] || { echo "it is not set up: run inv setup" >&2; exit 1; }
try=$(mktemp "$1/.try.XXXXXX") || exit 1
echo "room for a line" > "$try"; wrote=$?; rm -f "$try"; exit $wrote
"""


def reach(directory: str) -> Command:
    """Connect, and see that the host was set up and can be written to."""
    return script(REACH, directory)


HISTORY = 'tail -n "$2" "$1/history.jsonl" 2>/dev/null; :'


def history(directory: str, lines: int) -> Command:
    """The newest lines of the host's log of releases."""
    return replace(script(HISTORY, directory, lines), reads=True)


def record(directory: str, entry: dict[str, object]) -> Command:
    """Append one line to the host's log of releases; lines are never changed."""
    return script('printf "%s\\n" "$2" >> "$1/history.jsonl"', directory, json.dumps(entry))


def last_lines(container: str, lines: int = LOG_LINES) -> Command:
    """What a container said last, errors included."""
    return replace(script('docker logs --tail "$2" "$1" 2>&1; :', container, lines), reads=True)


# -- the lock --------------------------------------------------------------------------------------

# Whoever takes, keeps or uses the lock does so behind the same flock, one at a time. The age of a
# lock is that of its heartbeat by the host's own clock, so clocks that differ do not matter.
GUARD = 'cd "$1" || exit 66; exec 9>>guard; flock -w 10 9 || exit 75; '
HOLDING = GUARD + '[ "$(cat lock/token 2>/dev/null)" = "$2" ] || exit 75; '
TAKE = GUARD + """
if ! mkdir lock 2>/dev/null; then
  [ -d lock ] || mkdir lock || exit 1
  if [ "$(cat lock/token 2>/dev/null)" != "$2" ]; then
    age=$(($(date +%s) - $(stat -c %Y lock/token 2>/dev/null || stat -c %Y lock)))
    owner=$(cat lock/owner 2>/dev/null)
    if [ "$age" -lt "$4" ] && [ "$owner" != "$5" ]; then echo "held $age $owner"; exit 0; fi
    echo "over $age $owner"
  fi
fi
{ printf %s "$3" > lock/owner && printf %s "$2" > lock/token; } || { rm -rf lock; exit 1; }
"""


def take_lock(directory: str, token: str, owner: str, dead: str = "") -> Command:
    """Take the lock: nothing is printed, or ``held AGE OWNER``, or ``over AGE OWNER`` taken over.

    :param owner: one line of JSON that says who, why, from where.
    :param dead: an owner that is known to have ended: its lock is taken over at once.
    """
    return script(TAKE, directory, token, owner, LOCK_EXPIRES, dead or "-")


def keep_lock(directory: str, token: str) -> Command:
    """The heartbeat: the lock is still in use."""
    return script(HOLDING + "touch lock/token", directory, token)


def release_lock(directory: str, token: str) -> Command:
    """Give the lock back."""
    return script(HOLDING + "rm -rf lock", directory, token)


def break_lock(directory: str) -> Command:
    """Take the lock away from whoever has it; prints who that was."""
    return script(GUARD + "cat lock/owner 2>/dev/null; rm -rf lock", directory)


# For what takes longer than others should wait behind the flock.
OURS = '[ "$(cat "$1/lock/token" 2>/dev/null)" = "$2" ] || exit 75; '


def holding(directory: str, token: str, *argv: str) -> Command:
    """A command that is run only while the lock is ours."""
    return script(OURS + 'shift 2; exec "$@"', directory, token, *argv)


# -- preparing a colour ----------------------------------------------------------------------------

# At first green has all requests and nothing that answers: the first release goes to blue, where
# nobody reaches it before it was tried.
PREPARE = """
cd "$1" && umask 022 && mkdir -p traffic/sets/0 traffic/leaving proxy sockets/blue sockets/green &&
mkdir -p -m 700 secrets && touch guard || exit 1
[ ! -L traffic/green ] || exit 0
mkdir -p traffic/sets/100 || exit 1
i=0; while [ $i -lt 100 ]; do : > "traffic/sets/100/$i" || exit 1; i=$((i + 1)); done
ln -s sets/100 traffic/green
"""


def prepare(directory: str) -> Command:
    """The folders that a release needs; nothing that is there is changed."""
    return script(PREPARE, directory)


PULL = """
export DOCKER_CONFIG=$(mktemp -d) || exit 1
trap 'rm -rf "$DOCKER_CONFIG"' EXIT
if [ -n "$2" ]; then docker login --username "$2" --password-stdin "$1" >/dev/null 2>&1 ||
  { echo "the registry $1 refuses the login of $2, or does not answer" >&2; exit 1; }
fi
shift 2
for image; do docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" || exit; done
"""


def pull(registry: str, username: str, password: str, images: list[str]) -> Command:
    """Pull images that are not there yet; the login lasts as long as the command."""
    return replace(script(PULL, registry, username, *images), stdin=password)


WRITE = HOLDING + 'umask 077; mkdir -p "${3%/*}" && cat > "$3.new" && mv "$3.new" "$3"'


def write_file(directory: str, token: str, path: str, content: str) -> Command:
    """A file that only the SSH user can read, below the directory; whole or not at all."""
    return replace(script(WRITE, directory, token, path), stdin=content)


def secrets(env: Environment) -> dict[str, str]:
    """The settings of the service that must not be seen, by their file's name."""
    given = {
        "database_url": env.service.database_url.get_secret_value(),
        "mlflow_tracking_uri": env.service.mlflow_tracking_uri.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value}


def _settings(env: Environment) -> list[str]:
    plain = {
        "SYSTEM": env.service.system,
        "WORKERS": env.service.workers,
        "MODEL_NAME": env.service.model_name,
        "STALE_AFTER": env.service.stale_after,
        **{f"{name.upper()}_FILE": f"/run/secrets/{name}" for name in secrets(env)},
    }
    return [word for k, v in plain.items() for word in ("--env", f"BIKECAST_{k}={v}")]


def _secrets_mount(env: Environment, colour: str) -> tuple[str, str]:
    return "--volume", f"{env.hosts.directory}/secrets/{colour}:/run/secrets:ro"


def _labels(env: Environment, labels: dict[str, str]) -> list[str]:
    found = {LABEL: env.hosts.directory, **labels}
    return [word for k, v in found.items() for word in ("--label", f"{k}={v}")]


REMOVE = """
shift 2
for c; do ! docker inspect "$c" >/dev/null 2>&1 || docker rm -f "$c" >/dev/null || exit 1; done
"""


def remove(directory: str, token: str, *containers: str) -> Command:
    """Remove containers, running or not, there or not."""
    return script(OURS + REMOVE, directory, token, *containers)


KILL = """
shift 2
for c; do
  running=$(docker inspect -f '{{.State.Running}}' "$c" 2>/dev/null)
  [ "$running" != true ] || docker kill "$c" >/dev/null || exit 1
done
"""


def kill(directory: str, token: str, *containers: str) -> Command:
    """End containers at once: a refresher's half-written table is not kept by the database."""
    return script(OURS + KILL, directory, token, *containers)


def migrate(env: Environment, token: str, colour: str, user: str, image: str) -> Command:
    """Bring the database to the release's schema."""
    return holding(
        *(env.hosts.directory, token, "docker", "run", "--rm", "--user", user),
        *(w for w in UNPRIVILEGED if w not in ("--restart", "unless-stopped")),
        *_settings(env),
        *_secrets_mount(env, colour),
        *(image, "db", "upgrade"),
    )


def start_service(
    env: Environment, token: str, colour: str, user: str, image: str, labels: dict[str, str]
) -> Command:
    """Start a colour's service from an image; it listens on the colour's socket."""
    directory = env.hosts.directory
    return holding(
        *(directory, token, "docker", "run", "--detach", "--name", service_name(colour)),
        *("--user", user, *UNPRIVILEGED, *LOG_OPTIONS, *_labels(env, labels), *_settings(env)),
        *("--env", "BIKECAST_BIND=unix:/run/bikecast/api.sock"),
        *("--volume", f"{directory}/sockets/{colour}:/run/bikecast"),
        *_secrets_mount(env, colour),
        image,
    )


def start_refresher(
    env: Environment, token: str, colour: str, user: str, image: str, labels: dict[str, str]
) -> Command:
    """Start what keeps the forecast table fresh."""
    return holding(
        *(env.hosts.directory, token, "docker", "run", "--detach"),
        *("--name", refresher_name(colour), "--user", user, *UNPRIVILEGED, *LOG_OPTIONS),
        *(*_labels(env, labels), *_settings(env), *_secrets_mount(env, colour)),
        *(image, "forecast", "--every", "10m"),
    )


FORMER = "-former"
# The service goes last: where it was set aside, its refresher was too. No traffic comes here, so
# nothing is in flight that a gentle stop would wait for.
SET_ASIDE = """
for c in bikecast-refresher-$3 bikecast-$3; do
  docker inspect "$c" >/dev/null 2>&1 || continue
  docker rm -f "$c-former" >/dev/null 2>&1
  [ "$(docker inspect -f '{{.State.Status}}' "$c")" = exited ] || docker kill "$c" >/dev/null
  docker rename "$c" "$c-former" || exit 1
done
"""
PUT_BACK = """
is() { docker inspect "$1" >/dev/null 2>&1; }
s=bikecast-$3 r=bikecast-refresher-$3
if [ -z "$4" ] || is "$s-former"; then docker rm -f "$s" "$r" >/dev/null 2>&1; fi
! is "$s-former" || docker rename "$s-former" "$s" || exit 1
! is "$s" || [ -z "$5" ] || docker start "$s" >/dev/null || exit 1
is "$r" || ! is "$r-former" || docker rename "$r-former" "$r"
"""


def set_aside(directory: str, token: str, colour: str) -> Command:
    """End a colour that has no traffic and keep its containers under another name."""
    return script(OURS + SET_ASIDE, directory, token, colour)


def put_back(
    directory: str, token: str, colour: str, spare: bool = False, start: bool = True
) -> Command:
    """Remove a colour's containers, and bring back those that were set aside for it.

    :param spare: the colour had containers before, so those that are there now are removed only
        where the former ones were set aside already.
    :param start: the former service ran, and is to run again.
    """
    flags = ("spare" if spare else "", "start" if start else "")
    return script(OURS + PUT_BACK, directory, token, colour, *flags)


def drop_former(directory: str, token: str) -> Command:
    """Remove what was set aside, once the new release is there to stay."""
    return remove(directory, token, *(name + FORMER for name in all_names()))


# A container that ends is started again by Docker: one restart is failure enough.
HEALTHY = """
end=$(($(date +%s) + $2))
while :; do
  set -- "$1" "$2" $(docker inspect -f '{{.State.Status}} {{.RestartCount}}' "$1")
  [ "$3 $4" = "running 0" ] || { echo "it does not run: $3, restarted $4 times"; break; }
  said=$(docker exec "$1" python -I -S CHECK 2>&1) && { echo healthy; exit 0; }
  [ "$(date +%s)" -lt "$end" ] || { echo "not healthy within $2 s: $said"; break; }
  sleep 0.2
done
docker logs --tail LINES "$1" 2>&1; :
"""
HEALTHY = HEALTHY.replace("LINES", str(LOG_LINES)).replace("CHECK", "/usr/local/lib/healthcheck.py")


def wait_healthy(container: str, seconds: float) -> Command:
    """Wait until a container is healthy: prints ``healthy``, or why not and its last lines."""
    return replace(
        script(HEALTHY, container, int(seconds)), pretend="healthy", timeout=seconds + 15
    )


# -- traffic ---------------------------------------------------------------------------------------

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
    return replace(script(SWITCH, directory, token, green), timeout=30)


# Runs in a container of its own, so that it survives a reboot, and never ends: whoever takes the
# lock next removes it.
WATCHING = """
cd "$1" || exit 66
while sleep 1; do
  [ "$(readlink traffic/green)" != "sets/$3" ] || continue
  exec 9>>guard; flock 9
  owner=$(cat lock/token 2>/dev/null)
  age=$(($(date +%s) - $(stat -c %Y lock/token 2>/dev/null || echo 0)))
  if [ -z "$owner" ] || { [ "$owner" = "$2" ] && [ "$age" -ge "$4" ]; }; then
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
    return holding(
        *(directory, token, "docker", "run", "--detach", "--name", WATCH, "--user", user),
        *("--network", "none", *UNPRIVILEGED, *LOG_OPTIONS, *_labels(env, {})),
        *("--volume", f"{directory}:{directory}", "--entrypoint", words[0], env.proxy.image),
        *words[1:],
    )


# The window ends where the next one begins, by the host's clock; a line that comes late is counted
# in the next one.
TRAFFIC = """
now=$(date +%s.%N); [ "$2" != now ] || { echo "now $now"; exit 0; }
docker logs --since "$2" --until "$now" "$1" 2>/dev/null; echo "now $now"
echo "wish $(cat "$3/lock/wish" 2>/dev/null)"
for c in blue green; do docker inspect -f "state $c {{.State.Status}} {{.RestartCount}}" \
bikecast-$c 2>/dev/null; done; :
"""


def traffic(directory: str, since: str) -> Command:
    """The proxy's log since a moment of the host's clock (``now`` to begin), and a new moment."""
    return replace(script(TRAFFIC, PROXY, since, directory), reads=True)


def wish(directory: str, word: str) -> Command:
    """Tell whoever holds the lock of a canary what to do: ``promote`` or ``abort``."""
    return script(GUARD + 'printf %s "$2" > lock/wish', directory, word)


# -- the proxy -------------------------------------------------------------------------------------


def proxy_files(env: Environment, instance: str) -> dict[str, str]:
    """The files of a proxy by their path below the directory."""
    tls = env.proxy.tls
    folder = f"proxy/{instance}"
    files = {f"{folder}/nginx.conf": configuration(env.proxy.port, tls is not None, instance)}
    if tls:
        files[f"{folder}/tls/certificate.pem"] = tls.certificate
        files[f"{folder}/tls/key.pem"] = tls.key.get_secret_value()
    return files


def start_proxy(
    env: Environment, token: str, name: str, user: str, instance: str, labels: dict[str, str]
) -> Command:
    """Start a proxy on the host's own network, where it sees who asks."""
    directory = env.hosts.directory
    tls = ("--volume", f"{directory}/proxy/{instance}/tls:/tls:ro") if env.proxy.tls else ()
    return holding(
        *(directory, token, "docker", "run", "--detach", "--name", name, "--user", user),
        *("--network", "host", *UNPRIVILEGED, *LOG_OPTIONS, "--log-opt", "mode=non-blocking"),
        *_labels(env, labels),
        *("--volume", f"{directory}/traffic:/traffic:ro"),
        *("--volume", f"{directory}/sockets:/sockets:ro"),
        *("--volume", f"{directory}/proxy/{instance}:/etc/bikecast:ro", *tls),
        *("--stop-signal", "SIGQUIT", "--entrypoint", "nginx", env.proxy.image),
        *("-c", "/etc/bikecast/nginx.conf", "-g", "daemon off;"),
    )


WAIT_PROXY = """
i=0
while [ $i -lt 50 ]; do
  [ "$(docker inspect -f '{{.State.Running}} {{.RestartCount}}' "$1")" = "true 0" ] || exit 0
  docker exec "$1" test -s /tmp/nginx.pid 2>/dev/null && { echo up; exit 0; }
  i=$((i + 1)); sleep 0.1
done
"""


def wait_proxy(name: str) -> Command:
    """Wait until a proxy listens: prints ``up``, or nothing where it does not come up."""
    return replace(script(WAIT_PROXY, name), pretend="up")


def announce(directory: str, token: str, instance: str) -> Command:
    """Let a proxy end each of its connections with the next answer, and say so there."""
    return script(HOLDING + ': > "traffic/leaving/$3"', directory, token, instance)


# Where a replacement was cut off, the next proxy runs and has not got its name yet.
ADOPT_PROXY = "docker inspect PROXY >/dev/null 2>&1 || docker rename PROXY-next PROXY"


def adopt_proxy(directory: str, token: str) -> Command:
    """Give the next proxy its name, where the former one is gone."""
    return script(OURS + ADOPT_PROXY.replace("PROXY", PROXY), directory, token)


REPLACE_PROXY = OURS + """
[ "$(docker inspect -f '{{.State.Running}}' PROXY-next 2>/dev/null)" = true ] ||
  { echo "the next proxy does not run" >&2; exit 1; }
cd "$1" && docker stop --time 60 PROXY >/dev/null && docker rm PROXY >/dev/null &&
docker rename PROXY-next PROXY && rm -rf "traffic/leaving/$3" "proxy/$3"
"""


def replace_proxy(directory: str, token: str, instance: str) -> Command:
    """Let the old proxy finish what it has in flight, and put the next one in its place."""
    text = REPLACE_PROXY.replace("PROXY", PROXY)
    return replace(script(text, directory, token, instance), timeout=90)


# -- tidying ---------------------------------------------------------------------------------------

PRUNE = """
keep=" $3 "
docker images --digests --format '{{.Repository}}@{{.Digest}}' | sort -u | while read -r image; do
  case $image in "$1"@sha256:* | "$1"-*@sha256:*) ;; *) continue ;; esac
  case $keep in *" ${image#*@} "*) continue ;; esac
  docker rmi "$image" >/dev/null 2>&1 && echo "$image"
done; :
"""


def prune(directory: str, repository: str, digests: list[str]) -> Command:
    """Remove the images of releases that are not to be kept; one in use stays anyway."""
    return script(PRUNE, repository, directory, " ".join(digests))


def all_names() -> tuple[str, ...]:
    """Every container of a release."""
    return tuple(f(c) for c in COLOURS for f in (service_name, refresher_name))
