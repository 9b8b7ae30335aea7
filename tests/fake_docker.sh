#!/bin/sh
# Docker's command line as far as bikecast.ops.commands uses it; see local_host.py.
#
# A container is a file of lines, an image too, so that hardly anything but this shell runs: a test
# of a release asks some hundred times. What it does not know is an error.
#
# $FAKE_DOCKER/containers/NAME  status, restarts, behaviour, created, started, image, labels, argv
# $FAKE_DOCKER/images/REF       behaviour, commit; registry/REF the same, to be pulled
# $FAKE_DOCKER/logs/NAME        SECONDS TEXT
# $FAKE_DOCKER/model            the version that a rollback of the model leads to; none without it
# $FAKE_DOCKER/bikecast         what `docker exec … bikecast` runs
set -f
C=$FAKE_DOCKER/containers

die() { echo "$1" >&2; exit "${2:-1}"; }

load() {  # a container by its name
  [ -e "$C/$1" ] || die "Error: No such container: $1"
  { read -r status; read -r restarts; read -r behaviour; read -r created; read -r started
    read -r image; read -r labels; read -r argv; } < "$C/$1"
}

save() {
  printf '%s\n' "$status" "$restarts" "$behaviour" "$created" "$started" "$image" "$labels" \
    "$argv" > "$C/$1" || exit 125
}

now() { date -u +%Y-%m-%dT%H:%M:%S.%NZ; }

show() {  # a container by a template
  load "$2"
  case $status in running) running=true ;; *) running=false ;; esac
  case $behaviour in healthy | failing) health=healthy ;; sick) health=unhealthy ;; *) health= ;; esac
  case $1 in
    *'{{json .Name}}'*)
      printf '{"name":"/%s","status":"%s","created":"%s","started":"%s","restarts":%s,' \
        "$2" "$status" "$created" "$started" "$restarts"
      printf '"health":"%s","labels":{%s},"image":"%s"}\n' "$health" "$labels" "$image" ;;
    '{{.State.Status}} {{.RestartCount}}') echo "$status $restarts" ;;
    'state blue {{.State.Status}} {{.RestartCount}}') echo "state blue $status $restarts" ;;
    'state green {{.State.Status}} {{.RestartCount}}') echo "state green $status $restarts" ;;
    '{{.State.Running}} {{.RestartCount}}') echo "$running $restarts" ;;
    '{{index .Config.Labels "bikecast.proxy"}}')
      case ,$labels in *',"bikecast.proxy":"'*)
        rest=${labels#*\"bikecast.proxy\":\"}; echo "${rest%%\"*}" ;;
      *) echo ;;
      esac ;;
    '{{.State.Running}}') echo "$running" ;;
    '') echo "[{\"Name\": \"/$2\"}]" ;;
    *) die "template parsing error: $1" ;;
  esac
}

begin() {  # what a container does once it runs
  status=running restarts=0 started=$(now)
  case $behaviour in crashing) restarts=2 ;; esac
}

run() {
  name= labels= entrypoint= once= argv="$*"
  while :; do
    case $1 in
      --rm) once=1 ;;
      --detach | --read-only) ;;
      --name) name=$2; shift ;;
      --entrypoint) entrypoint=$2; shift ;;
      --label) labels="$labels${labels:+,}\"${2%%=*}\":\"${2#*=}\""; shift ;;
      --user | --tmpfs | --cap-drop | --security-opt | --restart | --log-driver | --log-opt) shift ;;
      --mount)
        path=${2#*,source=}; path=${path%%,target=*}
        [ -e "$path" ] || die "invalid mount config: bind source path does not exist: $path" 125
        case $2 in *,target=/log) : > "$path/access.log" || exit 125 ;; esac; shift ;;
      --volume)
        case $2 in *:/run/bikecast) : > "${2%:*}/api.sock" || exit 125 ;; esac; shift ;;
      --env | --network | --stop-signal) shift ;;
      -*) die "unknown flag: $1" 125 ;;
      *) break ;;
    esac
    shift
  done
  image=$1; shift
  [ -e "$FAKE_DOCKER/images/$image" ] || die "Unable to find image '$image' locally" 125
  read -r behaviour < "$FAKE_DOCKER/images/$image"
  if [ -n "$once" ]; then
    [ "$behaviour" != unmigratable ] ||
      die "$(seq -f 'step %g' 29; echo; echo 'cannot migrate: a column is missing')"
    echo "$image $*" >> "$FAKE_DOCKER/ran"; exit 0
  fi
  [ ! -e "$C/$name" ] || die "Conflict. The container name \"/$name\" is already in use" 125
  begin; created=$started
  case $argv in *"
"*) argv=$(echo $argv) ;; esac
  save "$name"
  echo "0 $name started" > "$FAKE_DOCKER/logs/$name"
  echo "$name"
}

