"""What is run on a host, word by word, and that no secret stands in it."""

import json
import shlex
import subprocess
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from deployer import Deployer
from local_host import DIRECTORY, DOCKER, REGISTRY, SECRETS, environment, target

from bikecast.errors import CommandFailed, HostGone
from bikecast.ops import commands, setup
from bikecast.ops.commands import Command
from bikecast.ops.commands.proxies import LOG_PIECE, RUN_NGINX
from bikecast.ops.release import How, deploy
from bikecast.ops.traffic import BUCKETS

HARDENED = (
    "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges "
    "--restart unless-stopped"
)
LOGGED = "--log-driver json-file --log-opt max-size=20m --log-opt max-file=3"
SETTINGS = (
    "--env BIKECAST_SYSTEM=made-up --env BIKECAST_WORKERS=2 "
    "--env BIKECAST_MODEL_NAME=bike-demand-forecaster --env BIKECAST_STALE_AFTER=86400"
)
IMAGE = f"{REGISTRY}@{target('c').digest}"
ENV = environment()
WITH_ALL = environment(
    (
        "database_url =",
        f'mlflow_tracking_uri = "{SECRETS["mlflow"]}"\ndatabase_url =',
    ),
    (
        "[service]",
        f'[proxy]\ntls = {{certificate = "public", key = "{SECRETS["tls"]}"}}\n[service]',
    ),
)


def secret(folder: str, name: str = "database_url") -> str:
    """A secret as a mounted file, with the setting that names it."""
    source = f"{DIRECTORY}/secrets/{folder}/{name}"
    return (
        f"--env BIKECAST_{name.upper()}_FILE=/run/secrets/{name} "
        f"--mount type=bind,source={source},target=/run/secrets/{name},readonly"
    )


def docker(command: Command) -> str:
    """The call of Docker behind the check of the lock."""
    assert command.argv[:3] == ("sh", "-c", commands.OURS + 'shift 2; exec "$@"')
    assert command.argv[3:6] == ("bikecast", DIRECTORY, "token")
    return " ".join(command.argv[6:])


def test_the_service_is_started_word_by_word():
    """Unprivileged, on the socket of its colour, with its secrets as mounted files."""
    found = commands.start_service(ENV, "token", "blue", "1000:1000", IMAGE, {"a": "b"})
    assert docker(found) == (
        f"docker run --detach --name bikecast-blue --user 1000:1000 {HARDENED} {LOGGED} "
        f"--label bikecast.directory={DIRECTORY} --label a=b {SETTINGS} "
        "--env BIKECAST_BIND=unix:/run/bikecast/api.sock "
        f"--env BIKECAST_IMAGE_DIGEST={target('c').digest} "
        f"--volume {DIRECTORY}/sockets/blue:/run/bikecast "
        f"--volume {DIRECTORY}/kept:/var/lib/bikecast --env BIKECAST_DATA_DIR=/var/lib/bikecast "
        f"{secret('blue')} {IMAGE}"
    )


def test_a_strict_gate_is_told_to_whoever_promotes():
    """Only where it is one."""
    strict = environment(("database_url =", "strict_gate = true\ndatabase_url ="))
    words = "--env BIKECAST_STRICT_GATE=true"
    for env, there in ((strict, True), (environment(), False)):
        started = commands.start_refresher(env, "token", "blue", "1:1", IMAGE, {})
        assert (words in docker(started)) == there


def test_who_may_ask_is_told_and_the_token_is_a_file_of_the_service_alone():
    """Only where it is restricted; what forecasts or migrates has no admin token to lose."""
    restricted = environment(
        (
            "database_url =",
            "require_key = true\nkey_limit = 600\naddress_limit = 60\n"
            'cors_origins = ["https://a.test", "https://b.test"]\n'
            f'admin_token = "{SECRETS["mlflow"]}"\ndatabase_url =',
        )
    )
    text = docker(commands.start_service(restricted, "token", "blue", "1:1", IMAGE, {}))
    assert (
        "--env BIKECAST_REQUIRE_KEY=true --env BIKECAST_KEY_LIMIT=600 "
        "--env BIKECAST_ADDRESS_LIMIT=60 "
        "--env BIKECAST_CORS_ORIGINS=https://a.test,https://b.test"
    ) in text
    assert f"{secret('blue')} {secret('blue', 'admin_token')}" in text
    assert SECRETS["mlflow"] not in text
    assert commands.secrets(restricted)["admin_token"] == SECRETS["mlflow"]
    for other in (
        commands.start_refresher(restricted, "token", "blue", "1:1", IMAGE, {}),
        commands.migrate(restricted, "token", "1:1", IMAGE),
    ):
        assert secret("blue") in docker(other) or secret("next") in docker(other)
        assert "admin_token" not in docker(other).lower()


