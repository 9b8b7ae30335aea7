"""A canary: a share of the riders first, then more, then all; or back."""

import pytest
from deployer import Deployer, Fault, live, name_of
from local_host import DIRECTORY, PROXY_IMAGE, target

from bikecast.errors import BikecastError, InputError, Locked, Refused
from bikecast.ops import commands
from bikecast.ops.commands import WATCH
from bikecast.ops.release import Held, How, deploy
from bikecast.ops.rollback import decide, rollback

CANARY = How((5, 50, 100), 0)
GOOD, SLOW, BROKEN = "200 0.004", "200 0.900", "500 0.004"


def riders(hosts, blue=GOOD, green=GOOD, count=60):
    """Let riders ask between two looks at the proxy's log; green is live at first."""

    def ask(host):
        for colour, answer in (("blue", blue), ("green", green)):
            host.say(commands.PROXY, *[f"{colour} {answer}"] * count)

    for host in hosts:
        host.before = lambda c, host=host: ask(host) if name_of(c) == "traffic" else None


def shares(hosts):
    """The percentage of green on every host."""
    return [h.state().green for h in hosts]


def assert_settled(hosts, letter):
    """One release for all riders, nobody watches, nobody holds a lock."""
    assert live(hosts) == {letter: 2}
    assert set(shares(hosts)) <= {0, 100}
    assert not any(WATCH in h.containers() or (h.root / "lock").exists() for h in hosts)


def test_a_good_canary_gets_all_riders_step_by_step(hosts):
    """The weights in order, watched all the while."""
    riders(hosts)
    deployer = Deployer(hosts)
    deploy(deployer.site, target("c"), CANARY)
    assert_settled(hosts, "c")
    assert [line.split(": ", 1)[1] for line in deployer.said if "of the requests" in line] == [
        "has 5 % of the requests",
        "has 50 % of the requests",
        "has 100 % of the requests",
    ]
    first = deployer.steps["one"]
    assert first.index("run watch") < first.index("switch") < first.index("remove")
    assert deployer.tells("at 5 %: go on; 0 of 120 answers failed")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (BROKEN, r"at 5 %: 120 of 120 answers failed \(100.0%, before: 0.0%\)"),
        (SLOW, r"at 5 %: 95 % within 900 ms \(before: 4 ms\), 45.0 times as long"),
    ],
)
def test_a_bad_canary_goes_back(hosts, answers, says):
    """By its errors or its latency, held against the stable colour in the same time."""
    riders(hosts, blue=answers)
    before = [h.running() for h in hosts]
    with pytest.raises(Refused, match=says + ".*all hosts went back") as error:
        deploy(Deployer(hosts).site, target("c"), CANARY)
    assert error.value.exit_code == 1
    assert_settled(hosts, "b")
    assert [h.running() for h in hosts] == before


def test_a_canary_whose_container_restarts_goes_back(hosts):
    """One restart on one host is enough, with or without traffic."""

    def restart(command):
        if name_of(command) == "traffic" and "bikecast-blue" in hosts[1].containers():
            hosts[1].change("bikecast-blue", restarts="1")

    hosts[1].before = restart
    with pytest.raises(Refused, match="at 5 %: two: bikecast-blue is running, restarted 1×"):
        deploy(Deployer(hosts).site, target("c"), CANARY)
    assert_settled(hosts, "b")


