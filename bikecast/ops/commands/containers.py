"""Images, secrets and containers of a colour."""

from dataclasses import replace

from bikecast.ops.commands.base import (
    Command,
    LABEL,
    LOG_LINES,
    LOG_OPTIONS,
    UNPRIVILEGED,
    refresher_name,
    script,
    service_name,
)
from bikecast.ops.commands.locks import HOLDING, OURS, holding
from bikecast.ops.environment import Environment
from bikecast.ops.traffic import COLOURS

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
    return script(PREPARE, directory, what="making the folders")


# A shell that a signal ends, such as that of the time limit, runs what EXIT traps only where it
# traps the signal too.
PULL = """
export DOCKER_CONFIG=$(mktemp -d) || exit 1
trap 'rm -rf "$DOCKER_CONFIG"' EXIT
trap 'exit 143' HUP INT TERM
if [ -n "$2" ]; then docker login --username "$2" --password-stdin "$1" >/dev/null 2>&1 ||
  { echo "the registry $1 refuses the login of $2, or does not answer" >&2; exit 1; }
fi
shift 2
for image; do docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" || exit; done
"""


def pull(registry: str, username: str, password: str, images: list[str]) -> Command:
    """Pull images that are not there yet; the login lasts as long as the command."""
    pulling = script(PULL, registry, username, *images, what="pulling images")
    return replace(pulling, stdin=password)


# Read before anything is held: whoever sends slowly, or no more, is in nobody's way. What ends
# early looks like a file that ends, so its length is told beforehand.
WRITE = """
umask 077; new=$(mktemp "$1/secrets/.new.XXXXXX") || exit 1
trap 'rm -f "$new"' EXIT; trap 'exit 143' HUP INT TERM
cat > "$new" || exit 1; came=$(wc -c < "$new")
[ "$came" -eq "$4" ] || { echo "only $came of $4 bytes of $3 came" >&2; exit 1; }
""" + HOLDING + 'mkdir -p "${3%/*}" && mv "$new" "$3"'


def write_file(directory: str, token: str, path: str, content: str) -> Command:
    """A file that only the SSH user can read, below the directory; whole or not at all."""
    size = len(content.encode())
    writing = script(WRITE, directory, token, path, size, what=f"writing {path}")
    return replace(writing, stdin=content)


def secrets(env: Environment) -> dict[str, str]:
    """The settings of the service that must not be seen, by their file's name."""
    given = {
        "database_url": env.service.database_url.get_secret_value(),
        "mlflow_tracking_uri": env.service.mlflow_tracking_uri.get_secret_value(),
        "admin_token": env.service.admin_token.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value}


# Of no use to whatever migrates the database or forecasts, which so cannot give it away.
SERVICE_ALONE = ("admin_token",)


def _settings(env: Environment) -> list[str]:
    plain = {
        "SYSTEM": env.service.system,
        "WORKERS": env.service.workers,
        "MODEL_NAME": env.service.model_name,
        "STALE_AFTER": env.service.stale_after,
        **({"STRICT_GATE": "true"} if env.service.strict_gate else {}),
        **_gate(env),
    }
    return [word for k, v in plain.items() for word in ("--env", f"BIKECAST_{k}={v}")]


def _gate(env: Environment) -> dict[str, object]:
    """Who may ask and how often, where that is restricted."""
    given = {
        "REQUIRE_KEY": "true" if env.service.require_key else "",
        "KEY_LIMIT": env.service.key_limit,
        "ADDRESS_LIMIT": env.service.address_limit,
        "CORS_ORIGINS": ",".join(env.service.cors_origins),
    }
    return {name: value for name, value in given.items() if value}


# Until a colour is free for the release that they belong to.
NEXT_SECRETS = "secrets/next"  # pragma: allowlist secret: a path


def _secrets(env: Environment, folder: str, without: tuple[str, ...] = ()) -> list[str]:
    """Each secret as a file of its own, and the setting that names it.

    :param folder: where they are on the host.
    :param without: those that the container is not to have.
    """
    source, target = f"{env.hosts.directory}/{folder}", "/run/secrets"
    words: list[str] = []
    for name in secrets(env):
        if name not in without:
            words += ["--env", f"BIKECAST_{name.upper()}_FILE={target}/{name}", "--mount"]
            words += [f"type=bind,source={source}/{name},target={target}/{name},readonly"]
    return words


def _labels(env: Environment, labels: dict[str, str]) -> list[str]:
    found = {LABEL: env.hosts.directory, **labels}
    return [word for k, v in found.items() for word in ("--label", f"{k}={v}")]


REMOVE = """
shift 2; there=$(docker ps -a --format '{{.Names}}') || exit 1; found=
for c; do case " "$(echo $there)" " in *" $c "*) found="$found $c" ;; esac; done
[ -z "$found" ] || docker rm -f $found >/dev/null || exit 1
"""


