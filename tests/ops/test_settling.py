"""What an earlier deployer left half done is finished before anything new begins."""

import pytest
from deployer import Deployer, live
from local_host import DIRECTORY, WITHIN, target

from bikecast.ops import commands
from bikecast.ops.release import How, deploy, holding
from bikecast.ops.settling import common_release, settle
from bikecast.ops.site import look


def settled(hosts):
    """Settle, and say what was said."""
    deployer = Deployer(hosts)
    site = deployer.site
    with holding(site, "test"):
        states = settle(site, look(site))
    assert {h.name: s.release for h, s in states.items()} == {h.name: h.answers()[1] for h in hosts}
    return deployer.said


def by_hand(host, command, *arguments):
    """Change a host as another deployer would have."""
    host.run(commands.take_lock(DIRECTORY, "token", "{}"))
    host.run(command(DIRECTORY, "token", *arguments))
    host.run(commands.release_lock(DIRECTORY, "token"))


def test_where_all_is_in_order_nothing_is_done(hosts):
    """No word, and no change."""
    before = [h.everything() for h in hosts]
    assert settled(hosts) == []
    assert [h.everything() for h in hosts] == before


def test_a_share_that_was_left_goes_back_to_the_stable_release(hosts):
    """On the host that has it alone."""
    hosts[1].change("bikecast-blue", created="2100-01-01T00:00:00Z")
    hosts[1].change("bikecast-green", created="2000-01-01T00:00:00Z")
    by_hand(hosts[1], commands.switch, 75)
    said = settled(hosts)
    assert said == ["a canary was left on two: all requests went back to the stable release"]
    assert [h.state().green for h in hosts] == [100, 100]


def test_what_was_set_aside_comes_back_where_nothing_followed_it(hosts):
    """The warm release runs again."""
    by_hand(hosts[0], commands.set_aside, "blue")
    assert "bikecast-blue" not in hosts[0].running()
    assert settled(hosts) == ["one: what an interrupted release had set aside is back"]
    assert hosts[0].running()["bikecast-blue"] == "a"


def test_what_was_set_aside_goes_where_its_successor_is_live(hosts, make_hosts):
    """The release had proved itself when its deployer was killed."""
    by_hand(hosts[0], commands.set_aside, "blue")
    deploy(Deployer(hosts).site, target("c"), How(bake=0))
    one = hosts[0]
    (one.docker / "containers" / "bikecast-blue-former").write_text(
        (one.docker / "containers" / "bikecast-green").read_text()
    )
    assert settled(hosts) == []
    assert "bikecast-blue-former" not in one.containers() and live(hosts) == {"c": 2}


@pytest.mark.parametrize("number", [0, 1])
def test_a_mixed_fleet_gets_the_older_release_that_all_have(hosts, number):
    """Whichever of the hosts is the odd one."""
    by_hand(hosts[number], commands.switch, 0)
    assert settled(hosts) == [f"the fleet was mixed: all hosts have {target('a').release} now"]
    assert live(hosts) == {"a": 2}


def test_a_fleet_without_a_release_in_common_is_told_of(hosts):
    """The next release ends that."""
    one, two = hosts
    for letter in "cd":
        deploy(Deployer((one,)).site, target(letter), How(bake=0))
    assert settled(hosts) == [
        "the fleet is mixed and has no release in common; this one will end that"
    ]
    assert common_release({h: h.state() for h in hosts}) is None
    deploy(Deployer(hosts).site, target("e"), How(bake=0))
    assert live(hosts) == {"e": 2}


def test_a_release_in_common_must_run(hosts):
    """One that is stopped is none to move riders to."""
    states = {h: h.state() for h in hosts}
    assert common_release(states)[0] == target("a").release
    hosts[0].change("bikecast-blue", status="exited")
    states = {h: h.state() for h in hosts}
    assert common_release(states)[0] == target("b").release


@pytest.mark.parametrize(
    ("blue", "green", "oldest"),
    [("", "", "a"), ("", "yes", "b"), ("yes", "", "a"), ("yes", "yes", "b")],
)
def test_what_a_rollback_started_is_older_than_what_was_there(hosts, blue, green, oldest):
    """Though its container is younger: green's is."""
    for host in hosts:
        for colour, back in (("blue", blue), ("green", green)):
            labels = host.containers()[f"bikecast-{colour}"]["labels"]
            if back:
                host.change(f"bikecast-{colour}", labels=f'{labels},"bikecast.back":"{back}"')
    assert common_release({h: h.state() for h in hosts})[0] == target(oldest).release


def test_the_same_release_may_have_another_colour_on_each_host(hosts):
    """Each host keeps its own."""
    one, two = hosts
    deploy(Deployer((one,)).site, target("c"), How(bake=0))
    assert live(hosts) == {"c": 1, "b": 1}
    assert settled(hosts) == [f"the fleet was mixed: all hosts have {target('b').release} now"]
    deploy(Deployer((two,)).site, target("d"), How(bake=0))
    deploy(Deployer(hosts).site, target("e"), How(bake=0))
    assert live(hosts) == {"e": 2}


def test_a_dry_run_settles_nothing(hosts):
    """It says what it would do."""
    by_hand(hosts[0], commands.set_aside, "blue")
    before = [h.everything() for h in hosts]
    deployer = Deployer(hosts, dry=True)
    settle(deployer.site, look(deployer.site))
    assert deployer.tells(f"one$ timeout -k 5 {WITHIN} sh -c")
    assert [h.everything() for h in hosts] == before