@pytest.mark.parametrize("word", ["promote", "abort"])
def test_too_little_traffic_holds_a_canary_until_a_person_decides(hosts, word):
    """It stays at its weight, unwatched and unlocked; exit code 1."""
    deployer = Deployer(hosts)
    with pytest.raises(Held, match="the canary stays at 5 %; `inv canary-promote`") as error:
        deploy(deployer.site, target("c"), CANARY)
    assert error.value.exit_code == 1
    assert deployer.tells("too little traffic so far")
    assert shares(hosts) == [95, 95]
    assert not any(WATCH in h.containers() or (h.root / "lock").exists() for h in hosts)
    decide(Deployer(hosts).site, word)
    assert_settled(hosts, "c" if word == "promote" else "b")
    assert not any(name.endswith("-former") for h in hosts for name in h.containers())
    refresher = {"promote": "bikecast-refresher-blue", "abort": "bikecast-refresher-green"}[word]
    assert [n for n in hosts[0].running() if "refresher" in n] == [refresher]
    assert rollback(Deployer(hosts).site).release[:1] == ("b" if word == "promote" else "a")


def test_a_canary_that_is_held_goes_back_by_a_rollback(hosts):
    """To the stable release, and with it the warm one that was set aside."""
    with pytest.raises(Held):
        deploy(Deployer(hosts).site, target("c"), CANARY)
    assert rollback(Deployer(hosts).site).release[:1] == "b"
    assert_settled(hosts, "b")
    assert hosts[0].running()["bikecast-blue"] == "a"


def test_a_next_release_ends_a_canary_that_is_held(hosts):
    """It says so, and takes its place."""
    with pytest.raises(Held):
        deploy(Deployer(hosts).site, target("c"), CANARY)
    deployer = Deployer(hosts)
    deploy(deployer.site, target("d"), How(bake=0))
    assert deployer.tells("a canary was left on one, two: all requests went back")
    assert_settled(hosts, "d")


@pytest.mark.parametrize(("word", "letter"), [("promote", "c"), ("abort", "b")])
def test_a_person_decides_through_the_deployer_that_is_at_work(hosts, word, letter):
    """The wish stands beside the lock; the deployer finds it at its next look."""
    wished = []

    def wish(command):
        if name_of(command) == "traffic" and shares(hosts) == [95, 95] and not wished:
            wished.append(Deployer(hosts, who="bob"))
            decide(wished[0].site, word, tell=lambda seconds: decided())

    def decided():
        raise InterruptedError  # the other one stops waiting, that this one can go on

    def before(command):
        try:
            wish(command)
        except InterruptedError:
            pass

    hosts[0].before = before
    deployer = Deployer(hosts)
    if word == "promote":
        deploy(deployer.site, target("c"), CANARY)
        assert deployer.tells("has 100 %") and not deployer.tells("has 50 %")
    else:
        with pytest.raises(Refused, match="abort was asked for"):
            deploy(deployer.site, target("c"), CANARY)
    assert wished[0].tells(f"asked ann@laptop (deploy {target('c').release}")
    assert_settled(hosts, letter)


def test_without_a_canary_there_is_nothing_to_decide(hosts):
    """Wrong use, exit code 2."""
    with pytest.raises(InputError, match="no canary is under way"):
        decide(Deployer(hosts).site, "promote")


# -- a canary whose deployer is gone ---------------------------------------------------------------


def killed_at(hosts, share):
    """A deployer that is killed once green has this share on both hosts."""
    riders(hosts)
    deployer, ask = Deployer(hosts), hosts[1].before

    def end(command):
        ask(command)
        if name_of(command) == "traffic" and shares(hosts) == [share, share]:
            deployer.gone |= {"one", "two"}

    hosts[1].before = end
    with pytest.raises(BikecastError):
        deploy(deployer.site, target("c"), CANARY)
    for host in hosts:
        host.before = lambda command: None
    assert shares(hosts) == [share, share] and all(WATCH in h.containers() for h in hosts)


def watched(host, expires, token=""):
    """Let the watch of a deployer look some times; the share of green afterwards."""
    text = commands.WATCHING.strip().replace("while sleep 1; do", "for i in 1 2 3; do", 1)
    token = token or (host.root / "lock" / "token").read_text()
    host.run(commands.script(text, DIRECTORY, token, 100, expires, '{"verdict": "by itself"}'))
    return host.state().green


