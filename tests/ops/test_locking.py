"""The lock on every host: who has it, who gets it, and what one without it can do: nothing."""

import json
import threading
import time

import pytest
from deployer import Deployer, Fault, live, name_of
from local_host import DIRECTORY, environment, target

from bikecast.errors import CommandFailed, HostGone, Locked, LockLost
from bikecast.ops import commands, locking
from bikecast.ops.locking import has_ended, locked, machine, owner_line, started, told_owner
from bikecast.ops.release import How, deploy
from bikecast.ops.state import Lock, parse_history


@pytest.fixture
def take(fresh):
    """Take the lock of both hosts for a block."""

    def do(who="ann", wait=0.0, said=None, **more):
        site = Deployer(fresh, **more).site
        say = (said if said is not None else []).append
        return locked(site.fleet, DIRECTORY, who, "work", site.fleet.hosts, say, wait)

    return do


def tokens(hosts):
    """The tokens of the locks that there are."""
    files = (h.root / "lock" / "token" for h in hosts)
    return [f.read_text() for f in files if f.exists()]


def test_the_lock_is_taken_on_every_host_and_given_back(take, fresh):
    """It says who has it and what for."""
    with take() as token:
        assert tokens(fresh) == [token] * 2
        lock = fresh[0].state().lock
        assert lock.age <= 2 and lock.owner["who"] == "ann" and lock.owner["reason"] == "work"
    assert tokens(fresh) == [] and fresh[0].state().lock is None


def test_a_lock_that_is_held_is_refused_with_its_owners_name(take, fresh):
    """Exit code 3; the next step is to wait; the owner's lock is as it was."""
    with take() as token:
        with pytest.raises(Locked, match=r"one is locked by ann \(work, since .*--wait") as error:
            with take("bob"):
                pass
        assert error.value.exit_code == 3 and tokens(fresh) == [token] * 2


def test_hosts_are_locked_in_one_order_whoever_asks(fresh):
    """By their names; so nobody waits for somebody who waits for them."""
    order = []
    for host in fresh:
        host.before = lambda c, name=host.name: name_of(c) == "take lock" and order.append(name)
    site = Deployer(fresh).site
    backwards = tuple(reversed(site.fleet.hosts))
    with locked(site.fleet, DIRECTORY, "ann", "work", backwards, order.append):
        assert order == ["one", "two"]


def test_what_was_taken_is_given_back_where_a_later_host_refuses(take, fresh):
    """No host stays locked by somebody who gave up."""
    two = fresh[1]
    two.run(commands.take_lock(DIRECTORY, "another", owner_line("bob", "work")))
    with pytest.raises(Locked, match="two is locked by bob"):
        with take():
            pass
    assert tokens(fresh) == ["another"]


def test_a_lock_whose_answer_was_lost_is_given_back(take, fresh):
    """It may have been taken all the same."""
    with pytest.raises(HostGone):
        with take(faults=(Fault("lost", "two", 0),)):
            pass
    assert tokens(fresh) == []


def test_a_lock_without_heartbeats_is_taken_over_with_a_word(take, fresh):
    """An hour without a sign of life is too long."""
    fresh[0].run(commands.take_lock(DIRECTORY, "old", owner_line("bob", "a long deploy")))
    fresh[0].expire()
    said = []
    with take(said=said) as token:
        assert tokens(fresh) == [token] * 2
    assert len(said) == 1
    assert said[0].startswith("one: the lock of bob (a long deploy, since ")
    assert said[0].endswith(" s ago) is taken over")


def test_the_lock_of_a_process_of_this_machine_that_ended_is_taken_over_at_once(take, fresh):
    """There is no need to wait for it to expire."""
    owner = json.loads(owner_line("bob", "work")) | {"pid": 2**22 + 1}
    fresh[0].run(commands.take_lock(DIRECTORY, "old", json.dumps(owner)))
    with take() as token:
        assert tokens(fresh) == [token] * 2


@pytest.mark.parametrize(
    ("change", "ended"),
    [
        ({}, False),
        ({"pid": 2**22 + 1}, True),
        ({"started": "1"}, True),
        ({"machine": "another"}, False),
        ({"machine": "another", "pid": 2**22 + 1}, False),
        ({"started": ""}, False),
    ],
)
def test_an_owner_is_known_to_have_ended_only_on_this_machine(change, ended):
    """By its number and the time it was started: numbers are used again."""
    assert has_ended(json.loads(owner_line("ann", "work")) | change) is ended


def test_what_has_no_process_has_no_start():
    """And this machine since its start has one name."""
    assert started(2**22 + 1) == "" and machine() == machine()


