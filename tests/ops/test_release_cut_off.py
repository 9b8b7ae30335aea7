"""A release that is cut off at each of its steps, in every way."""

import os
import shutil
import signal

import pytest
from deployer import (
    AT_ONCE,
    CHANGED,
    FIRST,
    STEPS,
    Deployer,
    Fault,
    assert_as_before,
    assert_one_release,
    assert_unlocked,
    live,
    name_of,
    secrets,
)
from local_host import target

from bikecast.errors import BikecastError, CommandFailed
from bikecast.ops import release
from bikecast.ops.release import How, deploy
from bikecast.ops.rollback import rollback
from bikecast.ops.tasks.common import told

READING = ("look", "wait healthy", "ask", "traffic", "history", "see refresher")
CHANGING = tuple(s for s in FIRST if s not in READING)
SWITCHED = {name: steps.index("switch") for name, steps in STEPS.items()}
PROVED = {name: steps.index("record") for name, steps in STEPS.items()}
# A release does not fail for these: it is there all the same.
FORGIVEN = ("record", "give lock back")


def every_step(kind, names=("one", "two"), quick=FIRST, reading=True):
    """A fault at each step.

    :param names: the hosts whose faults are always met, the others' only with ``--all``.
    :param quick: the same for steps.
    :param reading: whether steps that only look count.
    """
    found = []
    for name, steps in STEPS.items():
        for number, step in enumerate(steps):
            if reading or step not in READING:
                marks = () if name in names and step in quick else pytest.mark.full
                fault = Fault(kind, name, number)
                found.append(pytest.param(fault, id=f"{kind}-{name}-{number}-{step}", marks=marks))
    return found


def released(fault):
    """Whether the release had proved itself before the fault."""
    return fault.step >= PROVED[fault.host]


def forgiven(fault):
    """Whether a release goes on where this fails."""
    return STEPS[fault.host][fault.step] in FORGIVEN


def cut_off(hosts, fault):
    """Deploy release c, with another database, and with a fault; the deployer, and the error."""
    deployer = Deployer(hosts, CHANGED, faults=(fault,))
    error = None
    try:
        deploy(deployer.site, target("c"), AT_ONCE)
    except BikecastError as caught:
        error = caught
    assert deployer.happened
    return deployer, error


@pytest.mark.integration
@pytest.mark.parametrize("fault", every_step("fails", names=("one",)))
def test_a_step_that_fails_changes_nothing_for_riders(hosts, fault):
    """Before it has proved itself a release goes; after that it stays, and the error says so."""
    _, error = cut_off(hosts, fault)
    if STEPS[fault.host][fault.step] == "give lock back":
        shutil.rmtree(next(h for h in hosts if h.name == fault.host).root / "lock")
    assert_unlocked(*hosts)
    if not released(fault):
        assert isinstance(error, BikecastError) and error.exit_code in (1, 3)
        assert f"{fault.host}: it was made to fail" in str(error)
        for host in hosts:
            assert_as_before(host)
        return
    assert_one_release(hosts, "c")
    if forgiven(fault):
        assert error is None
    else:
        assert isinstance(error, CommandFailed)
        assert str(error).startswith(f"{target('c').release} is live, but: {fault.host}")


@pytest.mark.integration
@pytest.mark.parametrize("fault", every_step("lost", names=("one",), reading=False))
def test_an_answer_that_is_lost_changes_nothing_for_riders(hosts, fault):
    """The command had its effect, which the deployer cannot know."""
    _, error = cut_off(hosts, fault)
    assert_unlocked(*hosts)
    if released(fault):
        assert_one_release(hosts, "c")
        assert forgiven(fault) or str(error).startswith(f"{target('c').release} is live, but: ")
    else:
        assert fault.host in str(error)
        for host in hosts:
            assert_as_before(host)


@pytest.mark.integration
@pytest.mark.parametrize("fault", every_step("gone", names=("two",), quick=CHANGING))
def test_a_host_that_drops_out_is_named_and_mended(hosts, fault):
    """All others have one release; once the host answers again a rollback puts it right."""
    _, error = cut_off(hosts, fault)
    gone, other = sorted(hosts, key=lambda h: h.name != fault.host)
    assert_unlocked(other)
    if not released(fault):
        assert gone.name in str(error) and error.exit_code in (1, 3)
        assert_as_before(other)
        if fault.step <= SWITCHED[fault.host]:
            assert live(hosts) == {"b": 2}
        else:
            assert f"{gone.name} could not and may still have the new" in str(error)
    else:
        assert live(hosts) == {"c": 2}
    gone.expire()
    rollback(Deployer(hosts).site)
    assert_one_release(hosts)


