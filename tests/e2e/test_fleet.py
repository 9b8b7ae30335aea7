"""The hosts, the registry and the database that other tests stand on are what they say."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg2
import pytest
from fleet import machine
from fleet.hosts import KEY, Fleet, Host
from fleet.machine import FleetError, until
from fleet.registry import Registry
from fleet.service import Database, publish

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).parents[1]
NGINX = """
pid /tmp/nginx.pid;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout;
    client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
    uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
    server { listen 8000; return 200 "here is $hostname"; }
}
"""
HOLDS_A_FLEET = """
import sys, time
sys.path.insert(0, sys.argv[1])
from fleet.hosts import Fleet
from fleet.registry import Registry
with Fleet() as fleet, Registry():
    (host,) = fleet.add("brief")
    print("up", flush=True)
    time.sleep(60)
"""


def ssh(host: Host, folder: Path, *words: str, known: str = "", **options: object) -> str:
    """What a command prints over SSH, its errors included."""
    hosts = folder / "known_hosts"
    hosts.write_text(known or host.known_hosts_line + "\n")
    given = {
        "UserKnownHostsFile": hosts,
        "IdentityFile": KEY,
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 3,
        "User": "deploy",
    } | options
    settings = [f"-o{name}={value}" for name, value in given.items()]
    done = subprocess.run(
        ["ssh", "-F", "none", *settings, host.ip, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    return done.stdout


def says(host: Host) -> str:
    """What its web server answers, or why it does not."""
    try:
        return httpx.get(f"http://{host.ip}:8000", timeout=2).text
    except httpx.HTTPError as error:
        return repr(error)


@pytest.fixture
def web(hosts: list[Host], registry: Registry, nginx: str) -> Iterator[Host]:
    """A host on which the image of the registry serves, as the proxy will."""
    host = hosts[0]
    host.wipe()
    login = f"echo {registry.password} | docker login -u {registry.username} --password-stdin"
    host.run("sh", "-c", f"{login} {registry.address}", user="deploy")
    host.run("sh", "-c", f"echo '{NGINX}' > /opt/bikecast/nginx.conf", user="deploy")
    host.docker(
        *("run", "-d", "--name", "web", "--restart", "unless-stopped", "--network", "host"),
        *("--user", "1234:1234", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("-v", "/opt/bikecast:/etc/web:ro", nginx),
        *("nginx", "-c", "/etc/web/nginx.conf", "-g", "daemon off;"),
    )
    until(lambda: says(host) == "here is one", "the web server does not answer")
    yield host
    host.run("docker", "logout", registry.address, user="deploy")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_fleet_ends_with_its_tests(able: None, end: signal.Signals) -> None:
    """Ctrl-C takes everything away; what SIGKILL leaves runs no more, and goes with the next."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_FLEET, str(TESTS)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert "namespace bikecast-brief" in machine.leftovers()
        with pytest.raises(FleetError, match=f"another test run .process {process.pid}"):
            Fleet().__enter__()
        process.send_signal(end)
    if end == signal.SIGKILL:
        until(lambda: not any("process" in w for w in machine.leftovers()), "processes are left")
        assert machine.leftovers()
        with Fleet() as fleet:
            assert fleet.hosts == []
            assert "namespace bikecast-brief" not in machine.leftovers()
    assert machine.leftovers() == []


def test_a_host_answers_its_user_with_its_own_key(hosts: list[Host], tmp_path: Path) -> None:
    """As a machine of its own, on which that user may use Docker."""
    one, two = hosts
    asked = ssh(
        one, tmp_path, "hostname; whoami; docker info -f '{{.Name}}'; touch /opt/bikecast/x"
    )
    assert asked.split() == ["one", "deploy", "one"]
    assert (one.directory / "x").exists()
    assert ssh(two, tmp_path, "hostname; ls /opt/bikecast").split() == ["two"]
    assert "host key" in ssh(one, tmp_path, known=two.known_hosts_line.replace(two.ip, one.ip))