def test_a_canary_goes_back_by_itself_once_its_deployer_is_silent(hosts):
    """The watch leaves it alone while there are signs of life, then takes the traffic back."""
    killed_at(hosts, 95)
    one = hosts[0]
    assert watched(one, commands.LOCK_EXPIRES) == 95
    one.expire()
    assert watched(one, commands.LOCK_EXPIRES) == 100
    history = (one.root / "history.jsonl").read_text().splitlines()
    assert history[-1] == '{"verdict": "by itself"}' and history.count(history[-1]) == 1
    hosts[1].expire()
    deploy(Deployer(hosts).site, target("d"), How(bake=0))
    assert_settled(hosts, "d")


def test_the_watch_leaves_the_canary_of_another_deployer_alone(hosts):
    """Whoever took the lock over decides."""
    killed_at(hosts, 95)
    one = hosts[0]
    token = (one.root / "lock" / "token").read_text()
    (one.root / "lock" / "token").write_text("another")
    one.expire()
    assert watched(one, 30, token) == 95


def test_a_canary_goes_back_by_itself_where_the_lock_was_broken(hosts):
    """Its deployer can do nothing more; once somebody else was at work the watch is harmless."""
    killed_at(hosts, 95)
    one = hosts[0]
    token = (one.root / "lock" / "token").read_text()
    one.run(commands.break_lock(DIRECTORY))
    assert watched(one, 30, token) == 100
    one.run(commands.take_lock(DIRECTORY, "another", "{}"))
    one.run(commands.switch(DIRECTORY, "another", 95))
    one.run(commands.release_lock(DIRECTORY, "another"))
    assert watched(one, 30, token) == 95


def test_a_watch_that_stays_does_no_harm_once_its_deployer_has_ended(hosts):
    """A lock that was given back is no sign of a deployer that died."""
    riders(hosts)
    tokens, one = set(), hosts[0]
    ask = one.before

    def see(command):
        ask(command)
        file = one.root / "lock" / "token"
        tokens.update({file.read_text()} if file.exists() else {})

    one.before = see
    deploy(Deployer(hosts).site, target("c"), CANARY)
    assert watched(one, 0, tokens.pop()) == 0


@pytest.mark.parametrize("kind", ["fails", "lost", "gone"])
def test_a_watch_that_cannot_be_ended_takes_every_host_back(hosts, kind):
    """Where one host would go back by itself, all go: the fleet is not mixed."""
    riders(hosts)
    plain = Deployer(hosts)
    deploy(plain.site, target("c"), CANARY)
    at = plain.steps["two"].index("remove")
    riders(hosts, green=GOOD, blue=GOOD)
    deployer = Deployer(hosts, faults=(Fault(kind, "two", at),))
    with pytest.raises(Refused, match="two.*went back"):
        deploy(deployer.site, target("d"), CANARY)
    assert deployer.happened and deployer.steps["two"][at] == "remove"
    one, two = hosts
    assert live((one,)) == {"c": 1}
    if kind == "gone":
        two.expire()
        assert watched(two, commands.LOCK_EXPIRES) == 100
        rollback(Deployer(hosts).site)
    else:
        assert_settled(hosts, "c")


def test_the_watch_is_given_what_it_needs(hosts):
    """No network, the directory, the share to go back to, and the line for the log."""
    killed_at(hosts, 50)
    argv = hosts[0].containers()[WATCH]["argv"]
    assert "--network none" in argv and f"--entrypoint sh {PROXY_IMAGE} -c" in argv
    assert f"--volume {hosts[0].root}:{hosts[0].root}" in argv
    token = (hosts[0].root / "lock" / "token").read_text()
    assert f"bikecast {hosts[0].root} {token} 100 {commands.LOCK_EXPIRES} {{" in argv
    assert "went back by itself: its deployer was gone" in argv


