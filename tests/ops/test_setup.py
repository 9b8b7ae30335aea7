"""Whether a host is fit for releases, and what to do where it is not."""

import pytest
from local_host import environment

from bikecast.ops.setup import ask, findings

NOW = 1_767_323_000.0
FIT = {
    "user": "1000 deploy",
    "clock": "1767323001.5",
    "engine": "20.10.24",
    "root": "/var/lib/docker",
    "rootfree": str(10 << 20),
    "writable": "",
    "free": str(1 << 20),
    "lowest": "1024",
}


def judged(port=8000, drop=(), **changes):
    """The findings for a fit host but for some facts."""
    facts = {k: v for k, v in (FIT | changes).items() if k not in drop}
    env = environment(("[service]", f"[proxy]\nport = {port}\n[service]"))
    return findings("".join(f"{k} {v}\n" for k, v in facts.items()), env, NOW)


def test_a_fit_host_has_nothing_to_mend():
    """Every finding is fine."""
    found = judged()
    assert all(f.fine for f in found) and len(found) == 8
    assert [f.what for f in found] == [
        *("SSH as deploy", "tools: all there", "Docker 20.10.24", "/opt/bikecast can be written"),
        *("1.0 GiB free for /opt/bikecast", "10.0 GiB free for /var/lib/docker"),
        *("port 8000 can be taken", "clock +1.5 s from ours"),
    ]


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        ({"user": "0 root"}, "SSH as root", "log in as a user without root's rights"),
        ({"missing": "flock"}, "tools: flock missing", "util-linux"),
        ({"engine": "19.3.1"}, "Docker 19.3.1", "20.10 or newer"),
        (
            {"drop": ["engine", "root"], "noengine": "permission denied"},
            "Docker: permission denied",
            "-aG",
        ),
        ({"drop": ["engine", "root"], "noengine": ""}, "Docker: does not answer", "docker deploy"),
        ({"drop": ["writable"], "unwritable": ""}, "can be written", "sudo install -d -o"),
        ({"free": "10240"}, "0.0 GiB free for /opt/bikecast", "make room: 0.1 GiB"),
        ({"rootfree": "1048576"}, "1.0 GiB free for /var/lib/docker", "make room: 3.0 GiB"),
        ({"taken": "8000"}, "port 8000 can be taken", "stop what listens there"),
        ({"port": 443}, "port 443 can be taken", "unprivileged_port_start=443"),
        ({"clock": "1767322900"}, "clock -100.0 s from ours", "NTP"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(changes, what, remedy):
    """One finding, all others fine."""
    (finding,) = [f for f in judged(**changes) if not f.fine]
    assert what in finding.what and remedy in finding.remedy


def test_a_newer_engine_is_fine():
    """By numbers, not letter by letter."""
    assert all(f.fine for f in judged(engine="27.3.1"))
    assert all(f.fine for f in judged(engine="100.0"))


def test_a_host_that_said_nothing_is_unfit():
    """No crash."""
    assert not all(f.fine for f in findings("", environment(), NOW))


def test_a_host_is_asked_without_changing_it(fresh):
    """The answer of this machine can be judged."""
    one = fresh[0]
    before = one.everything()
    text = one.run(ask(environment()))
    found = findings(text, environment(), NOW)
    assert one.everything() == before
    assert {f.what for f in found if f.fine} >= {"Docker 27.3.1", "tools: all there"}
    assert "writable\n" in text


def test_the_disk_of_the_images_is_measured_too(fresh):
    """Docker's folder may lie on another one than ours, and not where users may look."""
    one = fresh[0]
    one.play_program(
        "df", "echo head; case $2 in */docker) echo - - - 7 ;; *) echo - - - 5 ;; esac"
    )
    facts = dict(line.partition(" ")[::2] for line in one.run(ask(environment())).splitlines())
    assert (facts["free"], facts["rootfree"]) == ("5", "7")


def test_an_engine_that_does_not_answer_says_why(fresh):
    """Docker prints a half-filled template then; nothing is left in /tmp."""
    why = "Cannot connect to the Docker daemon"
    fresh[0].play_program("docker", f'[ "$2" != -f ] || echo; echo "{why}" >&2; exit 1')
    text = fresh[0].run(ask(environment()))
    assert f"noengine {why}\n" in text and "\nengine" not in text and "\nroot" not in text


def test_a_port_of_our_own_proxy_is_not_taken(hosts):
    """Found out by what listens; where that is the proxy, all is well."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        env = environment(("[service]", f"[proxy]\nport = {port}\n[service]"))
        assert f"taken {port}" not in hosts[0].run(ask(env))
        hosts[0].run(ask(env))
        (hosts[0].docker / "containers" / "bikecast-proxy").unlink()
        assert f"taken {port}" in hosts[0].run(ask(env))