def test_a_host_lets_nobody_else_in(hosts: list[Host], tmp_path: Path) -> None:
    """No other key, not root, no password."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    for options in ({"IdentityFile": other}, {"User": "root"}):
        assert "Permission denied (publickey)" in ssh(hosts[0], tmp_path, "true", **options)


def test_an_engine_runs_what_the_registry_has(web: Host, registry: Registry, nginx: str) -> None:
    """Reachable from outside; without the password nothing is pulled."""
    assert says(web) == "here is one"
    assert '"GET / HTTP/1.1" 200' in web.docker("logs", "web")
    web.docker("logout", registry.address)
    with pytest.raises(FleetError, match="no basic auth credentials"):
        web.docker("pull", nginx)


def test_a_frozen_sshd_accepts_and_says_nothing(hosts: list[Host], tmp_path: Path) -> None:
    """Until it is thawed."""
    hosts[0].freeze_sshd()
    try:
        assert "banner" in ssh(hosts[0], tmp_path, "hostname")
    finally:
        hosts[0].thaw_sshd()
    assert ssh(hosts[0], tmp_path, "hostname") == "one\n"


def test_a_frozen_engine_hangs_and_its_containers_serve(web: Host) -> None:
    """Until it is thawed."""
    web.freeze_engine()
    try:
        with pytest.raises(FleetError, match="on one: docker ps"):
            web.docker("ps", timeout=2)
        assert says(web) == "here is one"
    finally:
        web.thaw_engine()
    assert "web" in web.docker("ps")


def test_a_cut_host_is_unreachable(web: Host, hosts: list[Host], tmp_path: Path) -> None:
    """Until it is mended; its neighbour is not touched."""
    web.cut()
    try:
        assert "Connect" in says(web)
        assert "port 22" in ssh(web, tmp_path, "hostname")
        assert ssh(hosts[1], tmp_path, "hostname") == "two\n"
    finally:
        web.mend()
    until(lambda: says(web) == "here is one", "the host does not come back")


def test_after_a_reboot_containers_come_back(web: Host, tmp_path: Path) -> None:
    """With the same disk, under new processes."""
    before = web.docker("inspect", "web", "-f", "{{.Id}} {{.State.StartedAt}}").split()
    web.reboot()
    until(lambda: says(web) == "here is one", "the container does not come back")
    after = web.docker("inspect", "web", "-f", "{{.Id}} {{.State.StartedAt}}").split()
    assert before[0] == after[0] and before[1] < after[1]
    assert ssh(web, tmp_path, "hostname") == "one\n"


def test_on_a_full_disk_nothing_can_be_written(hosts: list[Host]) -> None:
    """Neither by the user nor by the engine; the neighbour has room."""
    one, two = hosts
    write = ("cp", "/etc/passwd", "/opt/bikecast/note")
    one.fill_disk()
    try:
        with pytest.raises(FleetError, match="No space left"):
            one.run(*write, user="deploy")
        with pytest.raises(FleetError, match="no space left"):
            one.docker("volume", "create", "big")
        two.run(*write, user="deploy")
    finally:
        one.free_disk()
    one.run(*write, user="deploy")


def test_a_registry_that_is_gone_comes_back_with_its_images(
    web: Host, registry: Registry, nginx: str
) -> None:
    """Meanwhile nothing can be pulled."""
    registry.stop()
    try:
        assert not registry.running
        with pytest.raises(FleetError, match="connection refused"):
            web.run("docker", "pull", nginx, user="deploy")
    finally:
        registry.start()
    web.run("docker", "pull", nginx, user="deploy")


def test_the_database_answers_hosts_with_the_password(
    hosts: list[Host], database: Database
) -> None:
    """And has a forecast of now."""
    hosts[1].run("bash", "-c", "exec 3<> /dev/tcp/10.199.7.1/55432")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(database.url.replace(database.password, "guessed"))
    first = database.store.newest_issue(database.system)
    assert first is not None
    assert time.time() - first.as_of.timestamp() < 7200
    publish(database.store, version="2")
    database.stop()
    database.start()
    second = database.store.newest_issue(database.system)
    assert second is not None
    assert second.model_version == "2"


def test_a_host_goes_alone(fleet: Fleet, hosts: list[Host]) -> None:
    """Nothing of it is left, and the others are there."""
    (third,) = fleet.add("third", disk_mb=300)
    third.freeze_sshd()
    fleet.remove(third)
    left = machine.leftovers()
    assert not any("third" in what or third.link in what for what in left)
    assert f"namespace {hosts[0].namespace}" in left