def test_the_refresher_is_started_word_by_word():
    """As the service is, without a socket."""
    found = commands.start_refresher(ENV, "token", "green", "1000:1000", IMAGE, {})
    assert docker(found) == (
        f"docker run --detach --name bikecast-refresher-green --user 1000:1000 {HARDENED} "
        f"{LOGGED} --label bikecast.directory={DIRECTORY} {SETTINGS} "
        f"{secret('green')} {IMAGE} forecast --every 10m"
    )


def test_the_database_is_migrated_word_by_word():
    """By a container that is gone afterwards and is never started again."""
    found = commands.migrate(ENV, "token", "1000:1000", IMAGE)
    assert docker(found) == (
        "docker run --rm --user 1000:1000 "
        f"{HARDENED.removesuffix(' --restart unless-stopped')} {SETTINGS} "
        f"{secret('next')} {IMAGE} db upgrade"
    )


def test_the_proxy_is_started_word_by_word():
    """On the host's network; with the key only where TLS is asked for."""
    found = commands.start_proxy(ENV, "token", "bikecast-proxy", "1:2", "i7", {"p": "i7"})
    assert found.argv[3:7] == ("bikecast", DIRECTORY, "token", "i7")
    assert " ".join(found.argv[7:-1]) == (
        f"docker run --detach --name bikecast-proxy --user 1:2 --network host {HARDENED} {LOGGED} "
        f"--label bikecast.directory={DIRECTORY} --label p=i7 "
        f"--volume {DIRECTORY}/traffic:/traffic:ro --volume {DIRECTORY}/sockets:/sockets:ro "
        f"--volume {DIRECTORY}/proxy/i7:/etc/bikecast:ro --mount "
        f"type=bind,source={DIRECTORY}/proxy/i7/log,target=/log "
        "--stop-signal SIGQUIT --entrypoint sh nginx:1.28 -c"
    )
    assert 'exec nginx -c /etc/bikecast/nginx.conf -g "daemon off;"' in found.argv[-1]
    tls = commands.start_proxy(WITH_ALL, "token", "bikecast-proxy", "1:2", "i7", {}).text()
    assert f"--volume {DIRECTORY}/proxy/i7/tls:/tls:ro" in tls


@pytest.mark.parametrize("there", [True, False], ids=["all there", "one taken away"])
def test_a_log_of_the_proxy_that_is_full_makes_room(tmp_path, there):
    """Its two newest pieces stay, and nginx, the first process, is told to write into new ones."""
    (tmp_path / "access.log").write_text("x" * LOG_PIECE)
    if there:
        (tmp_path / "error.log").write_text("one line")
    played = {
        "sleep": "[ ! -e slept ] && : > slept",
        "kill": 'echo "kill $*" >> told; : > access.log',
        "nginx": 'echo "nginx $*" >> told',
    }
    for name, text in played.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    text = RUN_NGINX.replace("/log", str(tmp_path)).replace("kill -USR1", "env kill -USR1")
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", f"{text.replace('exec', '')}\nwait"], env=environ, timeout=30
    )
    assert done.returncode == 0
    assert (tmp_path / "access.log").read_text() == ""
    assert len((tmp_path / "access.log.1").read_text()) == LOG_PIECE
    assert (tmp_path / "error.log").exists() is there
    assert not (tmp_path / "error.log.1").exists()
    assert sorted((tmp_path / "told").read_text().splitlines()) == [
        *["kill -USR1 1"] * (1 if there else 2),
        "nginx -c /etc/bikecast/nginx.conf -g daemon off;",
    ]


