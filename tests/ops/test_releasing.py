"""From the words of `inv deploy` to what is done."""

import json
import re
from dataclasses import replace

import httpx
import pytest
from deployer import live
from local_host import REGISTRY, Gone, environment, target

from bikecast.errors import InputError, UnknownName
from bikecast.ops import digests
from bikecast.ops.digests import Found
from bikecast.ops.environment import Release
from bikecast.ops.images import read_commit
from bikecast.ops.release import How
from bikecast.ops.tasks import work
from bikecast.ops.tasks.releasing import how_of

PLAIN = Release()
NEW_PROXY = environment(("[service]", "[proxy]\nport = 8001\n[service]"))
CANARY = Release(strategy="canary", steps=(10, 100), bake=60)


@pytest.mark.parametrize(
    ("release", "words", "how"),
    [
        (PLAIN, ("", "", ""), How((100,), 30)),
        (PLAIN, ("", "", "90s"), How((100,), 90)),
        (PLAIN, ("", "", "2m"), How((100,), 120)),
        (PLAIN, ("", "", "0s"), How((100,), 0)),
        (PLAIN, ("", "", "0"), How((100,), 0)),
        (PLAIN, ("canary", "", ""), How((5, 25, 50, 100), 30)),
        (PLAIN, ("canary", "1, 100", "1h"), How((1, 100), 3600)),
        (PLAIN, ("canary", "100", ""), How((100,), 30)),
        (CANARY, ("", "", ""), How((10, 100), 60)),
        (CANARY, ("", "20,100", "5s"), How((20, 100), 5)),
        (CANARY, ("blue-green", "", ""), How((100,), 60)),
    ],
)
def test_words_go_before_the_environment(release, words, how):
    """What is not said is as the environment has it."""
    assert how_of(release, *words) == how


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("green", "", ""), "--strategy is 'green'; write blue-green or canary"),
        (("", "5,100", ""), "--steps are for a canary; add --strategy canary"),
        (("canary", "5,x,100", ""), "--steps is '5,x,100'; write percentages"),
        (("canary", "0,100", ""), "--steps is '0,100'"),
        (("canary", "5,101", ""), "--steps is '5,101'"),
        (("canary", "5,,100", ""), "--steps is '5,,100'"),
        (("canary", "50,5,100", ""), "let them rise and end at 100"),
        (("canary", "5,5,100", ""), "let them rise and end at 100"),
        (("canary", "5,50", ""), "let them rise and end at 100"),
        (("", "", "soon"), "'soon' is not a duration"),
        (("", "", "5"), "'5' is not a duration"),
        (("", "", "-5s"), "'-5s' is not a duration"),
    ],
)
def test_wrong_words_are_named_with_the_right_ones(words, says):
    """Exit code 2, before anything is asked of a host."""
    with pytest.raises(InputError, match=says) as error:
        how_of(PLAIN, *words)
    assert error.value.exit_code == 2


# -- the tasks, on hosts of ours -------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """A registry that has every release of one letter, and says its requests."""

    def resolve(repository, reference, username, password, client):
        if len(set(reference)) > 1:
            raise UnknownName(f"the registry has no image {repository}:{reference}", hint="-")
        client.event_hooks["request"][0](httpx.Request("GET", f"https://r.test/{reference}?a=b"))
        of = target(reference[0])
        return Found(of.training if repository.endswith("-training") else of.digest, "")

    monkeypatch.setattr(digests, "resolve", resolve)


@pytest.fixture
def here(checkout, monkeypatch):
    """A clean checkout, which is the current folder."""
    monkeypatch.chdir(checkout)
    return checkout


C = ("--release", target("c").release, "--bake", "0s")


