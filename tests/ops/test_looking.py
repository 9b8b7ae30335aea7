"""Looking at the hosts: what a task prints, where it ends, and a host that is gone."""

import json

import pytest
from deployer import Deployer
from local_host import DIRECTORY, DOCKER, PROXY, Gone, environment, target

from bikecast.ops import commands
from bikecast.ops.release import How, deploy

TWO = "error: two does not answer: timed out; see that it is up\n"


@pytest.fixture
def one_down(hosts):
    """Two hosts with a release, of which the second does not answer."""
    return (hosts[0], Gone("two"))


# -- a host that is gone hides nothing of the others -----------------------------------------------


def test_releases_are_listed_though_a_host_is_gone(play, one_down):
    """It is named, with exit code 3: its log may hold more."""
    done = play(one_down, "releases", "--json")
    assert [e["release"][:1] for e in json.loads(done.out)] == ["a", "b"]
    assert (done.code, done.err) == (3, TWO)
    assert play(one_down, "releases").out.count("deploy") == 2


def test_logs_of_one_host_do_not_ask_another(play, one_down):
    """All is there that was asked for: exit code 0."""
    one_down[0].say(PROXY, "green 200 0.001")
    done = play(one_down, "logs", "--of", "proxy", "--host", "one", "--lines", "1")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[0] == "one| bikecast-proxy started" and lines[1].endswith(" green 200 0.001")


def test_logs_of_all_hosts_name_the_one_that_is_gone(play, one_down):
    """The lines of the others are shown."""
    done = play(one_down, "logs", "--json")
    assert json.loads(done.out) == {"one": ["bikecast-green started"]}
    assert (done.code, done.err) == (3, TWO)


def test_a_command_runs_on_one_host_whatever_the_others_do(play, one_down):
    """The first, or the one that is named."""
    assert play(one_down, "exec", "db status").out == "bikecast db status\n"
    gone = play(one_down, "exec", "db status", "--host", "two")
    assert (gone.code, gone.out, gone.err) == (3, "", TWO)


def test_the_lock_is_taken_away_where_hosts_answer(play, one_down):
    """Exit code 3 for the one that may still be locked."""
    one_down[0].run(commands.take_lock(DIRECTORY, "token", '{"who": "ann"}'))
    done = play(one_down, "unlock", "--yes", "--json")
    assert json.loads(done.out) == {"one": {"who": "ann"}}
    assert done.code == 3 and done.err.endswith(TWO) and "unlocked one\n" in done.err
    assert one_down[0].state().lock is None


def test_a_smoke_test_goes_to_the_hosts_that_answer(play, one_down):
    """Exit code 3 for the other."""
    done = play(one_down, "smoke")
    assert "smoke test passed on one; A.10" in done.err and done.err.endswith(TWO)
    assert done.code == 3


def test_setup_names_every_host_that_is_gone(play):
    """Each with its reason, among the findings too."""
    gone = (Gone("one"), Gone("two"))
    done = play(gone, "setup")
    assert done.out.splitlines()[1] == "two ✗ SSH: two does not answer: timed out"
    assert done.err == (
        "error: one does not answer: timed out (also failed: two); see that it is up\n"
    )
    assert done.code == 3
    assert set(json.loads(play(gone, "setup", "--json").out)) == {"one", "two"}


# -- what is asked for is given --------------------------------------------------------------------


def test_a_command_gives_its_exit_code_and_all_that_it_printed(play, hosts):
    """Of two streams."""
    text = f'[ "$1" = exec ] || exec {DOCKER} "$@"; echo half; echo why >&2; exit 2'
    hosts[0].play_program("docker", text)
    done = play(hosts, "exec", "model promote 7")
    assert (done.code, done.out, done.err) == (2, "half\n", "why\n")
    done = play(hosts, "exec", "model promote 7", "--json")
    assert json.loads(done.out) == {
        **{"host": "one", "container": "bikecast-green", "code": 2, "out": "half\n"}
    }


def test_a_command_that_goes_well_has_code_0(play, hosts):
    """In the document too."""
    done = play(hosts, "exec", "db status", "--host", "two", "--json")
    assert json.loads(done.out)["code"] == 0 == done.code