def remove(directory: str, token: str, *containers: str) -> Command:
    """Remove containers, running or not, there or not."""
    return script(OURS + REMOVE, directory, token, *containers, what="removing containers")


KILL = """
shift 2
for c; do
  running=$(docker inspect -f '{{.State.Running}}' "$c" 2>/dev/null)
  [ "$running" != true ] || docker kill "$c" >/dev/null || exit 1
done
"""


def kill(directory: str, token: str, *containers: str) -> Command:
    """End containers at once: a refresher's half-written table is not kept by the database."""
    return script(OURS + KILL, directory, token, *containers, what="ending containers")


def migrate(env: Environment, token: str, user: str, image: str) -> Command:
    """Bring the database to the release's schema."""
    migrating = holding(
        *(env.hosts.directory, token, "docker", "run", "--rm", "--user", user),
        *(w for w in UNPRIVILEGED if w not in ("--restart", "unless-stopped")),
        *_settings(env),
        *_secrets(env, NEXT_SECRETS, SERVICE_ALONE),
        *(image, "db", "upgrade"),
    )
    return replace(migrating, what="migrating the database")


def start_service(
    env: Environment, token: str, colour: str, user: str, image: str, labels: dict[str, str]
) -> Command:
    """Start a colour's service from an image; it listens on the colour's socket."""
    directory = env.hosts.directory
    starting = holding(
        *(directory, token, "docker", "run", "--detach", "--name", service_name(colour)),
        *("--user", user, *UNPRIVILEGED, *LOG_OPTIONS, *_labels(env, labels), *_settings(env)),
        *("--env", f"BIKECAST_BIND=unix:/run/bikecast/{SOCKET}"),
        # No container can find out by itself.
        *("--env", f"BIKECAST_IMAGE_DIGEST={image.partition('@')[2]}"),
        *("--volume", f"{directory}/sockets/{colour}:/run/bikecast"),
        # Of both colours, and longer than a container: the last forecast.
        *("--volume", f"{directory}/kept:{KEPT}", "--env", f"BIKECAST_DATA_DIR={KEPT}"),
        *_secrets(env, f"secrets/{colour}"),
        image,
    )
    return replace(starting, what=f"starting {service_name(colour)}")


def start_refresher(
    env: Environment, token: str, colour: str, user: str, image: str, labels: dict[str, str]
) -> Command:
    """Start what keeps the forecast table fresh."""
    starting = holding(
        *(env.hosts.directory, token, "docker", "run", "--detach"),
        *("--name", refresher_name(colour), "--user", user, *UNPRIVILEGED, *LOG_OPTIONS),
        *(*_labels(env, labels), *_settings(env)),
        *_secrets(env, f"secrets/{colour}", SERVICE_ALONE),
        *(image, "forecast", "--every", "10m"),
    )
    return replace(starting, what=f"starting {refresher_name(colour)}")


# As long as MLflow's client is patient by itself, no command may take.
FAIL_SOON = (
    *("--env", "MLFLOW_HTTP_REQUEST_MAX_RETRIES=2"),
    *("--env", "MLFLOW_HTTP_REQUEST_TIMEOUT=10"),
)


def bikecast_in(container: str, who: str, words: tuple[str, ...]) -> Command:
    """A `bikecast` command in a running container.

    :param who: does this, for what is written down; the container knows its own user alone.
    """
    whose = ("--env", f"BIKECAST_WHO={who}")
    argv = ("docker", "exec", *whose, *FAIL_SOON, container, "bikecast", *words)
    return Command(argv, what=f"bikecast {' '.join(words)} in {container}")


SOCKET = "api.sock"
KEPT = "/var/lib/bikecast"
FORMER = "-former"
# The service goes last: where it was set aside, its refresher was too. No traffic comes here, so
# nothing is in flight that a gentle stop would wait for. The secrets go with it, so that the former
# service never starts with those of its successor.
SET_ASIDE = """
there=$(docker ps -a --format '{{.Names}} {{.Status}}') || exit 1
status_of() { echo "$there" | sed -n "s/^$1 //p"; }
for c in bikecast-refresher-$3 bikecast-$3; do
  case $(status_of "$c") in
    "") continue ;;
    Exited* | Created*) ;;
    *) docker kill "$c" >/dev/null ;;
  esac
  [ -z "$(status_of "$c-former")" ] || docker rm -f "$c-former" >/dev/null
  docker rename "$c" "$c-former" || exit 1
done
rm -f "$1/sockets/$3/SOCKET"
umask 077; mkdir -p "$1/kept" && cd "$1/secrets" && mkdir -p next "$3" && rm -rf "$3-former" &&
mv "$3" "$3-former" && mv next "$3"
"""
SET_ASIDE = SET_ASIDE.replace("SOCKET", SOCKET)
PUT_BACK = """
is() { docker inspect "$1" >/dev/null 2>&1; }
s=bikecast-$3 r=bikecast-refresher-$3
cd "$1/secrets" && rm -rf next || exit 1
if [ -z "$4" ] || is "$s-former"; then
  docker rm -f "$s" "$r" >/dev/null 2>&1
  [ ! -d "$3-former" ] || { rm -rf "$3" && mv "$3-former" "$3"; } || exit 1
fi
! is "$s-former" || docker rename "$s-former" "$s" || exit 1
! is "$s" || [ -z "$5" ] || docker start "$s" >/dev/null || exit 1
is "$r" || ! is "$r-former" || docker rename "$r-former" "$r"
"""


