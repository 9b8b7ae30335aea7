"""Releases on real hosts, with riders asking all the while: what each case may cost, and no more.

Unmarked cases are the core that every run of CI takes; the rest are run by `nox -s e2e -- --all`.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet.client import Load
from fleet.hosts import Fleet, Host
from fleet.machine import until
from fleet.registry import Registry
from fleet.service import Database
from fleet.stage import (
    LATER_FAILING,
    MIGRATES,
    MIGRATES_BADLY,
    NEVER_HEALTHY,
    Stage,
    TOP,
    said_until,
)
from readme import readme_lines

pytestmark = pytest.mark.e2e
full = pytest.mark.full

FIRST, NEXT, SICK, SPOILED = "aaaaaaaaaaa1", "bbbbbbbbbbb2", "ccccccccccc3", "ddddddddddd4"
RATE = 100  # requests per second and host


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory,
    fleet: Fleet,
    hosts: list[Host],
    registry: Registry,
    database: Database,
) -> Stage:
    """The environment `staging` with four releases in its registry, hosts set up."""
    made = Stage(tmp_path_factory.mktemp("stage"), fleet, hosts, registry, database)
    for tag, change in ((FIRST, ""), (NEXT, ""), (SICK, NEVER_HEALTHY), (SPOILED, LATER_FAILING)):
        made.release(tag, change)
    return made


@pytest.fixture
def live(stage: Stage) -> Stage:
    """FIRST is live on all hosts, alone."""
    stage.write()
    done = stage.inv("setup")
    assert done.code == 0, done.err
    if set(stage.live().values()) != {FIRST} or stage.status()["warnings"]:
        done = stage.deploy(FIRST, "--bake", "0s", "--wait", "60s")
        assert done.code == 0, done.err
    return stage


@pytest.fixture
def riders(live: Stage) -> Iterator[Load]:
    """They ask both hosts; no test ends before they got an answer."""
    with Load(live.urls(), rate=RATE, header="X-Bikecast-Colour") as load:
        until(lambda: len(load.answers()) > 50, "nobody answers riders", 30)
        yield load


def unharmed(load: Load) -> Counter:
    """Every request was answered well; how many came from which colour."""
    time.sleep(0.5)
    assert [str(f) for f in load.failures[:5]] == []
    return load.releases()


def agree(stage: Stage, release: str) -> None:
    """All hosts have this release, nobody holds a lock, nothing is left to mend."""
    found = stage.status()
    assert {h["host"]: h["release"] for h in found["hosts"]} == {
        h.ip: release for h in stage.hosts
    }, found
    assert not [h["lock"] for h in found["hosts"] if h["lock"]] and found["warnings"] == [], found


@pytest.fixture(scope="session")
def checkout(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with the stage's environment in it."""
    folder = tmp_path_factory.mktemp("clone") / "bikecast"
    subprocess.run(["git", "clone", "-q", str(TOP), str(folder)], check=True)
    shutil.copy(stage.folder / "deploy/environments/staging.toml", folder / "deploy/environments")
    return folder