@pytest.mark.integration
@pytest.mark.parametrize("fault", every_step("killed", names=("one",), reading=False))
def test_the_next_command_finishes_what_a_killed_deployer_left(hosts, fault):
    """A rollback on what the one host had seen, a release on what the other had."""
    cut_off(hosts, fault)
    found = live(hosts)
    assert set(found) <= {"b", "c"}
    for host in hosts:
        host.expire()
    if fault.host == "one":
        rollback(Deployer(hosts).site)
        assert_one_release(hosts, "a" if set(found) == {"b"} else "b")
    deploy(Deployer(hosts).site, target("d"), AT_ONCE)
    assert_one_release(hosts, "d")
    assert all(len(h.containers()) <= 5 for h in hosts)
    assert not any(name.endswith("-former") for h in hosts for name in h.containers())
    assert all(set(secrets(h)) == {"blue", "green"} for h in hosts)
    assert hosts[0].running()[f"bikecast-refresher-{hosts[0].answers()[0]}"] == "d"


@pytest.mark.integration
@pytest.mark.parametrize("fault", every_step("stopped", names=("one",), quick=CHANGING))
def test_a_deployer_that_is_told_to_stop_leaves_order(hosts, fault):
    """SIGTERM at any step: what was under way is undone unless it was done."""
    deployer = Deployer(hosts, CHANGED, faults=(fault,))
    with pytest.raises(SystemExit) as ended, told():
        deploy(deployer.site, target("c"), AT_ONCE)
    assert deployer.happened and ended.value.code == 143
    assert_unlocked(*hosts)
    if live(hosts) == {"c": 2}:
        assert released(fault)
    else:
        assert not released(fault)
        for host in hosts:
            assert_as_before(host)


CLEANING = ("switch", "last lines", "put back", "remove", "record", "give lock back")


@pytest.mark.integration
@pytest.mark.parametrize("step", range(len(CLEANING)), ids=CLEANING)
def test_an_impatient_person_does_not_cut_off_the_way_back(hosts, step):
    """SIGTERM while a release that failed goes back: it goes back whole."""
    second_ask = FIRST.index("ask", SWITCHED["one"])
    faults = Fault("fails", "one", second_ask), Fault("stopped", "one", second_ask + 1 + step)
    deployer = Deployer(hosts, CHANGED, faults=faults)
    with pytest.raises(SystemExit), told():
        deploy(deployer.site, target("c"), AT_ONCE)
    assert deployer.happened and deployer.steps["one"][second_ask + 1 + step] == CLEANING[step]
    for host in hosts:
        assert_as_before(host)
    assert_unlocked(*hosts)


@pytest.mark.parametrize("at", ["wait healthy", "ask", "switch"])
def test_a_signal_as_a_failure_begins_to_be_undone_does_not_cut_that_off(hosts, at):
    """Between the end of the work and its clean-up, while the hosts are asked whose they are."""
    fault = Fault("fails", "one", FIRST.index(at))
    deployer = Deployer(hosts, CHANGED, faults=(fault,))
    sent = []

    def stop(command):
        if name_of(command) == "heartbeat" and deployer.happened and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    hosts[0].before = stop
    with pytest.raises(SystemExit) as ended, told():
        deploy(deployer.site, target("c"), AT_ONCE)
    assert sent and ended.value.code == 143
    for host in hosts:
        assert_as_before(host)
    assert_unlocked(*hosts)


@pytest.mark.parametrize("how", [AT_ONCE, How((5, 100), 0)], ids=["blue-green", "canary"])
def test_a_signal_between_getting_ready_and_moving_riders_leaves_order(hosts, monkeypatch, how):
    """There is no moment at which nobody would undo what was done."""

    def stopped(*words):
        os.kill(os.getpid(), signal.SIGTERM)
        move(*words)

    move = release.move
    monkeypatch.setattr(release, "move", stopped)
    with pytest.raises(SystemExit), told():
        deploy(Deployer(hosts, CHANGED).site, target("c"), how)
    for host in hosts:
        assert_as_before(host)
    assert_unlocked(*hosts)


# -- what else a release does ----------------------------------------------------------------------
