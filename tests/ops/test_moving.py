"""Riders are moved, and watched while they are."""

import pytest
from deployer import Deployer, name_of
from local_host import target

from bikecast.errors import HostGone, Refused
from bikecast.ops import commands
from bikecast.ops.moving import back_to, bake, baseline, parse_window, went_back
from bikecast.ops.release import How, deploy, holding
from bikecast.ops.site import look
from bikecast.ops.state import HostState
from bikecast.ops.traffic import Verdict


def test_a_window_of_the_log_is_read():
    """Answers, the clock, a wish and what does not run as it should."""
    window = parse_window(
        "16.9 green 200 0.004\nnoise\n17.1 blue 500 1.000\nnow 17.5\nwish promote\n"
        "state blue running 0\nstate green running 1\n"
    )
    assert window.now == "17.5" and window.wish == "promote"
    assert window.seen["green"].requests == 1 and window.seen["blue"].errors == 1
    assert window.down == {"green": "bikecast-green is running, restarted 1×"}
    stopped = parse_window("now 1\nwish \nstate green exited 0\n")
    assert stopped.wish == "" and stopped.down == {
        "green": "bikecast-green is exited, restarted 0×"
    }


def test_windows_of_a_host_neither_overlap_nor_leave_a_gap(hosts):
    """Each line of the log is counted once, in the window in which it came."""
    one = hosts[0]
    directory = "/opt/bikecast"
    since = parse_window(one.run(commands.traffic(directory, "now"))).now
    counts = []
    for _ in range(3):
        one.say(commands.PROXY, *["green 200 0.004"] * 5)
        window = parse_window(one.run(commands.traffic(directory, since)))
        since = window.now
        counts.append(window.seen["green"].requests)
    assert counts == [5, 5, 5]


def test_the_baseline_is_what_the_live_colour_answered_before(hosts):
    """On all hosts together, in the last minute."""
    for host in hosts:
        host.say(commands.PROXY, "green 200 0.004", "green 500 0.004", "blue 500 0.001")
        with host.log_of(commands.PROXY).open("a") as log:
            log.write("1000000000.5 green 200 0.004\n")
    site = Deployer(hosts).site
    seen = baseline(site, look(site))
    assert (seen.requests, seen.errors) == (4, 2)


def test_a_proxy_whose_log_cannot_be_read_stops_a_release_before_the_switch(hosts):
    """Nobody could tell how riders fare; the next step is named."""
    hosts[1].log_of(commands.PROXY).unlink()
    with pytest.raises(Refused, match="two: its proxy writes no log .*: inv proxy-upgrade"):
        deploy(Deployer(hosts).site, target("c"), How(bake=0))
    assert [h.answers() for h in hosts] == [("green", target("b").release)] * 2


def watch(hosts, seconds, looks):
    """Bake green for some seconds; what came of it, and how often it slept."""
    site = Deployer(hosts).site
    states = look(site)
    turned = {h: HostState(**{**vars(s), "green": 0}) for h, s in states.items()}
    slept = []
    found = bake(site, turned, seconds, None, sleep=slept.append)
    looks.append(len(slept))
    return found


def test_a_bad_sign_ends_the_watch_at_once(hosts):
    """However long it was to last."""
    hosts[0].change("bikecast-green", restarts="2")
    looks = []
    found, wish = watch(hosts, 3600, looks)
    assert found.verdict is Verdict.GO_BACK and wish == "" and looks == [1]
    assert found.why == "one: bikecast-green is running, restarted 2×"


def test_failing_answers_end_the_watch_at_once(hosts):
    """Where there are enough of them to be sure."""
    hosts[0].before = lambda c: name_of(c) == "traffic" and hosts[0].say(
        commands.PROXY, *["green 503 0.001"] * 10
    )
    looks = []
    found, _ = watch(hosts, 3600, looks)
    assert found.verdict is Verdict.GO_BACK and looks == [1]


def test_a_blue_green_release_that_fails_under_riders_goes_back(hosts):
    """Held against the minute before; the container's last lines are shown."""
    for host in hosts:
        host.say(commands.PROXY, *["green 200 0.004"] * 100)
        host.before = lambda c, host=host: (
            name_of(c) == "traffic"
            and host.answers()[0] == "blue"
            and (host.say(commands.PROXY, *["blue 500 0.004"] * 9), host.say("bikecast-blue", "oh"))
        )
    deployer = Deployer(hosts)
    with pytest.raises(Refused, match=r"at 100 %: \d+ of \d+ answers failed .*all hosts went back"):
        deploy(deployer.site, target("c"), How(bake=0))
    assert deployer.tells("one|   oh") and deployer.tells("two|   oh")
    assert [h.answers()[1][:1] for h in hosts] == ["b", "b"]


@pytest.mark.parametrize(
    ("green", "live"), [(100, 100), (95, 100), (0, 0)], ids=["all", "canary", "none"]
)
def test_the_share_to_go_back_to_is_all_for_the_live_colour(hosts, green, live):
    """Whatever it has at the moment."""
    one = hosts[0]
    one.change("bikecast-blue", created="2100-01-01T00:00:00Z")
    one.run(commands.script(f"ln -sfn sets/{green} /opt/bikecast/traffic/green"))
    state = one.state()
    assert back_to({one: state}, one) == live


def test_a_host_that_does_not_go_back_is_named(hosts):
    """With the next step; all others went back."""
    deployer = Deployer(hosts)
    site = deployer.site
    with holding(site, "test"):
        states = look(site)
        deployer.gone.add("two")
        told = went_back(site, states, HostGone("two is silent"))
        assert str(told) == (
            "two is silent; one went back, two could not and may still have the new release: "
            "two does not answer: gone; `inv rollback` mends that once it can be reached"
        )
        assert deployer.tells("did not go back: two")
        deployer.gone.add("one")
        told = went_back(site, states, KeyboardInterrupt())
        assert told.what.startswith("KeyboardInterrupt; no host went back, one, two could not")
