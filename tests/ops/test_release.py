"""A release from start to end on two hosts."""

import re

import pytest
from deployer import (
    AT_ONCE,
    CHANGED,
    STEPS,
    Deployer,
    assert_as_before,
    assert_one_release,
    assert_unlocked,
    live,
    secrets,
)
from local_host import REGISTRY, SECRETS, WITHIN, environment, target

from bikecast.errors import CommandFailed, InputError, Locked, Refused
from bikecast.ops import commands
from bikecast.ops.release import How, deploy, first_lived, last_lived
from bikecast.ops.rollback import rollback
from bikecast.ops.state import parse_history


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