def test_a_release_is_brought_to_the_hosts(play, registry, hosts):
    """Its document says that it is live."""
    done = play(hosts, "deploy", *C, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        **{"environment": "staging", "verdict": "live"},
        **vars(target("c")),
    }
    assert live(hosts) == {"c": 2}


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", *C),
        ("rollback",),
        ("deploy", *C, "--strategy", "canary"),
        ("proxy-upgrade",),
        ("unlock",),
        ("setup",),
    ],
)
def test_a_dry_run_tells_no_success(play, registry, hosts, words):
    """What a release would say is told as such; the hosts stay as they are."""
    for host in hosts:
        host.play_program("id", "echo 1000")
    before = [h.everything() for h in hosts]
    done = play(hosts, *words, "--dry", env=NEW_PROXY if "proxy" in words[0] else None)
    assert done.code == 0, done.err
    told = re.findall(r"^\[ +[0-9.]+ s\] (\S+)", done.err, re.MULTILINE)
    assert {"one$", "two$", "would"} <= set(told) <= {"one$", "two$", "here$", "would", "this"}
    assert done.err.endswith("this was a dry run: nothing was changed\n")
    assert [h.everything() for h in hosts] == before


def test_the_document_of_a_dry_run_says_so(play, registry, hosts):
    """Nothing is live by it."""
    for words in (("deploy", *C), ("rollback",)):
        assert json.loads(play(hosts, *words, "--dry", "--json").out)["verdict"] == "dry"


def test_a_dry_run_shows_what_is_done_here_too(play, registry, here, hosts, monkeypatch):
    """git, then the registry without queries, then the hosts, each command with its limit."""
    monkeypatch.setattr(
        work, "read_commit", lambda at, show: replace(read_commit(at, show), tag="cc")
    )
    done = play(hosts, "deploy", "--dry")
    assert done.code == 0, done.err
    lines = [line.partition("] ")[2] for line in done.err.splitlines()]
    assert lines[0] == "here$ git log -1 '--format=%H %ct'"
    assert lines[4:6] == ["here$ GET https://r.test/cc"] * 2
    assert lines[6].startswith("one$ timeout -k 5 20 sh -c ")
    assert [line for line in lines if line.startswith("one$ timeout -k 5 300 sh -c ")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("staging", "`inv build push` makes"),
        ("production", "`inv build --env production push --env production` makes"),
    ],
)
def test_an_absent_image_names_what_makes_it_there(play, registry, hosts, name, hint):
    """Every task takes an --env of its own."""
    env = environment().model_copy(update={"name": name})
    done = play(hosts, "deploy", "--env", name, "--release", "xyz", env=env)
    assert done.code == 2 and f"has no image {REGISTRY}:xyz; {hint} that of" in done.err


def unharmed(hosts, before):
    """Nothing was touched, not even by a lock."""
    assert [h.everything() for h in hosts] == before


def test_a_dirty_tree_is_not_deployed(play, registry, here, hosts):
    """Exit code 2, one line, nothing asked of any host."""
    (here / "a.py").write_text("2\n")
    before = [h.everything() for h in hosts]
    done = play((Gone("one"), Gone("two")), "deploy")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: the tree has changes that no commit holds: a.py; "
        "commit them, or add --allow-dirty\n",
    )
    unharmed(hosts, before)


def test_no_release_goes_to_a_host_without_docker(play, registry, hosts):
    """Exit code 2 and one line."""
    hosts[1].lose_docker()
    before = [h.everything() for h in hosts]
    done = play(hosts, "deploy", *C)
    assert (done.code, done.err) == (2, "error: two has no Docker; `inv setup` says what to do\n")
    unharmed(hosts, before)


@pytest.mark.parametrize(("seconds", "says"), [(60, "ahead of"), (-60, "behind")])
def test_no_release_goes_to_a_host_whose_clock_is_wrong(play, registry, hosts, seconds, says):
    """Exit code 2 and one line."""
    hosts[1].play_program("date", f'exec /bin/date --date="{seconds} seconds" "$@"')
    before = [h.everything() for h in hosts]
    done = play(hosts, "deploy", *C)
    assert done.code == 2 and done.err.count("\n") == 1
    assert re.search(rf"the clock of two is (59|6\d) s {says} ours; let it be set by NTP", done.err)
    unharmed(hosts, before)