def test_an_owner_that_was_cut_off_is_somebody():
    """Words for a lock of which nothing is known."""
    assert told_owner(Lock(3, {}, "")) == "somebody (unknown work, since ?, last seen 3 s ago)"


def test_waiting_ends_when_the_lock_is_given_back(take, fresh, monkeypatch):
    """It says once for whom it waits."""
    asked, said = [], []

    def give_back(command):
        asked.append(name_of(command))
        if asked.count("take lock") == 3:
            fresh[0].shell(f"rm -r {DIRECTORY}/lock")

    monkeypatch.setattr(locking, "ASK_AGAIN", 0)
    fresh[0].run(commands.take_lock(DIRECTORY, "old", owner_line("bob", "work")))
    fresh[0].before = give_back
    with take(wait=60.0, said=said) as token:
        assert tokens(fresh) == [token] * 2
    assert asked.count("take lock") == 3
    assert len(said) == 1 and said[0].startswith("one: waiting for bob (work")


def test_the_heartbeat_keeps_a_lock(take, fresh, monkeypatch):
    """On every host, as long as the block takes."""
    monkeypatch.setattr(locking, "HEARTBEAT", 0.01)
    with take():
        wait_for_a_beat(*fresh)


def wait_for_a_beat(*hosts):
    """Let nothing be heard from the locks' owner, then wait for a sign of life."""
    for host in hosts:
        host.expire()
    until = time.monotonic() + 10
    while any(h.state().lock.age > 60 for h in hosts):
        assert time.monotonic() < until, "no heartbeat was heard"


def test_the_heartbeat_waits_for_no_work(fresh, monkeypatch):
    """One host at a time is worked on, and that takes long: all are known to be in use."""
    monkeypatch.setattr(locking, "HEARTBEAT", 0.01)
    fleet = Deployer(fresh).site.fleet
    with locked(fleet, DIRECTORY, "ann", "work", fleet.hosts, print):
        fleet.all(lambda h: wait_for_a_beat(*fresh), fleet.hosts[:1])


def test_a_host_that_hangs_holds_up_no_other_hosts_heartbeat(take, fresh, monkeypatch):
    """And its own beat does not wait forever."""
    monkeypatch.setattr(locking, "HEARTBEAT", 0.01)
    one, two = fresh
    hanging, end = threading.Event(), threading.Event()

    def hang(command):
        if name_of(command) == "heartbeat":
            hanging.set()
            end.wait(30)

    one.before = hang
    with take():
        assert hanging.wait(10)
        for _ in range(2):
            wait_for_a_beat(two)
        end.set()
    assert commands.keep_lock(DIRECTORY, "token").timeout == 10


def test_a_wish_goes_with_the_owner_it_was_made_of(take, fresh):
    """Whoever takes the lock over was asked for nothing; a retry of the same owner keeps it."""
    one = fresh[0]
    owner = owner_line("bob", "a canary")
    one.run(commands.take_lock(DIRECTORY, "old", owner))
    one.run(commands.wish(DIRECTORY, owner, "promote"))
    one.run(commands.take_lock(DIRECTORY, "old", owner))
    assert (one.root / "lock" / "wish").read_text() == "promote"
    one.expire()
    with take():
        assert not (one.root / "lock" / "wish").exists()
        with pytest.raises(CommandFailed, match="its deployer is not at work any more"):
            one.run(commands.wish(DIRECTORY, owner, "promote"))
        assert not (one.root / "lock" / "wish").exists()


def test_a_busy_guard_is_no_lost_lock(fresh):
    """Somebody's command takes long: the lock is still ours, so that is told as what it is."""
    one = fresh[0]
    one.run(commands.take_lock(DIRECTORY, "token", owner_line("ann", "work")))
    (one.path / "flock").write_text("#!/bin/sh\nexit 1\n")
    (one.path / "flock").chmod(0o755)
    with pytest.raises(
        CommandFailed, match="one: its lock was busy for 10 s: inv status .*keeping its lock"
    ):
        one.run(commands.keep_lock(DIRECTORY, "token"))


def test_a_lock_that_was_taken_away_is_told_and_not_given_back(take, fresh, monkeypatch):
    """The heartbeat finds out; the new owner's lock stays."""
    monkeypatch.setattr(locking, "HEARTBEAT", 0.01)
    said = []
    with take(said=said):
        for host in fresh:
            host.run(commands.break_lock(DIRECTORY))
            host.run(commands.take_lock(DIRECTORY, "new", owner_line("bob", "work")))
        until = time.monotonic() + 10
        while len(said) < 2:
            assert time.monotonic() < until, "it was not found out"
    one, two = sorted(said)
    assert one.startswith("one: the lock is not ours any more; nothing was changed")
    assert two.startswith("two: the lock is not ours any more")
    assert tokens(fresh) == ["new", "new"]