def set_aside(directory: str, token: str, colour: str) -> Command:
    """End a colour that has no traffic, and keep its containers and secrets under another name.

    The secrets that were written last take their place.
    """
    return script(OURS + SET_ASIDE, directory, token, colour, what=f"setting {colour} aside")


def put_back(
    directory: str, token: str, colour: str, spare: bool = False, start: bool = True
) -> Command:
    """Remove a colour's containers, and bring back what was set aside for it.

    :param spare: the colour had containers before, so those that are there now are removed only
        where the former ones were set aside already.
    :param start: the former service ran, and is to run again.
    """
    flags = ("spare" if spare else "", "start" if start else "")
    return script(OURS + PUT_BACK, directory, token, colour, *flags, what=f"putting {colour} back")


DROP_FORMER = f'top=$1{REMOVE}rm -rf "$top"/secrets/*{FORMER}'


def drop_former(directory: str, token: str) -> Command:
    """Remove what was set aside, once the new release is there to stay."""
    names = (name + FORMER for name in all_names())
    what = "removing what was set aside"
    return script(OURS + DROP_FORMER, directory, token, *names, what=what)


# A container that ends is started again by Docker: one restart is failure enough. Nothing is asked
# before it listens: each question starts a Python beside the one that is starting.
HEALTHY = """
end=$(($(date +%s) + $2)) socket=$3 said="it does not listen yet"
while :; do
  set -- "$1" "$2" $(docker inspect -f '{{.State.Status}} {{.RestartCount}}' "$1")
  [ "$3 $4" = "running 0" ] || { echo "it does not run: $3, restarted $4 times"; break; }
  [ ! -e "$socket" ] ||
    { said=$(docker exec "$1" python -I -S CHECK 2>&1) && { echo healthy; exit 0; }; }
  [ "$(date +%s)" -lt "$end" ] || { echo "not healthy within $2 s: $said"; break; }
  sleep 0.1
done
docker logs --tail LINES "$1" 2>&1; :
"""
HEALTHY = HEALTHY.replace("LINES", str(LOG_LINES)).replace("CHECK", "/usr/local/lib/healthcheck.py")


def wait_healthy(directory: str, colour: str, seconds: float) -> Command:
    """Wait until a service is healthy: prints ``healthy``, or why not and its last lines."""
    name, socket = service_name(colour), f"{directory}/sockets/{colour}/{SOCKET}"
    waiting = script(HEALTHY, name, int(seconds), socket, what=f"waiting for {name}")
    return replace(waiting, pretend="healthy", timeout=seconds + 15)


# One look, after all else that a release does: what ends later shows in `inv status`.
STAYING = """
set -- "$1" $(docker inspect -f '{{.State.Status}} {{.RestartCount}}' "$1")
[ "$2 $3" != "running 0" ] || { echo running; exit 0; }
echo "it is $2, restarted $3 times"; docker logs --tail LINES "$1" 2>&1; :
"""
STAYING = STAYING.replace("LINES", str(LOG_LINES))


def see_running(container: str) -> Command:
    """See that a container stays: prints ``running``, or what became of it and its last lines."""
    return replace(script(STAYING, container, what=f"looking at {container}"), pretend="running")


PRUNE = """
docker images --digests --format '{{.Repository}}@{{.Digest}}' | sort -u | while read -r image; do
  case " $3 " in *" ${image%@*} "*) ;; *) continue ;; esac
  case " $4 " in *" ${image#*@} "*) continue ;; esac
  docker rmi "$image" >/dev/null 2>&1 && echo "$image"
done; :
"""


def prune(directory: str, token: str, repositories: list[str], digests: list[str]) -> Command:
    """Remove the images of releases that are not to be kept; one in use stays anyway.

    :param repositories: of our images, as the engine names them; others are none of our business.
    """
    words = " ".join(repositories), " ".join(digests)
    return script(OURS + PRUNE, directory, token, *words, what="removing old images")


def all_names() -> tuple[str, ...]:
    """Every container of a release."""
    return tuple(f(c) for c in COLOURS for f in (service_name, refresher_name))
