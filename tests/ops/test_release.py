"""A release from start to end on two hosts, and cut off at each of its steps in every way."""

import os
import re
import shutil
import signal

import pytest
from local_host import (
    REGISTRY,
    SECRETS,
    WITHIN,
    Deployer,
    Fault,
    environment,
    live,
    name_of,
    target,
)

from bikecast.errors import BikecastError, CommandFailed, InputError, Locked, Refused
from bikecast.ops import commands, release
from bikecast.ops.release import How, deploy, first_lived, last_lived
from bikecast.ops.rollback import rollback
from bikecast.ops.state import parse_history
from bikecast.ops.tasks.common import told

AT_ONCE = How(bake=0)
# The settings of a release that fails are not to reach those that riders have or go back to.
CHANGED = environment((SECRETS["database"], "postgresql://another"))

# What a release does on the first host, and on every other.
FIRST = (
    *("look", "take lock", "look", "pull", "write", "run", "set aside", "run blue"),
    *("wait healthy", "ask", "traffic", "switch", "ask", "traffic", "traffic", "record", "kill"),
    *("run refresher-blue", "drop former", "history", "prune", "see refresher", "give lock back"),
)
ALONE = ("run", "kill", "run refresher-blue", "see refresher")
OTHER = tuple(s for s in FIRST if s not in ALONE)
READING = ("look", "wait healthy", "ask", "traffic", "history", "see refresher")
CHANGING = tuple(s for s in FIRST if s not in READING)
STEPS = {"one": FIRST, "two": OTHER}
SWITCHED = {name: steps.index("switch") for name, steps in STEPS.items()}
PROVED = {name: steps.index("record") for name, steps in STEPS.items()}
# A release does not fail for these: it is there all the same.
FORGIVEN = ("record", "give lock back")
BEFORE = {
    "one": {
        "bikecast-blue": "a",
        "bikecast-green": "b",
        "bikecast-proxy": "-",
        "bikecast-refresher-green": "b",
    },
    "two": {"bikecast-blue": "a", "bikecast-green": "b", "bikecast-proxy": "-"},
}


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


def assert_as_before(host):
    """Riders and the host itself have what they had."""
    assert host.answers() == ("green", target("b").release)
    assert host.running() == BEFORE[host.name]
    assert not any(name.endswith("-former") for name in host.containers())
    assert secrets(host) == {colour: SECRETS["database"] for colour in ("blue", "green")}


def secrets(host):
    """What the service of each colour is told of its database."""
    folders = (host.root / "secrets").iterdir()
    return {f.name: (f / "database_url").read_text() for f in folders}


def assert_unlocked(*hosts):
    """Nobody holds a lock."""
    assert [h.name for h in hosts if (h.root / "lock").exists()] == []


def assert_one_release(hosts, letter=None):
    """All hosts give riders one and the same release, and nothing is left over."""
    found = live(hosts)
    assert len(found) == 1 and "" not in found, found
    assert letter is None or set(found) == {letter}
    for host in hosts:
        assert host.state().green in (0, 100)
        assert commands.WATCH not in host.containers()
    assert_unlocked(*hosts)


def test_a_release_goes_straight_through(hosts):
    """The order of what is done and told, and what is there at the end."""
    deployer = Deployer(hosts)
    deploy(deployer.site, target("c"), AT_ONCE)
    assert {name: tuple(steps) for name, steps in deployer.steps.items()} == STEPS
    name = target("c").release
    smoke = f"{name}: smoke test passed on one, two; A.10: model 7, as of 2026-01-02T03:00:00Z"
    assert deployer.said == [
        f"{name}: pulled on one, two",
        "the database has the schema of this release",
        f"{name}: healthy on one (blue), two (blue)",
        f"{smoke}, ready",
        f"{name}: has 100 % of the requests",
        f"{smoke}, ready",
        "at 100 %: too little traffic; 0 of 0 answers failed (0.0%, before: 0.0%); "
        "50 answers are needed",
        f"{name}: refresher started on one",
        f"{name}: live on one, two",
    ]
    one, two = hosts
    assert one.running() == {
        "bikecast-blue": "c",
        "bikecast-green": "b",
        "bikecast-proxy": "-",
        "bikecast-refresher-blue": "c",
    }
    assert two.running() == {"bikecast-blue": "c", "bikecast-green": "b", "bikecast-proxy": "-"}
    assert not any(name.endswith("-former") for name in one.containers() | two.containers())
    assert_one_release(hosts, "c")
    entry = parse_history((one.root / "history.jsonl").read_text())[-1]
    assert (entry.who, entry.action, entry.verdict) == ("ann@laptop", "deploy", "live")
    assert (entry.digest, entry.training) == (target("c").digest, target("c").training)


def test_the_first_release_starts_the_proxy(fresh):
    """On hosts where nothing runs; the database is migrated once, not on every host."""
    deployer = Deployer(fresh)
    deploy(deployer.site, target("a"), AT_ONCE)
    assert_one_release(fresh, "a")
    assert deployer.tells("proxy started on one, two")
    assert deployer.steps["one"].count("run") == 1 and "run" not in deployer.steps["two"]
    assert [c for c in fresh[0].running() if "refresher" in c] == ["bikecast-refresher-blue"]
    assert "bikecast-refresher-blue" not in fresh[1].running()