def test_first_deploy(stage: Stage) -> None:
    """From hosts with nothing but Docker to a service that answers on each."""
    stage.reset()
    unfit = stage.deploy(FIRST)
    assert unfit.code == 2 and "not set up" in unfit.last and "inv setup" in unfit.last
    assert stage.inv("setup").code == 0
    done = stage.deploy(FIRST, "--bake", "2s", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["release"] == FIRST
    agree(stage, FIRST)
    with Load(stage.urls(), rate=RATE, header="X-Bikecast-Colour") as load:
        time.sleep(2)
        assert set(unharmed(load)) == {"blue"}


def test_next_deploy(riders: Load, live: Stage) -> None:
    """No rider notices; the former release stays warm."""
    colour = live.status()["hosts"][0]["colour"]
    done = live.deploy(NEXT, "--bake", "2s")
    assert done.code == 0, done.err
    agree(live, NEXT)
    assert len(unharmed(riders)) == 2
    found = live.status()["hosts"][0]
    assert found["colour"] != colour and found["idle"] == f"{FIRST} (running)"


def test_rollback(riders: Load, live: Stage) -> None:
    """One rename on each host; a second rollback does not roll forward."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    former = live.status()["hosts"][0]["colour"]
    began = time.monotonic()
    done = live.inv("rollback")
    assert done.code == 0, done.err
    agree(live, FIRST)
    unharmed(riders)
    back = {"blue": "green", "green": "blue"}[former]
    assert all(riders.first_answer_of(back, began, url) for url in live.urls())
    again = live.inv("rollback")
    assert again.code == 1 and "there is no release before" in again.last, again.err
    agree(live, FIRST)


def test_canary_to_the_end(riders: Load, live: Stage) -> None:
    """A share of the requests, then all of them."""
    done = live.deploy(NEXT, "--strategy", "canary", "--steps", "20,100", "--bake", "4s")
    assert done.code == 0, done.err
    assert "has 20 % of the requests" in done.err and "at 20 %: go on" in done.err
    agree(live, NEXT)
    unharmed(riders)


def test_failing_after_the_switch(riders: Load, live: Stage) -> None:
    """All hosts go back by themselves; only the broken release's own answers were bad."""
    done = live.deploy(SPOILED, "--bake", "15s")
    assert done.code == 1, done.err
    assert "answers failed" in done.last and "all hosts went back" in done.last
    agree(live, FIRST)
    failed = riders.counts()
    assert set(failed) <= {"ok", "status 500"} and failed["status 500"], failed
    quiet = time.monotonic()
    time.sleep(1)
    assert set(riders.counts(after=quiet)) == {"ok"}


def test_one_bad_host(riders: Load, live: Stage) -> None:
    """Where one of two cannot run it, neither gets it."""
    bad = live.hosts[1]
    block = ["-p", "tcp", "--dport", "55432", "-j", "REJECT"]
    bad.run("iptables", "-I", "FORWARD", *block)
    try:
        done = live.deploy(NEXT)
    finally:
        bad.run("iptables", "-D", "FORWARD", *block)
    assert done.code == 1 and f"not healthy on {bad.ip}" in done.last, done.err
    assert f"{bad.ip}|" in done.err, "its last log lines are shown"
    agree(live, FIRST)
    unharmed(riders)


def test_killed_while_switching(riders: Load, live: Stage) -> None:
    """The next deploy finds out where things stand and finishes."""
    killed = live.interrupted("smoke test passed", signal.SIGKILL, "deploy", "--release", NEXT)
    assert killed.code == -signal.SIGKILL
    done = live.deploy(NEXT, "--bake", "0s")
    assert done.code == 0 and "is taken over" in done.err, done.err
    agree(live, NEXT)
    unharmed(riders)


@full
def test_never_healthy(riders: Load, live: Stage) -> None:
    """Nothing changes, and the container's last words are shown."""
    before = live.status()
    done = live.deploy(SICK)
    assert done.code == 1 and "not healthy" in done.last, done.err
    assert "Invalid value for '--workers'" in done.err
    agree(live, FIRST)
    unharmed(riders)
    after = live.status()
    assert [h["idle"] for h in after["hosts"]] == [h["idle"] for h in before["hosts"]]


@full
def test_a_host_that_cannot_be_reached(riders: Load, live: Stage) -> None:
    """A deploy does not begin; a rollback takes the others back and names it."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    gone = live.hosts[1]
    gone.cut()
    try:
        done = live.deploy(FIRST)
        assert done.code == 3 and gone.ip in done.last, done.err
        back = live.inv("rollback")
        assert back.code == 3 and f"{gone.ip}: not rolled back" in back.last, back.err
        assert live.live() == {live.hosts[0].ip: FIRST}
    finally:
        gone.mend()
    mixed = live.inv("status")
    assert mixed.code == 1 and "the fleet is mixed" in mixed.out
    mended = live.inv("rollback")
    assert mended.code == 0, mended.err
    agree(live, FIRST)
    assert not [f for f in riders.failures if f.url == live.urls()[0]]


@full
@pytest.mark.parametrize("what", ["sshd", "engine"])
def test_a_host_that_accepts_and_hangs(riders: Load, live: Stage, what: str) -> None:
    """It is named within the time limits, and nothing was touched."""
    host = live.hosts[1]
    getattr(host, f"freeze_{what}")()
    try:
        done = live.deploy(NEXT)
    finally:
        getattr(host, f"thaw_{what}")()
    assert done.code == 3 and host.ip in done.last, done.err
    assert done.seconds < 60
    agree(live, FIRST)
    unharmed(riders)


@full
def test_a_host_that_goes_while_riders_are_watched(riders: Load, live: Stage) -> None:
    """Those that answer go back, the lost one is named, and the next command mends it."""
    process = live.start("deploy", "--release", NEXT, "--bake", "30s")
    said_until(process, "has 100 %")
    time.sleep(2)
    gone = live.hosts[1]
    gone.cut()
    try:
        rest = process.communicate(timeout=120)[1]
        assert process.returncode == 1, rest
        assert f"{live.hosts[0].ip} went back, {gone.ip} could not" in rest
    finally:
        gone.mend()
    assert live.inv("rollback", "--wait", "60s").code == 0
    agree(live, FIRST)
    assert not [f for f in riders.failures if f.url == live.urls()[0]]


@full
def test_registry_gone(riders: Load, live: Stage) -> None:
    """One line, and nothing touched."""
    live.registry.stop()
    try:
        done = live.deploy(NEXT)
    finally:
        live.registry.start()
    assert done.code == 3 and live.registry.address in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


@full
def test_disk_full(riders: Load, live: Stage) -> None:
    """On one host: neither changes."""
    tag = live.release("eeeeeeeeeee5", "RUN head -c 300000000 /dev/urandom > /tmp/ballast")
    host = live.hosts[1]
    host.fill_disk()
    try:
        done = live.deploy(tag)
    finally:
        host.free_disk()
    assert done.code in (1, 3) and host.ip in done.last and "space" in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


PHASES = ["pulled on", "has the schema", "healthy on", "has 100 %"]


@full
@pytest.mark.parametrize("after", PHASES)
def test_terminated(riders: Load, live: Stage, after: str) -> None:
    """SIGTERM: all as it was, locks given back, exit code 143."""
    words = ("deploy", "--release", NEXT, "--bake", "30s")
    done = live.interrupted(after, signal.SIGTERM, *words)
    assert done.code == 128 + signal.SIGTERM, done.err
    agree(live, FIRST)
    unharmed(riders)


@full
@pytest.mark.parametrize("then", ["deploy", "rollback"])
@pytest.mark.parametrize("after", PHASES)
def test_killed(riders: Load, live: Stage, after: str, then: str) -> None:
    """SIGKILL: the next command finishes, forwards or back."""
    live.interrupted(after, signal.SIGKILL, "deploy", "--release", NEXT, "--bake", "30s")
    if then == "deploy":
        done = live.deploy(NEXT, "--bake", "0s")
        assert done.code == 0, done.err
        agree(live, NEXT)
    else:
        done = live.inv("rollback")
        # Before the switch there is nothing to go back from but the release before FIRST.
        assert done.code in (0, 1), done.err
        assert len(set(live.live().values())) == 1
    unharmed(riders)


@full
def test_two_deploys_at_once(riders: Load, live: Stage) -> None:
    """The second says who is at work, or waits."""
    process = live.start("deploy", "--release", NEXT, "--bake", "8s")
    said_until(process, "pulled on")
    refused = live.deploy(FIRST)
    assert refused.code == 3 and f"deploy {NEXT}" in refused.last, refused.err
    waited = live.deploy(FIRST, "--wait", "2m", "--bake", "0s")
    assert process.communicate(timeout=60)[1] and process.returncode == 0
    assert waited.code == 0 and "waiting for" in waited.err, waited.err
    agree(live, FIRST)
    unharmed(riders)


@full
def test_a_stalled_deployer_changes_nothing(riders: Load, live: Stage) -> None:
    """Its lock expires; another takes over; waking up, it finds that out and stops."""
    process = live.start("deploy", "--release", NEXT, "--bake", "30s")
    said_until(process, "healthy on")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        other = live.deploy(FIRST, "--bake", "0s", "--wait", "90s")
        assert other.code == 0 and "is taken over" in other.err, other.err
    finally:
        os.kill(process.pid, signal.SIGCONT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 3 and "the lock is not ours any more" in rest, rest
    agree(live, FIRST)
    unharmed(riders)


@full
def test_a_canary_whose_deployer_died_goes_back(riders: Load, live: Stage) -> None:
    """By itself, by a timer on the host."""
    words = ("deploy", "--release", NEXT, "--strategy", "canary", "--steps", "20,100")
    live.interrupted("has 20 %", signal.SIGKILL, *words, "--bake", "60s")
    assert live.status()["hosts"][0]["share"] == "80 %"
    until(
        lambda: [h["share"] for h in live.status()["hosts"]] == ["100 %", "100 %"],
        "the canary did not go back",
        60,
    )
    releases = json.loads(live.inv("releases", "--json").out)
    assert "by itself" in releases[-1]["verdict"]
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    agree(live, NEXT)
    unharmed(riders)


@full
def test_a_canary_that_is_too_slow_or_fails_goes_back(riders: Load, live: Stage) -> None:
    """At its first step; few riders saw it."""
    words = ("--strategy", "canary", "--steps", "10,100", "--bake", "20s")
    done = live.deploy(SPOILED, *words)
    assert done.code == 1 and "at 10 %" in done.last, done.err
    agree(live, FIRST)
    counts = riders.counts()
    assert counts["status 500"] < 0.1 * sum(counts.values())


@full
def test_a_canary_with_too_little_traffic_waits_for_people(live: Stage) -> None:
    """It stays at its weight, exit code 1; then promoted, and another one aborted."""
    words = ("--strategy", "canary", "--steps", "20,100", "--bake", "2s")
    held = live.deploy(NEXT, *words)
    assert held.code == 1 and "the canary stays at 20 %" in held.last, held.err
    assert "canary-promote" in live.inv("status").out
    assert live.inv("canary-promote").code == 0
    agree(live, NEXT)
    assert live.deploy(FIRST, *words).code == 1
    assert live.inv("canary-abort").code == 0
    agree(live, NEXT)
    assert live.inv("canary-abort").code == 2


@full
def test_people_decide_on_a_canary_that_is_watched(riders: Load, live: Stage) -> None:
    """Its deployer does what is asked."""
    words = ("deploy", "--release", NEXT, "--strategy", "canary", "--steps", "20,100")
    process = live.start(*words, "--bake", "60s")
    said_until(process, "has 20 %")
    asked = live.inv("canary-abort")
    rest = process.communicate(timeout=60)[1]
    assert asked.code == 0 and process.returncode == 1 and "abort was asked for" in rest, rest
    agree(live, FIRST)
    unharmed(riders)


@full
def test_reboot(riders: Load, live: Stage) -> None:
    """Containers and proxy come back with the right colour."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    host = live.hosts[0]
    host.reboot()

    def answers() -> bool:
        found = {h["host"]: h for h in live.status()["hosts"]}[host.ip]
        return found["release"] == NEXT and bool(found["model"])

    until(answers, "it did not come back", 60)
    agree(live, NEXT)
    assert not [f for f in riders.failures if f.url == live.urls()[1]]


@full
def test_rollback_to_an_older_release_by_its_image(riders: Load, live: Stage) -> None:
    """It is started again; no version needs to be remembered, but one may be named."""
    other = live.release("fffffffffff6")
    for tag in (NEXT, other):
        assert live.deploy(tag, "--bake", "0s").code == 0
    done = live.inv("rollback", "--to", FIRST)
    assert done.code == 0 and "started from its image" in done.err, done.err
    agree(live, FIRST)
    unknown = live.inv("rollback", "--to", "999999999999")
    assert unknown.code == 2 and "no release '999999999999' was live here" in unknown.last
    unharmed(riders)


@full
def test_migrations(riders: Load, live: Stage) -> None:
    """One that fails changes nothing; after one that expands the older release is still read."""
    bad = live.release("aaaaaaaaaaa7", MIGRATES_BADLY)
    done = live.deploy(bad)
    assert done.code == 1 and "could not be migrated" in done.last, done.err
    agree(live, FIRST)
    good = live.release("aaaaaaaaaaa8", MIGRATES)
    try:
        assert live.deploy(good, "--bake", "0s").code == 0
        agree(live, good)
        assert live.inv("rollback").code == 0
        agree(live, FIRST)
        assert live.deploy(good, "--bake", "0s").code == 0
        assert live.inv("rollback", "--to", FIRST).code == 0
        agree(live, FIRST)
    finally:
        live.database.back_to_its_schema()
    unharmed(riders)


@full
def test_a_warm_or_a_stopped_former_release(riders: Load, live: Stage) -> None:
    """By setting: stopped costs nothing, and rolls back as soon as it is healthy."""
    live.write({"release.previous": '"stopped"', "release.bake": "0"})
    assert live.deploy(NEXT).code == 0
    assert live.status()["hosts"][0]["idle"] == f"{FIRST} (exited)"
    assert live.inv("rollback").code == 0
    agree(live, FIRST)
    unharmed(riders)


@full
def test_proxy_upgrade(riders: Load, live: Stage) -> None:
    """Another proxy takes over while riders ask; what it costs is counted."""
    version = live.nginx.rpartition(":")[0]
    subprocess.run(["docker", "tag", live.nginx, "bikecast-stage-nginx"], check=True)
    live.registry.push("bikecast-stage-nginx", "nginx:next")
    live.write({"proxy.image": f'"{version}:next"'})
    try:
        told = live.deploy(NEXT, "--bake", "0s")
        assert told.code == 0 and "has older settings: `inv proxy-upgrade`" in told.err, told.err
        done = live.inv("proxy-upgrade")
        assert done.code == 0 and "new proxy on" in done.err, done.err
    finally:
        live.write()
    assert live.inv("proxy-upgrade").code == 0
    time.sleep(0.5)
    assert set(riders.counts()) == {"ok"}, riders.counts()


@full
def test_dry_runs_touch_nothing(live: Stage) -> None:
    """Every command is printed for every host; the hosts stay as they are."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    before = live.status()
    for words in (
        ("deploy", "--release", NEXT, "--dry"),
        ("--dry", "deploy", "--release", NEXT),
        ("rollback", "--dry"),
        ("deploy", "--release", NEXT, "--strategy", "canary", "--dry"),
        ("proxy-upgrade", "--dry"),
    ):
        done = live.inv(*words)
        assert done.code == 0, done.err
        assert all(f"{h.ip}$ " in done.err for h in live.hosts)
        assert live.database.password not in done.err + done.out
    after = live.status()
    for rows in (before, after):
        for row in rows["hosts"]:
            # These two change by themselves.
            del row["uptime"], row["health"]
    assert after == before


SECRETS = ("geheim-4711", "geheim-registry-0815")


@full
def test_secrets_are_nowhere_to_be_seen(live: Stage, tmp_path: Path) -> None:
    """Not in argv, environments, inspect, logs, layers or output; files are the user's alone."""
    seen: list[str] = []
    process = live.start("deploy", "--release", NEXT, "--bake", "1s")
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        time.sleep(0.02)
    seen += process.communicate(timeout=60)
    assert process.returncode == 0, seen[-1]
    for host in live.hosts:
        names = host.docker("ps", "-aq").split()
        seen += [host.docker("inspect", *names), host.docker("logs", names[0])]
        seen.append(host.docker("history", "--no-trunc", *host.docker("images", "-q").split()[:1]))
        folder = host.directory
        modes = host.run("find", "/opt/bikecast/secrets", "-type", "f", "-printf", "%m ")
        assert set(modes.split()) == {"600"}, modes
        seen.append((Path(folder) / "history.jsonl").read_text())
        seen.append(host.run("sh", "-c", "cat ~deploy/.docker/config.json 2>/dev/null; :"))
    seen += [live.inv("env").out, live.inv("releases").out, live.inv("logs").out]
    for secret in SECRETS:
        assert not [text[:200] for text in seen if secret in text]


@full
def test_tls_at_the_proxy(live: Stage, registry: Registry, tmp_path: Path) -> None:
    """With a certificate of one's own authority; smoke tests speak it too."""
    host = live.hosts[0]
    certificate, key = registry.authority.sign("proxy", *(h.ip for h in live.hosts))
    tls = f'{{certificate = {{file = "{certificate}"}}, key = {{file = "{key}"}}}}'
    live.write({"proxy.port": f"8443\ntls = {tls}"})
    try:
        done = live.inv("proxy-upgrade")
        assert done.code == 0, done.err
        urls = [f"https://{h.ip}:8443" for h in live.hosts]
        ca = registry.ca_file
        with Load(urls, rate=20, header="X-Bikecast-Colour", ca_file=ca) as load:
            assert live.deploy(NEXT, "--bake", "1s").code == 0
            unharmed(load)
        assert (Path(host.directory) / "proxy").is_dir()
    finally:
        live.write()
        assert live.inv("proxy-upgrade").code == 0


@full
def test_bad_input_touches_nothing(riders: Load, live: Stage) -> None:
    """One clear line and exit code 2."""
    for words, says in (
        (("deploy", "--env", "nowhere"), "no environment 'nowhere'"),
        (("deploy", "--release", "111111111111"), "`inv build push`"),
        (("deploy", "--release", "sha256:" + "0" * 64), "`inv build push`"),
        (("deploy", "--release", "sha256:123"), "neither a tag nor a digest"),
        (("deploy", "--release", NEXT, "--strategy", "hope"), "--strategy is 'hope'"),
        (("deploy", "--release", NEXT, "--bake", "soon"), "'soon' is not a duration"),
        (("logs", "--host", "nine"), "no host 'nine'"),
    ):
        done = live.inv(*words)
        assert done.code == 2 and says in done.last, (words, done.err)
    agree(live, FIRST)
    unharmed(riders)


@full
def test_an_unknown_host_key_is_refused(live: Stage) -> None:
    """With what it shows, and how to accept it."""
    (live.folder / "known_hosts").write_text("# nobody\n")
    unknown = live.inv("status")
    assert "is not known; it shows ssh-ed25519 SHA256:" in unknown.out + unknown.err
    assert "ssh-keyscan" in live.deploy(NEXT).last
    swapped = live.fleet.known_hosts.replace(live.hosts[0].ip, "x").replace(
        live.hosts[1].ip, live.hosts[0].ip
    )
    (live.folder / "known_hosts").write_text(swapped)
    other = live.deploy(NEXT)
    assert other.code == 2 and "another host key" in other.last, other.err


@full
def test_the_lines_of_the_readme(riders: Load, live: Stage, checkout: Path) -> None:
    """Every `inv` line of its page on releases, as it stands, from a fresh clone."""
    elsewhere = ("up", "backup", "restore", "down")  # tests/e2e/test_services.py
    lines = [line for line in readme_lines("inv") if line.split()[1] not in elsewhere]
    assert live.deploy(live.release("0123456789ab"), "--bake", "0s").code == 0
    assert live.deploy(FIRST, "--bake", "0s").code == 0
    canary = ""
    for line in lines:
        words = shlex.split(line)[1:]
        if "canary" in words:
            canary = line
        elif words[0] in ("canary-promote", "canary-abort"):
            with live.start(*shlex.split(canary)[1:], cwd=checkout) as process:
                said_until(process, "has 5 %")
                assert live.inv(*words, cwd=checkout).code == 0
                process.communicate(timeout=120)
            assert process.returncode == (words[0] == "canary-abort")
        else:
            done = live.inv(*words, cwd=checkout, timeout=600)
            assert done.code == 0, (line, done.err)
    unharmed(riders)