def test_breaking_a_lock_names_who_had_it(fresh):
    """And is no error where there is none."""
    one = fresh[0]
    one.run(commands.take_lock(DIRECTORY, "old", owner_line("bob", "work")))
    assert '"who": "bob"' in one.run(commands.break_lock(DIRECTORY))
    assert one.run(commands.break_lock(DIRECTORY)) == ""


# -- without the lock nothing is changed -----------------------------------------------------------


def changing(env, token):
    """Every command that needs the lock."""
    labels = {"bikecast.release": "c"}
    image = f"{env.registry.image}@{target('c').digest}"
    directory = env.hosts.directory
    return {
        "switch": commands.switch(directory, token, 0),
        "write": commands.write_file(directory, token, "secrets/blue/database_url", "x"),
        "migrate": commands.migrate(env, token, "1:1", image),
        "service": commands.start_service(env, token, "blue", "1:1", image, labels),
        "refresher": commands.start_refresher(env, token, "blue", "1:1", image, labels),
        "watch": commands.start_watch(env, token, "1:1", 100, {}),
        "proxy": commands.start_proxy(env, token, "another", "1:1", "i", labels),
        "set aside": commands.set_aside(directory, token, "blue"),
        "put back": commands.put_back(directory, token, "blue"),
        "drop former": commands.drop_former(directory, token),
        "remove": commands.remove(directory, token, "bikecast-blue"),
        "kill": commands.kill(directory, token, "bikecast-refresher-green"),
        "record": commands.record(directory, token, {"verdict": "live"}),
        "prune": commands.prune(directory, token, [env.registry.image], []),
        "announce": commands.announce(directory, token, "i"),
        "replace proxy": commands.replace_proxy(directory, token, "i"),
        "keep": commands.keep_lock(directory, token),
        "release": commands.release_lock(directory, token),
    }


@pytest.mark.integration
@pytest.mark.parametrize("name", changing(environment(), "x"))
@pytest.mark.parametrize("lock", ["another", ""])
def test_a_deployer_without_the_lock_changes_nothing(hosts, name, lock):
    """Whether somebody has it or nobody: the host itself refuses."""
    one = hosts[0]
    if lock:
        one.run(commands.take_lock(DIRECTORY, lock, owner_line("bob", "work")))
    before = one.everything()
    with pytest.raises(LockLost, match="one: the lock is not ours any more") as error:
        one.run(changing(environment(), "stalled")[name])
    assert error.value.exit_code == 3
    assert one.everything() == before


def test_a_deployer_that_lost_one_host_says_of_none_that_its_release_is_live(hosts):
    """Its lock on the other is broken while riders are watched."""
    met = []

    def overtake(command):
        met.append(name_of(command))
        if met.count("traffic") == 3 and met[-1] == "traffic":
            hosts[1].run(commands.break_lock(DIRECTORY))

    hosts[0].before = overtake
    with pytest.raises(LockLost, match="^two: the lock is not ours"):
        deploy(Deployer(hosts).site, target("c"), How(bake=0))
    for host in hosts:
        assert target("c").release not in (host.root / "history.jsonl").read_text()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("at", "number"),
    [("pull", 1), ("run blue", 1), ("switch", 1), ("traffic", 3), ("record", 1), ("prune", 1)],
    ids=["pull", "run", "switch", "bake", "record", "prune"],
)
def test_a_deployer_that_was_stalled_leaves_all_to_its_successor(hosts, at, number):
    """Its lock was taken over while it slept; it wakes up, gives in, and claims nothing."""
    met, done = [], []

    def overtake(command):
        met.append(name_of(command))
        if met.count(at) == number and not done:
            done.append(at)
            for host in hosts:
                host.expire()
            deploy(Deployer(hosts, who="bob").site, target("d"), How(bake=0))

    hosts[0].before = overtake
    deployer = Deployer(hosts)
    with pytest.raises(LockLost):
        deploy(deployer.site, target("c"), How(bake=0))
    assert done and live(hosts) == {"d": 2}
    for host in hosts:
        last = parse_history((host.root / "history.jsonl").read_text())[-1]
        assert (last.who, last.release[0], last.verdict) == ("bob", "d", "live")
    assert hosts[0].running()[f"bikecast-refresher-{hosts[0].answers()[0]}"] == "d"