@pytest.mark.integration
@pytest.mark.parametrize("end", ["deploy", "rollback"])
@pytest.mark.parametrize("share", [95, 50, 0])
def test_the_next_command_ends_a_canary_whose_deployer_was_killed(hosts, share, end):
    """At whatever weight it was, also after all of them."""
    killed_at(hosts, share)
    for host in hosts:
        host.expire()
    if end == "rollback":
        rollback(Deployer(hosts).site)
        assert_settled(hosts, "b")
    deploy(Deployer(hosts).site, target("d"), How(bake=0))
    assert_settled(hosts, "d")


@pytest.mark.parametrize("word", ["promote", "abort"])
def test_a_person_decides_where_the_deployer_was_killed(hosts, word):
    """An expired lock is nobody's."""
    killed_at(hosts, 95)
    for host in hosts:
        host.expire()
    decide(Deployer(hosts).site, word)
    assert_settled(hosts, "c" if word == "promote" else "b")


@pytest.mark.integration
@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("kind", ["fails", "lost"])
@pytest.mark.parametrize("number", range(3))
def test_a_weight_that_one_host_does_not_take_goes_back_everywhere(hosts, name, kind, number):
    """No host keeps a canary that another does not have."""
    riders(hosts)
    steps = {
        "one": ["look", "take lock", "look", "pull", "write", "run", "set aside", "run blue"],
        "two": ["look", "take lock", "look", "pull", "write", "set aside", "run blue"],
    }[name] + ["wait healthy", "ask", "run watch", "switch", "traffic", "traffic", "switch"]
    steps += ["traffic", "traffic", "switch", "ask"]
    at = [i for i, step in enumerate(steps) if step == "switch"][number]
    deployer = Deployer(hosts, faults=(Fault(kind, name, at),))
    with pytest.raises(Refused, match=f"{name}.*all hosts went back"):
        deploy(deployer.site, target("c"), CANARY)
    assert deployer.steps[name][: at + 1] == steps[: at + 1]
    assert_settled(hosts, "b")


def test_a_promotion_waits_no_longer_than_the_deployer_may_take(hosts, monkeypatch):
    """It says that nothing came of it, and does not stay to surprise anybody."""
    killed_at(hosts, 95)
    monkeypatch.setattr("bikecast.ops.rollback.WISH_WITHIN", -1.0)
    deployer = Deployer(hosts)
    with pytest.raises(Locked, match="nothing came of it.* not asked for any more"):
        decide(deployer.site, "promote", tell=lambda seconds: None)
    assert deployer.tells("asked ann@laptop")
    assert not any((h.root / "lock" / "wish").exists() for h in hosts)


def test_a_promotion_of_a_canary_does_not_promote_the_next_one(hosts):
    """Its deployer was killed with the wish unheard; the next one's figures decide."""
    killed_at(hosts, 95)
    for host in hosts:
        host.run(commands.wish(DIRECTORY, host.state().lock.text, "promote"))
        host.expire()
    riders(hosts, blue=BROKEN)
    with pytest.raises(Refused, match="at 5 %: .*answers failed"):
        deploy(Deployer(hosts).site, target("d"), CANARY)
    assert_settled(hosts, "b")


@pytest.mark.parametrize(("word", "done"), [("promote", "promoted"), ("abort", "aborted")])
def test_a_decision_that_came_to_nothing_is_told(hosts, word, done):
    """Its deployer ended otherwise than was wished: exit code 1, and what riders have."""
    killed_at(hosts, 95)

    def end_otherwise(seconds):
        for host in hosts:
            host.expire()
        decide(Deployer(hosts).site, {"promote": "abort", "abort": "promote"}[word])

    have = target({"promote": "b", "abort": "c"}[word]).release
    with pytest.raises(
        Refused, match=f"the canary was not {done}: one has {have}, two has {have}; `inv releases`"
    ) as error:
        decide(Deployer(hosts).site, word, tell=end_otherwise)
    assert error.value.exit_code == 1
