"""The proxy's files, its start, and its replacement."""

from dataclasses import replace

from bikecast.ops.commands.base import Command, LOG_OPTIONS, PROXY, UNPRIVILEGED, script
from bikecast.ops.commands.containers import _labels
from bikecast.ops.commands.locks import HOLDING, OURS
from bikecast.ops.environment import Environment
from bikecast.ops.traffic import configuration


def proxy_files(env: Environment, instance: str) -> dict[str, str]:
    """The files of a proxy by their path below the directory."""
    tls = env.proxy.tls
    folder = f"proxy/{instance}"
    balancers = map(str, env.proxy.balancers)
    nginx = configuration(env.proxy.port, tls is not None, instance, balancers)
    files = {f"{folder}/nginx.conf": nginx}
    if tls:
        files[f"{folder}/tls/certificate.pem"] = tls.certificate
        files[f"{folder}/tls/key.pem"] = tls.key.get_secret_value()
    return files


# The log goes into files, not to the engine: nginx would wait for an engine that takes no log. The
# two newest pieces hold more than a minute of 2,000 requests a second.
LOG_PIECE = 4_000_000  # bytes
RUN_NGINX = """
cd /log || exit 1
while sleep 5; do
  for log in access.log error.log; do
    # Where a new one could not be made, for want of room, or somebody took it away.
    [ -e "$log" ] || { kill -USR1 1; continue; }
    [ "$(stat -c %s "$log")" -lt PIECE ] || { mv "$log" "$log.1" && kill -USR1 1; }
  done
done &
exec nginx -c /etc/bikecast/nginx.conf -g "daemon off;"
""".replace("PIECE", str(LOG_PIECE))
START_PROXY = OURS + 'mkdir -p "$1/proxy/$3/log" || exit 1; shift 3; exec "$@"'


def start_proxy(
    env: Environment, token: str, name: str, user: str, instance: str, labels: dict[str, str]
) -> Command:
    """Start a proxy on the host's own network, where it sees who asks."""
    directory = env.hosts.directory
    tls = ("--volume", f"{directory}/proxy/{instance}/tls:/tls:ro") if env.proxy.tls else ()
    words = (
        *("docker", "run", "--detach", "--name", name, "--user", user),
        *("--network", "host", *UNPRIVILEGED, *LOG_OPTIONS, *_labels(env, labels)),
        *("--volume", f"{directory}/traffic:/traffic:ro"),
        *("--volume", f"{directory}/sockets:/sockets:ro"),
        *("--volume", f"{directory}/proxy/{instance}:/etc/bikecast:ro", *tls),
        # Unlike a volume, never made anew by the engine, as root, where it is missing.
        *("--mount", f"type=bind,source={directory}/proxy/{instance}/log,target=/log"),
        *("--stop-signal", "SIGQUIT", "--entrypoint", "sh", env.proxy.image, "-c", RUN_NGINX),
    )
    return script(START_PROXY, directory, token, instance, *words, what=f"starting {name}")


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
    return replace(script(WAIT_PROXY, name, what="waiting for the proxy"), pretend="up")


def announce(directory: str, token: str, instance: str) -> Command:
    """Let a proxy end each of its connections with the next answer, and say so there."""
    text = HOLDING + ': > "traffic/leaving/$3"'
    return script(text, directory, token, instance, what="letting the old proxy leave")


# Where a replacement was cut off, the next proxy runs and has not got its name yet.
ADOPT_PROXY = "docker inspect PROXY >/dev/null 2>&1 || docker rename PROXY-next PROXY"


def adopt_proxy(directory: str, token: str) -> Command:
    """Give the next proxy its name, where the former one is gone."""
    text = OURS + ADOPT_PROXY.replace("PROXY", PROXY)
    return script(text, directory, token, what="naming the next proxy")


REPLACE_PROXY = OURS + """
[ "$(docker inspect -f '{{.State.Running}}' PROXY-next 2>/dev/null)" = true ] ||
  { echo "the next proxy does not run" >&2; exit 1; }
cd "$1" && docker stop --time 60 PROXY >/dev/null && docker rm PROXY >/dev/null &&
docker rename PROXY-next PROXY && rm -rf "traffic/leaving/$3" "proxy/$3"
"""


def replace_proxy(directory: str, token: str, instance: str) -> Command:
    """Let the old proxy finish what it has in flight, and put the next one in its place."""
    text = REPLACE_PROXY.replace("PROXY", PROXY)
    replacing = script(text, directory, token, instance, what="replacing the proxy")
    return replace(replacing, timeout=90)