def test_the_files_of_a_proxy_lie_in_a_folder_of_its_own():
    """So that two of them can run side by side."""
    assert list(commands.proxy_files(ENV, "i7")) == ["proxy/i7/nginx.conf"]
    found = commands.proxy_files(WITH_ALL, "i7")
    assert found["proxy/i7/tls/key.pem"] == SECRETS["tls"]
    assert found["proxy/i7/tls/certificate.pem"] == "public"


def test_a_password_is_read_from_standard_input():
    """By Docker's login, whose file lasts as long as the command."""
    found = commands.pull("registry.test", "robot", SECRETS["password"], [IMAGE])
    assert found.stdin == SECRETS["password"] and SECRETS["password"] not in found.text()
    assert found.argv[4:] == ("registry.test", "robot", IMAGE)
    assert "--password-stdin" in found.text()


def every_command(env):
    """All commands that an environment's secrets could get into."""
    labels = {"bikecast.release": "c"}
    password = env.registry.password.get_secret_value()
    more = [
        commands.write_file(DIRECTORY, "token", path, content)
        for path, content in (
            *commands.secrets(env).items(),
            *commands.proxy_files(env, "i7").items(),
        )
    ]
    return [
        commands.look(DIRECTORY),
        commands.pull("registry.test", env.registry.username, password, [IMAGE]),
        commands.migrate(env, "token", "1:1", IMAGE),
        commands.start_service(env, "token", "blue", "1:1", IMAGE, labels),
        commands.start_refresher(env, "token", "blue", "1:1", IMAGE, labels),
        commands.start_watch(env, "token", "1:1", 5, {"who": "ann"}),
        commands.start_proxy(env, "token", "bikecast-proxy", "1:1", "i7", labels),
        commands.prune(DIRECTORY, "token", [env.registry.image], [target("a").digest]),
        setup.ask(env),
        *more,
    ]


SECRET = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=12, max_size=20)


@given(st.lists(SECRET, min_size=4, max_size=4, unique=True))
def test_no_secret_stands_in_any_command(values):
    """Whatever they are: they go by standard input, which is never shown."""
    password, database, mlflow, tls = (f"hidden-{v}" for v in values)
    env = environment(
        (SECRETS["password"], password),
        (SECRETS["database"], f"postgresql://u:{database}@db/b"),
        ("database_url =", f'mlflow_tracking_uri = "http://{mlflow}"\ndatabase_url ='),
        ("[service]", f'[proxy]\ntls = {{certificate = "c", key = "{tls}"}}\n[service]'),
    )
    found = every_command(env)
    for command in found:
        assert "hidden-" not in command.text()
        assert SECRETS["key"] not in command.text() + command.stdin
    given_in = "".join(c.stdin for c in found)
    assert all(secret in given_in for secret in (password, database, mlflow, tls))


