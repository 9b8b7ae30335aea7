"""The way back, from wherever things stand."""

import time
from dataclasses import replace

import pytest
from deployer import Deployer, Fault, live
from local_host import environment, target

from bikecast.errors import BikecastError, HostGone, InputError, Refused, UnknownName
from bikecast.ops import commands
from bikecast.ops.release import How, deploy
from bikecast.ops.rollback import rollback
from bikecast.ops.state import parse_history

AT_ONCE = How(bake=0)
# From the warm colour, on the first host and on the other.
STEPS = {
    "one": (
        *("present", "take lock", "look", "switch", "kill", "start", "ask", "record"),
        "give lock back",
    ),
    "two": ("present", "take lock", "look", "switch", "ask", "record", "give lock back"),
}
# By an image, the same.
BEGUN = ("present", "take lock", "look", "history", "pull", "write", "set aside")
ENDED = ("drop former", "history", "prune")
MOVED = ("wait healthy", "ask", "traffic", "switch", "ask", "traffic", "traffic", "record")
BY_IMAGE = {
    "one": (
        *(*BEGUN, "run blue", *MOVED, "kill", "run refresher-blue", *ENDED, "see refresher"),
        "give lock back",
    ),
    "two": (*BEGUN, "run blue", *MOVED, *ENDED, "give lock back"),
}
READING = ("present", "look", "ask", "history", "traffic", "wait healthy", "see refresher")


def back(hosts, to="", **more):
    """Roll back; the release by its letter, and the deployer."""
    deployer = Deployer(hosts, **more)
    return rollback(deployer.site, to).release[:1], deployer


def test_the_warm_colour_takes_one_rename(three):
    """Nothing is pulled or started but the former refresher; the log tells of it."""
    release, deployer = back(three)
    assert release == "b" and live(three) == {"b": 2}
    # The refresher changes while the smoke test asks: which of the two is first may differ.
    for name, steps in deployer.steps.items():
        assert sorted(steps) == sorted(STEPS[name])
    assert deployer.tells("bbbbbbbbbbbb: switched one, two in 0.")
    assert three[0].running()["bikecast-refresher-green"] == "b"
    assert "bikecast-refresher-blue" not in three[0].running()
    assert '"action": "rollback"' in (three[1].root / "history.jsonl").read_text()


def test_a_second_rollback_goes_further_back_and_never_forward(three):
    """From c to b, then to a by its image, then there is nothing older."""
    assert back(three)[0] == "b"
    release, deployer = back(three)
    assert release == "a" and live(three) == {"a": 2}
    assert deployer.tells("aaaaaaaaaaaa is not warm any more: it is started from its image")
    assert "run" not in deployer.steps["one"], "an older release needs no migration"
    with pytest.raises(Refused, match="there is no release before aaaaaaaaaaaa"):
        back(three)
    assert live(three) == {"a": 2}


@pytest.mark.parametrize("name", ["release", "digest"])
def test_what_another_deployed_meanwhile_stays(three, name):
    """A rollback of one release goes back from it, and from no other."""
    with pytest.raises(Refused, match="is not live any more; see with `inv status` what is"):
        rollback(Deployer(three).site, of=getattr(target("b"), name))
    assert live(three) == {"c": 2} and not (three[0].root / "lock").exists()
    assert rollback(Deployer(three).site, of=getattr(target("c"), name)) == target("b")


def test_a_named_release_is_found_warm_or_by_its_image(three):
    """``--to`` also goes forward again, where a person says so."""
    assert back(three, target("a").release)[0] == "a"
    assert back(three, target("c").release)[0] == "c"
    assert live(three) == {"c": 2}
    with pytest.raises(UnknownName, match=r"no release 'x' was live here \(known: a.*b.*c"):
        back(three, "x")


def test_an_older_image_that_is_not_healthy_changes_nothing(three):
    """The release that riders have stays."""
    for host in three:
        host.offer(target("a"), "sick")
        host.run(commands.script(f"docker rmi registry.test/org/bikecast@{target('a').digest}"))
    before = [h.running() for h in three]
    with pytest.raises(Refused, match="not healthy"):
        back(three, target("a").release)
    assert live(three) == {"c": 2} and [h.running() for h in three] == before


def test_a_stopped_former_release_is_started_first(make_hosts, template):
    """With ``previous = "stopped"`` the way back takes a little longer."""
    hosts = make_hosts(*template)
    env = environment(("bake = 0", 'bake = 0\nprevious = "stopped"'))
    deploy(Deployer(hosts, env).site, target("c"), AT_ONCE)
    assert hosts[0].containers()["bikecast-green"]["status"] == "exited"
    release, deployer = back(hosts, env=env)
    assert release == "b" and live(hosts) == {"b": 2}
    assert "wait healthy" in deployer.steps["two"]


def test_a_mixed_fleet_gets_the_older_of_its_releases(three):
    """As after a deployer that was killed between two hosts."""
    three[1].run(commands.script("ln -sfn sets/100 /opt/bikecast/traffic/green"))
    assert live(three) == {"c": 1, "b": 1}
    assert back(three)[0] == "b"
    assert live(three) == {"b": 2}


def test_a_mixed_fleet_without_a_common_release_goes_to_the_older_by_its_image(hosts):
    """The hosts have nothing in common that runs."""
    one, two = hosts
    deploy(Deployer((one,)).site, target("c"), AT_ONCE)
    deploy(Deployer((one,)).site, target("d"), AT_ONCE)
    assert live(hosts) == {"d": 1, "b": 1}
    back(hosts, target("b").release)
    assert live(hosts) == {"b": 2}