def test_a_first_release_that_fails_leaves_no_service(fresh):
    """There is nothing to go back to; the next release begins anew."""
    for host in fresh:
        host.offer(target("a"), "sick")
    with pytest.raises(Refused, match="not healthy on one, two"):
        deploy(Deployer(fresh).site, target("a"), AT_ONCE)
    assert [h.running() for h in fresh] == [{"bikecast-proxy": "-"}] * 2
    deploy(Deployer(fresh).site, target("b"), AT_ONCE)
    assert_one_release(fresh, "b")


# -- every step fails, and every way ---------------------------------------------------------------


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


@pytest.mark.parametrize("behaviour", ["sick", "crashing"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_one_bad_host_of_two_leaves_all_as_they_were(hosts, name, behaviour):
    """Riders of neither host notice; what the container said last is shown."""
    bad = next(h for h in hosts if h.name == name)
    bad.offer(target("c"), behaviour)
    deployer = Deployer(hosts)
    with pytest.raises(Refused, match=f"the release is not healthy on {name}: ") as error:
        deploy(deployer.site, target("c"), AT_ONCE)
    assert error.value.exit_code == 1
    assert deployer.tells(f"{name}|   bikecast-blue started")
    for host in hosts:
        assert_as_before(host)
    assert_unlocked(*hosts)
    assert '"failed before the switch"' in (hosts[0].root / "history.jsonl").read_text()


@pytest.mark.parametrize(
    ("behaviour", "commit", "says"),
    [
        ("failing", "", "two: POST /predict answers 500"),
        ("healthy", "f" * 40, "two: GET /version says commit f+, not cccccccccccc"),
        ("unmigratable", "", "the database could not be migrated: .*a column is missing"),
    ],
)
def test_a_release_that_does_not_pass_leaves_all_as_they_were(hosts, behaviour, commit, says):
    """It is asked before any rider is, and nothing is migrated half."""
    for host in hosts[1:] if behaviour != "unmigratable" else hosts:
        host.offer(target("c"), behaviour, commit)
    with pytest.raises(Refused, match=says):
        deploy(Deployer(hosts, CHANGED).site, target("c"), AT_ONCE)
    for host in hosts:
        assert_as_before(host)


def test_a_migration_that_fails_is_told_with_its_last_lines(hosts):
    """One line says that it failed, those above it why."""
    hosts[0].offer(target("c"), "unmigratable")
    deployer = Deployer(hosts)
    with pytest.raises(Refused, match="a column is missing.*its last lines are above"):
        deploy(deployer.site, target("c"), AT_ONCE)
    shown = [line for line in deployer.said if line.startswith("one|")]
    assert len(shown) == commands.LOG_LINES
    assert shown[-2:] == ["one|   step 29", "one|   cannot migrate: a column is missing"]


def test_a_refresher_that_does_not_stay_is_a_warning(hosts):
    """Riders have the release, whose forecasts only age: exit code 0, and what it said last."""
    training = hosts[0].docker / "registry" / f"{REGISTRY}-training@{target('c').training}"
    training.write_text(f"crashing\n{target('c').release}\n")
    deployer = Deployer(hosts)
    deploy(deployer.site, target("c"), AT_ONCE)
    assert_one_release(hosts, "c")
    assert deployer.said[-3:] == [
        "warning: no refresher keeps the forecasts fresh: bikecast-refresher-blue on one does not "
        "stay, it is running, restarted 2 times; mend what it says and deploy again:",
        "one|   bikecast-refresher-blue started",
        f"{target('c').release}: live on one, two",
    ]


def test_a_release_has_secrets_of_its_own(hosts):
    """Those of the release to go back to stay as they were."""
    deploy(Deployer(hosts, CHANGED).site, target("c"), AT_ONCE)
    for host in hosts:
        assert secrets(host) == {"blue": "postgresql://another", "green": SECRETS["database"]}
    rollback(Deployer(hosts, CHANGED).site)
    deploy(Deployer(hosts).site, target("d"), AT_ONCE)
    for host in hosts:
        assert secrets(host) == dict.fromkeys(("blue", "green"), SECRETS["database"])


def test_a_registry_that_is_gone_changes_nothing(hosts):
    """As seen from one of the hosts."""
    hosts[1].withdraw(target("c"))
    with pytest.raises(CommandFailed, match="two: manifest for .*bikecast@sha256:c+ not found"):
        deploy(Deployer(hosts).site, target("c"), AT_ONCE)
    for host in hosts:
        assert_as_before(host)


def test_a_full_disk_changes_nothing(hosts):
    """The host cannot even write a link."""
    (hosts[1].path / "ln").write_text("#!/bin/sh\necho 'ln: No space left on device' >&2; exit 1\n")
    (hosts[1].path / "ln").chmod(0o755)
    deployer = Deployer(hosts)
    with pytest.raises(Refused, match="two: ln: No space left on device.*two could not"):
        deploy(deployer.site, target("c"), AT_ONCE)
    assert live(hosts) == {"b": 2}


@pytest.mark.parametrize("previous", ["warm", "stopped"])
def test_the_previous_release_stays_as_the_environment_says(hosts, previous):
    """Warm to go back at once, or stopped to spare the memory."""
    env = environment(("bake = 0", f'bake = 0\nprevious = "{previous}"'))
    deploy(Deployer(hosts, env).site, target("c"), AT_ONCE)
    status = {"warm": "running", "stopped": "exited"}[previous]
    assert [h.containers()["bikecast-green"]["status"] for h in hosts] == [status] * 2


def test_no_more_releases_are_kept_than_wanted(hosts):
    """The newest that were live; a release that failed does not count as one."""
    env = environment(("bake = 0", "bake = 0\nkeep = 2"))
    deploy(Deployer(hosts, env).site, target("c"), AT_ONCE)
    assert_images(hosts[0], "bc")
    hosts[0].offer(target("d"), "sick")
    with pytest.raises(Refused):
        deploy(Deployer(hosts, env).site, target("d"), AT_ONCE)
    deploy(Deployer(hosts, env).site, target("e"), AT_ONCE)
    assert_images(hosts[0], "ce")


def assert_images(host, letters):
    """The api images that a host has."""
    assert {i[-1] for i in host.images() if "bikecast@" in i} == set(letters)


def test_the_same_release_may_be_deployed_again(hosts):
    """As after a change of the settings."""
    deploy(Deployer(hosts).site, target("b"), AT_ONCE)
    assert_one_release(hosts, "b")
    assert hosts[0].answers()[0] == "blue"
    assert rollback(Deployer(hosts).site).release[:1] in "ab"


def test_a_second_deployer_is_refused_while_the_first_is_at_work(hosts):
    """Whoever comes second changes nothing."""
    second = []

    def deploy_too(command):
        if not second and command.argv[2] == commands.PULL.strip():
            second.append(Deployer(hosts, who="bob"))
            with pytest.raises(Locked, match=r"one is locked by ann@laptop \(deploy cccccccccccc"):
                deploy(second[0].site, target("d"), AT_ONCE)

    hosts[0].before = deploy_too
    deploy(Deployer(hosts).site, target("c"), AT_ONCE)
    assert second and second[0].steps == {"one": ["look", "take lock"], "two": ["look"]}
    assert_one_release(hosts, "c")


def test_a_host_that_was_never_set_up_is_an_error_before_anything_is_done(hosts):
    """Exit code 2, no lock taken."""
    hosts[1].shell("rm -r /opt/bikecast")
    deployer = Deployer(hosts)
    with pytest.raises(InputError, match="two is not set up.*run `inv setup`") as error:
        deploy(deployer.site, target("c"), AT_ONCE)
    assert error.value.exit_code == 2 and deployer.steps["one"] == ["look"]


@pytest.mark.parametrize("how", [AT_ONCE, How((5, 100), 0)], ids=["blue-green", "canary"])
@pytest.mark.parametrize("empty", [True, False], ids=["first", "next"])
def test_a_dry_run_prints_every_command_and_touches_nothing(make_hosts, template, empty, how):
    """On each host the same commands, in the same order, as the release then runs."""
    hosts = make_hosts() if empty else make_hosts(*template)
    before = [h.everything() for h in hosts]
    dry = Deployer(hosts, dry=True)
    deploy(dry.site, target("c"), how)
    assert [h.everything() for h in hosts] == before
    for host in hosts:
        host.before = lambda c, host=host: host.containers().get(commands.PROXY) and host.say(
            commands.PROXY, *["blue 200 0.001", "green 200 0.001"] * 60
        )
    real = Deployer(hosts)
    deploy(real.site, target("c"), how)
    for host in hosts:
        shown = [line for line in dry.said if line.startswith(f"{host.name}$ ")]
        begun = [verbs(c.limited(WITHIN)) for c in real.ran[host.name]]
        assert [verbs(line.split("$ ", 1)[1]) for line in shown] == begun
        assert sum(f"{host.name}: through the proxy" in line for line in dry.said) == 2


def verbs(text):
    """A command without what differs from run to run: tokens, times, the log's lines."""
    words = text.replace(" < (not shown)", "")
    return re.sub(r"[0-9a-f]{16}|[0-9.]{9,}|now|\{.*|'[^']*\{.*|\d{4}-\d\d-\d\dT[^\"]*", "#", words)


def test_releases_are_ordered_by_when_they_were_live():
    """For their age the first time counts, for keeping them the last."""
    lines = [("1", "a"), ("2", "b"), ("3", "a")]
    text = "".join(f'{{"at": "{at}", "release": "{r}", "verdict": "live"}}\n' for at, r in lines)
    failed = '{"at": "0", "release": "x", "verdict": "went back"}\n'
    entries = {"one": parse_history(failed + text), "two": parse_history(text)}
    assert [t.release for t in first_lived(entries)] == ["a", "b"]
    assert [t.release for t in last_lived(entries)] == ["b", "a"]
