"""A host's answers as errors, several hosts at once, and a dry run."""

import os
import signal
import threading

import pytest
from local_host import LocalHost

from bikecast.errors import BikecastError, CommandFailed, HostGone, LockLost
from bikecast.ops import commands
from bikecast.ops.commands import Command, script
from bikecast.ops.host import (
    DryHost,
    Fleet,
    in_time,
    printed,
    to_the_end,
    together,
)


class Named:
    """A host that only has a name."""

    def __init__(self, name):
        self.name = name

    def close(self):
        """Nothing to hang up."""


ONE, TWO, THREE = Named("one"), Named("two"), Named("three")


def test_an_exit_code_is_an_error_or_none():
    """75 says that the lock is lost; any other shows the last line that was printed."""
    command = Command(("true",))
    assert printed("one", command, 0, "out", "noise") == "out"
    with pytest.raises(LockLost, match="one: the lock is not ours any more.*inv status"):
        printed("one", command, 75, "", "")
    with pytest.raises(CommandFailed, match=r"^one: why \(`true`\); see to that .*again$") as error:
        printed("one", command, 2, "out", "first\nwhy\n\n")
    assert (error.value.code, error.value.exit_code) == (2, 3)
    assert (error.value.said, error.value.out) == ("first\nwhy\n\n", "out")
    with pytest.raises(CommandFailed, match="one: from stdout"):
        printed("one", command, 1, "from stdout", "")
    with pytest.raises(CommandFailed, match="one: exit code 9"):
        printed("one", command, 9, "", "")


def test_a_command_is_shown_by_what_it_does():
    """A script in words, anything else by its first ones: no shell stands in an error."""
    with pytest.raises(CommandFailed, match=r"^one: why \(pulling images\); see to that"):
        printed("one", commands.pull("r.io", "", "", ["i"]), 1, "", "why")
    with pytest.raises(CommandFailed, match=r"^one: why \(`docker exec bikecast-blue`\);"):
        printed("one", Command(("docker", "exec", "bikecast-blue", "bikecast")), 1, "", "why")
    with pytest.raises(CommandFailed, match=r"^one: why \(a script\);"):
        printed("one", script("echo\n" * 100), 1, "", "why")


def test_a_command_that_its_limit_ended_names_the_limit():
    """124 and 137 mean that only where the time was up; a limit of our own is not to be set."""
    plain, limited = Command(("docker", "ps")), commands.look("/opt/bikecast")
    with pytest.raises(HostGone, match="^one: `docker ps` did not end within 300 s; .*imeout is"):
        in_time("one", plain, 300, 124, 300.1)
    with pytest.raises(HostGone, match="^one: looking at it did not end within 20 s; .*hangs$"):
        in_time("one", limited, 300, 137, 25.0)
    in_time("one", plain, 300, 137, 299.0)
    in_time("one", plain, 300, 0, 300.1)


def test_a_limit_is_whole_seconds_and_never_none():
    """For `timeout`, 0 is no limit."""
    assert Command(("true",)).limited(0.2) == "timeout -k 5 1 true"
    assert commands.look("/x").limited(300).startswith("timeout -k 5 20 sh -c ")


def test_a_local_host_answers_as_a_real_one(fresh):
    """Its output, its errors, what it reads."""
    one = fresh[0]
    assert one.run(Command(("printf", "%s|", "a b", "$HOME", "'"))) == "a b|$HOME|'|"
    assert one.run(Command(("cat",), stdin="a secret")) == "a secret"
    with pytest.raises(CommandFailed, match="one: no "):
        one.run(script("echo no >&2; exit 3"))
    with pytest.raises(LockLost):
        one.run(script("exit 75"))


def test_several_hosts_are_worked_on_at_once_and_told_in_order():
    """Each waits for all others here."""
    barrier = threading.Barrier(3, timeout=10)
    fleet = Fleet((ONE, TWO, THREE), 10)
    done, failed = fleet.each(lambda h: barrier.wait() >= 0 and h.name)
    assert list(done.values()) == ["one", "two", "three"] and not failed


def test_no_more_are_worked_on_than_allowed():
    """The setting ``concurrency``."""
    busy, most, guard = set(), [], threading.Lock()

    def work(host):
        with guard:
            busy.add(host)
            most.append(len(busy))
        threading.Event().wait(0.001)
        with guard:
            busy.remove(host)

    Fleet((ONE, TWO, THREE), 2).all(work)
    assert max(most) <= 2


def test_a_failure_on_one_host_does_not_hide_what_the_others_did():
    """``each`` tells both; ``all`` fails with the first, naming the others."""

    def work(host):
        if host is not TWO:
            raise HostGone(f"{host.name} is gone", hint="wait")
        return 7

    fleet = Fleet((ONE, TWO, THREE), 10)
    done, failed = fleet.each(work)
    assert done == {TWO: 7} and list(failed) == [ONE, THREE]
    with pytest.raises(HostGone, match=r"one is gone \(also failed: three\); wait"):
        fleet.all(work)
    assert fleet.all(work, (TWO,)) == {TWO: 7}


def test_a_mistake_of_ours_is_no_failure_of_a_host():
    """It is raised as it is."""
    with pytest.raises(ZeroDivisionError):
        Fleet((ONE, TWO), 10).each(lambda h: 1 / 0)


def test_an_interrupted_fleet_waits_for_what_is_under_way():
    """What was begun on a host is not cut off by a signal here."""
    finished = []

    def work(host):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.05)
        finished.append(host.name)

    with pytest.raises(KeyboardInterrupt):
        Fleet((ONE,), 1).each(work)
    assert finished == ["one"]


def test_what_must_not_stay_half_done_is_done_once_more():
    """After a signal; an error is an error at once."""
    calls = []

    def do(error):
        calls.append(error)
        if error and len(calls) == 1:
            raise error
        return 7

    assert to_the_end(lambda: do(None)) == 7
    calls.clear()
    with pytest.raises(SystemExit):
        to_the_end(lambda: do(SystemExit(143)))
    assert len(calls) == 2
    calls.clear()
    with pytest.raises(BikecastError):
        to_the_end(lambda: do(BikecastError("no")))
    assert len(calls) == 1


def test_one_error_stands_for_many():
    """The first in full."""
    error = together({ONE: HostGone("first"), TWO: HostGone("second"), THREE: HostGone("third")})
    assert str(error) == "first (also failed: two, three)"


def test_a_dry_run_prints_and_only_looks(fresh):
    """What changes something is pretended; what is read from standard input is not shown."""
    said = []
    host = DryHost(fresh[0], said.append, 30)
    assert host.run(Command(("touch", "x"), pretend="done")) == "done"
    assert host.run(Command(("echo", "a b"), reads=True)) == "a b\n"
    host.run(Command(("cat",), stdin="secret"))
    lines = ["touch x", "echo 'a b'", "cat < (not shown)"]
    assert said == [f"one$ timeout -k 5 30 {line}" for line in lines]
    assert not (fresh[0].root.parent / "x").exists()


def test_a_copied_host_stands_on_its_own(hosts, make_hosts):
    """What one test does to it no other sees."""
    (copy,) = make_hosts(hosts[0])
    copy.change("bikecast-green", status="exited")
    assert isinstance(copy, LocalHost) and "bikecast-green" in hosts[0].running()
    assert copy.state().live == "green" and copy.answers() == ("green", "")