def test_a_whole_release_shows_no_secret(fresh):
    """Not to the host's list of processes, not to Docker, not in what it says or logs."""
    env = environment(
        ("database_url =", f'mlflow_tracking_uri = "{SECRETS["mlflow"]}"\ndatabase_url =')
    )
    deployer = Deployer(fresh, env)
    deploy(deployer.site, target("a"), How(bake=0))
    dry = Deployer(fresh, env, dry=True)
    deploy(dry.site, target("b"), How(bake=0))
    shown = "\n".join(deployer.said + dry.said)
    for host in fresh:
        shown += "\n".join(c.text() for c in deployer.ran[host.name])
        shown += "\n".join(host.calls()) + json.dumps(host.containers())
        for path, content in host.everything().items():
            if "opt/secrets/" in path or path == "docker/password":
                assert (host.root.parent / path).stat().st_mode & 0o077 == 0 or "docker" in path
            else:
                shown += path + content
    for secret in SECRETS.values():
        assert secret not in shown
    secrets = fresh[0].root / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert (secrets / "blue" / "database_url").read_text() == SECRETS["database"]
    assert (secrets / "blue" / "mlflow_tracking_uri").read_text() == SECRETS["mlflow"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_a_command_is_quoted_for_the_shell(words):
    """Whatever stands in its words reaches the program as it is."""
    assert shlex.split(Command(tuple(words)).text()) == words


# -- run for real ----------------------------------------------------------------------------------


def hold(host):
    """Take the lock."""
    host.run(commands.take_lock(DIRECTORY, "token", "{}"))


def test_preparing_makes_the_folders_and_changes_nothing_that_is_there(fresh):
    """`inv setup` may be run as often as one likes."""
    one = fresh[0]
    assert (one.root / "traffic" / "green").readlink().as_posix() == "sets/100"
    hold(one)
    one.run(commands.switch(DIRECTORY, "token", 0))
    before = one.everything()
    one.run(commands.prepare(DIRECTORY))
    assert one.everything() == before


@pytest.mark.parametrize("share", [0, 1, 5, 99, 100])
def test_a_switch_replaces_the_link_and_makes_the_set_it_needs(fresh, share):
    """One file for each bucket that green has, numbered from 0."""
    one = fresh[0]
    hold(one)
    one.run(commands.switch(DIRECTORY, "token", share))
    assert one.state().green == share
    found = {p.name for p in (one.root / "traffic" / "green").iterdir()}
    assert found == {str(n) for n in range(share)} and share <= BUCKETS
    leftovers = [p.name for p in (one.root / "traffic").iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_a_switch_never_leaves_the_link_away(fresh):
    """It is renamed over the old one: at every moment there is one of the two."""
    one = fresh[0]
    hold(one)
    one.run(commands.switch(DIRECTORY, "token", 100))
    (one.path / "mv").write_text(
        f"#!/bin/sh\ncd {one.root}\n"
        'case "$*" in *traffic/green) readlink traffic/green >> seen ;; esac\n'
        'exec /bin/mv "$@"\n'
    )
    (one.path / "mv").chmod(0o755)
    one.run(commands.switch(DIRECTORY, "token", 0))
    assert (one.root / "seen").read_text() == "sets/100\n" and one.state().green == 0


def test_a_switch_that_was_cut_off_is_no_hindrance(fresh):
    """A half-made link or set is replaced."""
    one = fresh[0]
    hold(one)
    (one.root / "traffic" / ".next").symlink_to("sets/nowhere")
    (one.root / "traffic" / ".new.abcdef").mkdir()
    one.run(commands.switch(DIRECTORY, "token", 50))
    assert one.state().green == 50


def test_a_file_is_written_whole_for_its_owner_alone(fresh):
    """Mode 0600 in a folder of mode 0700; a second time replaces it."""
    one = fresh[0]
    hold(one)
    for content in ("first\n", "second $HOME 'quoted'"):
        one.run(commands.write_file(DIRECTORY, "token", "secrets/blue/x", content))
    file = one.root / "secrets" / "blue" / "x"
    assert file.read_text() == "second $HOME 'quoted'"
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in file.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("came", ["", "sec"])
def test_a_file_that_came_in_part_is_refused(fresh, came):
    """As where the connection was lost: what was there stays, and nothing is left over."""
    one = fresh[0]
    hold(one)
    one.run(commands.write_file(DIRECTORY, "token", "secrets/blue/x", "first"))
    before = one.everything()
    cut = replace(commands.write_file(DIRECTORY, "token", "secrets/blue/x", "second"), stdin=came)
    with pytest.raises(CommandFailed, match=f"one: only {len(came)} of 6 bytes of secrets/blue/x"):
        one.run(cut)
    assert one.everything() == before


def test_whoever_sends_slowly_is_in_nobodys_way(fresh):
    """A lock can be taken over while a file of its former owner is still under way."""
    one = fresh[0]
    hold(one)
    text = commands.write_file(DIRECTORY, "token", "secrets/blue/x", "secret").text()
    slow = subprocess.Popen(
        ["/bin/sh", "-c", text.replace(DIRECTORY, str(one.root))],
        env=one.environ,
        stdin=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 10
        while not any(p.name.startswith(".new") for p in (one.root / "secrets").iterdir()):
            assert time.monotonic() < until, "it did not begin"
        assert one.shell(f"flock -n {DIRECTORY}/guard true")[0] == 0
        one.run(commands.break_lock(DIRECTORY))
    finally:
        slow.communicate(b"secret", timeout=10)
    assert slow.returncode == commands.LOST
    assert list((one.root / "secrets").rglob("*")) == []


def test_a_pull_forgets_the_login(fresh):
    """No password stays on the host; what is there already is not pulled again."""
    one = fresh[0]
    command = commands.pull("registry.test", "robot", SECRETS["password"], [IMAGE])
    assert one.run(command).split() == [IMAGE]
    assert one.run(command) == ""
    assert list((one.root.parent / "tmp").iterdir()) == []


def test_a_pull_that_takes_too_long_forgets_the_login_too(fresh):
    """The time limit ends it by a signal; dash runs no EXIT trap of its own accord then."""
    one = fresh[0]
    one.play_program("docker", f'[ "$1" = login ] || exec /bin/sleep 30; exec {DOCKER} "$@"')
    command = commands.pull("registry.test", "robot", SECRETS["password"], [IMAGE])
    with pytest.raises(HostGone, match="one: pulling images did not end within 1 s"):
        one.run(replace(command, timeout=1))
    assert list((one.root.parent / "tmp").iterdir()) == []


def test_a_pull_with_a_wrong_password_names_the_registry(fresh):
    """And not the password."""
    command = commands.pull("registry.test", "robot", "wrong-password", [IMAGE])
    with pytest.raises(CommandFailed, match="one: the registry registry.test refuses the login of"):
        fresh[0].run(command)


def test_an_absent_image_is_named(fresh):
    """By Docker's own words."""
    absent = f"{REGISTRY}@{target('z').digest}"
    command = commands.pull("registry.test", "", "", [absent])
    with pytest.raises(CommandFailed, match=f"one: manifest for {absent} not found"):
        fresh[0].run(command)


def test_waiting_for_health_ends_at_once_where_a_container_falls(hosts):
    """It prints why, and the last lines of its log."""
    one = hosts[0]
    assert one.run(commands.wait_healthy(DIRECTORY, "green", 60)).strip() == "healthy"
    one.change("bikecast-green", restarts="1")
    one.say("bikecast-green", "ValueError: no such column")
    said = one.run(commands.wait_healthy(DIRECTORY, "green", 60))
    assert said.splitlines()[0] == "it does not run: running, restarted 1 times"
    assert said.splitlines()[-1] == "ValueError: no such column"
    one.change("bikecast-green", restarts="0", behaviour="sick")
    said = one.run(commands.wait_healthy(DIRECTORY, "green", 0))
    assert said.startswith("not healthy within 0 s: GET /health answers 503\n")


def test_the_last_lines_of_what_is_not_there_are_the_reason(hosts):
    """No error of its own hides the one that is being told."""
    assert "No such container: none" in hosts[0].run(commands.last_lines("/opt/bikecast", "none"))


def test_pruning_keeps_what_is_named_and_what_is_in_use(hosts):
    """Images of others are left alone, also where their name begins as ours."""
    one = hosts[0]
    hold(one)
    ours = [f"{REGISTRY}{suffix}" for suffix in ("", "-training")]
    old = [f"{name}@{target('z').digest}" for name in ours]
    others = {f"{REGISTRY}-lab@sha256:1", f"{REGISTRY}/lab@sha256:1", "postgres@sha256:2"}
    for name in (*old, *others):
        (one.docker / "images" / name).parent.mkdir(exist_ok=True)
        (one.docker / "images" / name).write_text("healthy\nx\n")
    keep = [target("b").digest, target("b").training]
    gone = one.run(commands.prune(DIRECTORY, "token", ours, keep)).split()
    assert sorted(gone) == sorted(old)
    assert f"{REGISTRY}@{target('a').digest}" in one.images(), "a container runs from it"
    assert others <= set(one.images())


def test_the_log_of_releases_is_only_added_to(fresh):
    """One line of JSON each, whatever stands in it."""
    one = fresh[0]
    hold(one)
    for who in ("ann", "o'neil \\ %s"):
        one.run(commands.record(DIRECTORY, "token", {"who": who}))
    lines = one.run(commands.history(DIRECTORY, 10)).splitlines()
    assert [json.loads(line)["who"] for line in lines] == ["ann", "o'neil \\ %s"]
    assert one.run(commands.history(DIRECTORY, 1)).splitlines() == lines[1:]


def test_a_new_host_has_no_log_of_releases(fresh):
    """That is no error."""
    assert fresh[0].run(commands.history(DIRECTORY, 10)) == ""
