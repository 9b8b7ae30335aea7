"""Hosts, images and deployers that fail in the middle of a release, while riders ask."""

import json
import os
import signal
import time

import pytest
from fleet.client import Load
from fleet.machine import until
from fleet.stage import FIRST, NEXT, SICK, Stage, agree, said_until, unharmed

pytestmark = [pytest.mark.e2e, pytest.mark.full]


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


def test_disk_full(riders: Load, live: Stage) -> None:
    """On one host: neither changes."""
    tag = live.release("eeeeeeeeeee5", "RUN head -c 300000000 /dev/urandom > /tmp/ballast")
    host = live.hosts[1]
    host.fill_disk()
    try:
        done = live.deploy(tag)
    finally:
        host.free_disk()
    assert done.code == 3 and host.ip in done.last and "space" in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


PHASES = ["pulled on", "has the schema", "healthy on", "has 100 %"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
@pytest.mark.parametrize("after", PHASES)
def test_told_to_stop(riders: Load, live: Stage, after: str, number: signal.Signals) -> None:
    """All as it was, locks given back, exit code 143 or, after Ctrl-C, 130."""
    words = ("deploy", "--release", NEXT, "--bake", "30s")
    done = live.interrupted(after, number, *words)
    assert done.code == 128 + number, done.err
    agree(live, FIRST)
    unharmed(riders)


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
        # Before the switch it goes back from FIRST, where anything was live before that.
        assert done.code == 0 or (after != PHASES[-1] and done.code == 1), done.err
        (found,) = set(live.live().values())
        assert found == FIRST or after != PHASES[-1]
    unharmed(riders)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_rollback_cut_off(riders: Load, live: Stage, number: signal.Signals) -> None:
    """The next one finishes it."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    live.interrupted("switched", number, "rollback")
    done = live.inv("rollback", "--to", FIRST)
    assert done.code == 0, done.err
    agree(live, FIRST)
    unharmed(riders)


@pytest.mark.parametrize("what", ["sshd", "engine"])
def test_a_host_that_hangs_in_the_middle(riders: Load, live: Stage, what: str) -> None:
    """It is named once its time is over; the next command mends what was begun."""
    host = live.hosts[1]
    process = live.start("deploy", "--release", NEXT)
    said_until(process, "pulled on")
    getattr(host, f"freeze_{what}")()
    try:
        rest = process.communicate(timeout=240)[1]
    finally:
        getattr(host, f"thaw_{what}")()
    assert process.returncode == 3 and host.ip in rest.strip().splitlines()[-1], rest
    assert set(live.live().values()) == {FIRST}
    done = live.deploy(NEXT, "--bake", "0s", "--wait", "60s")
    assert done.code == 0, done.err
    agree(live, NEXT)
    unharmed(riders)


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