def test_the_hosts_that_answer_go_back_without_the_one_that_does_not(three):
    """It is named, and a second command takes it along, not the others further back."""
    with pytest.raises(HostGone, match="two: not rolled back.*all others went back") as error:
        back(three, faults=(Fault("gone", "two", 0),))
    assert error.value.exit_code == 3
    assert live(three) == {"b": 1, "c": 1}
    assert back(three)[0] == "b"
    assert live(three) == {"b": 2}


def test_a_host_that_was_never_set_up_is_an_error(fresh):
    """And so is a fleet where nothing was ever released."""
    with pytest.raises(Refused, match="there is no release before the first"):
        back(fresh)
    for host in fresh:
        host.root.rename(host.root.with_name("away"))
    with pytest.raises(BikecastError, match="run inv setup"):
        back(fresh)


def test_a_wrong_clock_is_refused(three, monkeypatch):
    """A release whose age cannot be told is none to go back from."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    with pytest.raises(InputError, match="the clock of one is 60 s behind ours"):
        back(three)


def cuts(of):
    """Every way to be cut off at every step; what only looks and a plain failure with ``--all``."""
    for kind in ("fails", "lost", "killed"):
        for name, steps in of.items():
            for number, step in enumerate(steps):
                quick = kind != "fails" and step not in READING
                marks = () if quick else pytest.mark.full
                yield pytest.param(kind, name, number, marks=marks, id=f"{kind}-{name}-{step}")


def cut_off(hosts, kind, name, step):
    """Roll back with a fault, as long as it lasts; its deployer."""
    deployer = Deployer(hosts, faults=(Fault(kind, name, step),))
    try:
        rollback(deployer.site)
    except BikecastError as error:
        assert kind == "killed" or name in str(error)
    assert deployer.happened
    for host in hosts:
        host.expire()
    return deployer


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "name", "step"), list(cuts(STEPS)))
def test_a_rollback_cut_off_at_any_step_is_finished_by_the_next(three, kind, name, step):
    """Cut off, then again: one release everywhere, b or, where that was done, a."""
    cut_off(three, kind, name, step)
    found = live(three)
    assert set(found) <= {"b", "c"}
    rollback(Deployer(three).site)
    assert live(three) == {"a" if set(found) == {"b"} else "b": 2}
    assert not any((h.root / "lock").exists() for h in three)


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "name", "step"), list(cuts(BY_IMAGE)))
def test_a_rollback_by_image_cut_off_at_any_step_never_goes_forward(three, kind, name, step):
    """From b to a: whichever of them riders had meanwhile, the next rollback ends at a."""
    assert back(three)[0] == "b"
    deployer = cut_off(three, kind, name, step)
    assert deployer.steps[name][step] == BY_IMAGE[name][step]
    found = live(three)
    assert set(found) <= {"a", "b"}
    if set(found) == {"a"}:
        with pytest.raises(Refused, match="there is no release before aaaaaaaaaaaa"):
            rollback(Deployer(three).site)
    else:
        rollback(Deployer(three).site)
    assert live(three) == {"a": 2}
    assert not any((h.root / "lock").exists() for h in three)


def test_a_host_that_was_away_follows_to_an_older_image(three):
    """The others, who have an older release than any that all hosts could have at once, stay."""
    assert back(three)[0] == "b"
    with pytest.raises(HostGone, match="two: not rolled back"):
        back(three, faults=(Fault("gone", "two", 0),))
    assert live(three) == {"a": 1, "b": 1}
    seen, (one, _) = set(), three
    one.before = lambda command: seen.add(one.answers()[1][:1])
    assert back(three)[0] == "a"
    assert live(three) == {"a": 2} and seen == {"a"}


def test_forward_by_an_image_that_was_cut_off_goes_back(three):
    """Only an older release is taken for one."""
    for letter in "bad":
        deploy(Deployer(three).site, target(letter), AT_ONCE)
    rollback(Deployer(three).site, target("a").release)
    two = Deployer(three, faults=(Fault("killed", "two", BY_IMAGE["two"].index("switch")),))
    with pytest.raises(BikecastError, match="two does not answer: killed"):
        rollback(two.site, target("c").release)
    for host in three:
        host.expire()
    assert live(three) == {"c": 1, "a": 1}
    assert back(three)[0] == "a" and live(three) == {"a": 2}


def test_a_release_that_fails_its_test_is_told_as_what_riders_have(three):
    """It is in the log as such, and the next step is named."""
    for host in three:
        host.change("bikecast-green", behaviour="failing")
    with pytest.raises(Refused) as error:
        back(three)
    assert str(error.value) == (
        "bbbbbbbbbbbb is live, but: one: POST /predict answers 500 (also failed: two); "
        "see `inv logs`; `inv rollback` again goes one release further back"
    )
    assert live(three) == {"b": 2}
    last = parse_history((three[1].root / "history.jsonl").read_text())[-1]
    assert (last.release[0], last.verdict) == ("b", "live, but failed its smoke test")
    assert back(three)[0] == "a"


def test_a_tag_that_was_built_anew_names_what_was_built_last(hosts):
    """And before it comes the release that was live before it."""
    anew = replace(target("a"), digest=target("k").digest, training=target("k").training)
    for host in hosts:
        host.offer(anew)
    for of in (target("c"), anew, target("d"), target("e")):
        deploy(Deployer(hosts).site, of, AT_ONCE)
    assert rollback(Deployer(hosts).site, anew.release) == anew
    assert hosts[0].state().service(hosts[0].state().live).digest == anew.digest
    assert back(hosts)[0] == "c"