logs() {
  [ "$1" = --tail ] || die "unknown flag: $1" 125
  load "$3"
  sed 's/^[^ ]* //' "$FAKE_DOCKER/logs/$3" | tail -n "$2"
}

verb=$1; shift
echo "$verb" $* >> "$FAKE_DOCKER/calls" || exit 125
case $verb in
  ps)
    case "$1 $2 $3" in
      "-a --format {{.Names}} {{.Status}}" | "-a --format {{.Names}}")
        set +f; cd "$C" && for c in *; do
          [ -e "$c" ] || continue
          load "$c"
          case $status in running) status="Up 2 minutes" ;; exited) status="Exited (137)" ;; esac
          case $3 in *Status*) echo "$c $status" ;; *) echo "$c" ;; esac
        done ;;
      "-aq --filter label="*)
        key=${3#label=}; want="\"${key%%=*}\":\"${key#*=}\""
        set +f; cd "$C" && for c in *; do
          [ -e "$c" ] || continue
          load "$c"
          case ",$labels," in *",$want,"*) echo "$c" ;; esac
        done ;;
      "-q --filter name=^"*)
        c=${3#name=^}; c=${c%$}
        [ ! -e "$C/$c" ] || echo "$c" ;;
      *) die "unknown filter: $*" ;;
    esac ;;
  inspect)
    format=; [ "$1" != -f ] || { format=$2; shift 2; }
    for c; do show "$format" "$c"; done ;;
  run) run "$@" ;;
  exec)
    while [ "$1" = --env ]; do export "$2"; shift 2; done
    load "$1"; shift
    [ "$status" = running ] || die "container is not running"
    case "$*" in
      "python -I -S /usr/local/lib/healthcheck.py")
        [ "$behaviour" != sick ] || die "GET /health answers 503"; echo fine ;;
      "test -s /tmp/nginx.pid") [ "$behaviour" != sick ] ;;
      "bikecast model rollback --json")
        [ -e "$FAKE_DOCKER/model" ] || die "error: version 1 is the first in production; train"
        echo "{\"version\": \"$(cat "$FAKE_DOCKER/model")\"}" ;;
      "bikecast "*)  # a program that stands for the release's, where there is one
        [ ! -x "$FAKE_DOCKER/bikecast" ] || { shift; exec "$FAKE_DOCKER/bikecast" "$@"; }
        echo "$*" ;;
      *) die "exec: no such program: $*" 127 ;;
    esac ;;
  stop)
    [ "$1" != --time ] || shift 2
    load "$1"; status=exited; save "$1" ;;
  start)
    load "$1"; begin; save "$1" ;;
  kill)
    for c; do
      load "$c"; [ "$status" = running ] || die "Container $c is not running"
      status=exited; save "$c"
    done ;;
  rename)
    load "$1"; [ ! -e "$C/$2" ] || die "Conflict. The container name \"/$2\" is already in use"
    mv "$C/$1" "$C/$2"; mv "$FAKE_DOCKER/logs/$1" "$FAKE_DOCKER/logs/$2" ;;
  rm)
    force=; [ "$1" != -f ] || { force=1; shift; }
    for c; do
      load "$c"
      [ -n "$force" ] || [ "$status" != running ] || die "cannot remove a running container"
      rm -f "$C/$c" "$FAKE_DOCKER/logs/$c"
    done ;;
  logs) logs "$@" ;;
  login)
    read -r given || :
    [ "$2 $4" = "robot registry.test" ] && [ "$given" = "$(cat "$FAKE_DOCKER/password")" ] ||
      die "unauthorized"
    [ -n "$DOCKER_CONFIG" ] && echo "$given" > "$DOCKER_CONFIG/config.json" ;;
  pull)
    image=$2
    [ -e "$FAKE_DOCKER/registry/$image" ] || die "manifest for $image not found"
    case $image in */*) mkdir -p "$FAKE_DOCKER/images/${image%/*}" ;; esac
    cp "$FAKE_DOCKER/registry/$image" "$FAKE_DOCKER/images/$image" && echo "$image" ;;
  image)
    [ "$1" = inspect ] && [ -e "$FAKE_DOCKER/images/$2" ] || die "No such image: $2" ;;
  images)
    cd "$FAKE_DOCKER/images" && find . -type f | sed 's/^..//; /@/!s/$/@<none>/' ;;
  rmi)
    set +f; for c in "$C"/*; do
      [ -e "$c" ] || continue
      load "${c##*/}"; [ "$image" != "$1" ] || die "image is being used by ${c##*/}"
    done
    rm "$FAKE_DOCKER/images/$1" ;;
  version) echo "27.3.1" ;;
  info) echo "$FAKE_DOCKER" ;;
  *) die "docker: '$verb' is not a docker command." ;;
esac