def test_a_command_may_run_where_mlflow_is(play, hosts):
    """In the refresher, which one host has; whoever asks is named for the record."""
    done = play(hosts, "exec", "model history", "--of", "refresher")
    assert (done.code, done.out) == (0, "bikecast model history\n")
    ran = (hosts[0].docker / "calls").read_text().splitlines()[-1]
    assert ran.startswith("exec --env BIKECAST_WHO=")
    assert ran.endswith(" bikecast-refresher-green bikecast model history")
    done = play(hosts, "exec", "model history", "--of", "refresher", "--host", "two")
    assert done.code == 2 and "there is no refresher on two" in done.err
    done = play(hosts, "exec", "model history", "--of", "idle")
    assert (done.code, done.err) == (2, "error: --of is 'idle'; write live or refresher\n")


def test_there_are_no_logs_of_what_is_not_there(play, hosts, fresh):
    """Exit code 2 and no line that looks like one of a log."""
    for where, of, says in (
        (fresh, "live", "there is no live service on one, two"),
        (fresh, "proxy", "there is no proxy on one, two"),
        (hosts[1:], "refresher", "there is no refresher on two"),
    ):
        words = ("logs", "--of", of) + (("--host", "two") if len(where) == 1 else ())
        done = play((hosts[0], *where) if len(where) == 1 else where, *words)
        assert (done.code, done.out, done.err) == (2, "", f"error: {says}; see `inv status`\n")
    done = play(fresh, "exec", "db status")
    assert done.code == 2 and "there is no live service on one" in done.err


def test_a_host_without_the_service_is_named_beside_the_logs_of_the_others(play, hosts, fresh):
    """Exit code 2."""
    done = play((hosts[0], fresh[1]), "logs")
    assert done.out == "one| bikecast-green started\n"
    assert (done.code, done.err) == (
        *(2, "error: there is no live service on two; see `inv status`\n"),
    )


def test_the_refresher_is_on_one_host_alone(play, hosts):
    """That the other has none is as it should be."""
    done = play(hosts, "logs", "--of", "refresher")
    assert (done.code, done.out, done.err) == (*(0, "one| bikecast-refresher-green started\n", ""),)


def test_wrong_words_are_refused_before_a_host_is_asked(play):
    """They do not even answer."""
    gone = (Gone("one"), Gone("two"))
    place = play(gone, "logs", "--of", "nginx")
    assert place.code == 2 and "--of is 'nginx'; write one of live, idle, proxy" in place.err
    host = play(gone, "exec", "db status", "--host", "nine")
    assert host.code == 2 and "no host 'nine' here; there are one, two" in host.err


# -- hosts that are not fit ------------------------------------------------------------------------


def test_setup_on_a_host_without_docker_changes_nothing(play, hosts):
    """Exit code 2; what is missing and how to get it."""
    for host in hosts:
        host.play_program("id", "echo 1000")
    hosts[1].lose_docker()
    before = [h.everything() for h in hosts]
    done = play(hosts, "setup")
    assert done.code == 2 and done.err == "error: not fit yet: two; see the lines marked ✗\n"
    wrong = [line for line in done.out.splitlines() if "✗" in line]
    assert wrong[0] == (
        "two ✗ tools: docker missing: "
        "install docker.io (or Docker's own packages), util-linux and coreutils"
    )
    assert [h.everything() for h in hosts] == before


def test_setup_prepares_hosts_that_are_fit(play, hosts):
    """Exit code 0, and the next step."""
    for host in hosts:
        host.play_program("id", "echo 1000")
    hosts[0].shell(f"rm -r {DIRECTORY}/traffic")
    done = play(hosts, "setup")
    assert done.code == 0, done.out
    assert "one, two: ready for `inv deploy --env staging`" in done.err
    assert hosts[0].state().present


def test_env_masks_what_is_secret(play, monkeypatch):
    """Exit code 0, and not one of the secrets."""
    monkeypatch.setattr("bikecast.ops.tasks.about.environment", lambda name: environment())
    done = play((), "env", "--env", "staging")
    assert done.code == 0 and "hosts.addresses = " in done.out
    assert "pass-word" not in done.out and "private-key" not in done.out


def test_a_mixed_fleet_is_smoke_tested_by_what_each_host_has(play, hosts):
    """Each for its own release."""
    deploy(Deployer(hosts[:1], environment((', "deploy@two"', ""))).site, target("c"), How(bake=0))
    done = play(hosts, "smoke")
    assert done.code == 0 and done.err.count("smoke test passed on") == 2
