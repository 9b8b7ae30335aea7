"""`inv train`: what it promotes, with which exit code, and what it says where something is amiss.

Airflow is a small server that speaks as Airflow does (the real one: tests/integration), the hosts
are those of the other tests of tasks.
"""

import json
import signal
import threading

import pytest
from airflow_contract import starts_a_run_once
from fake_airflow import PASSWORD, USERNAME, FakeAirflow, Run, serving
from local_host import TEXT, Gone, environment
from trained import CHECKS, FIGURES, NO, TRAINED

from bikecast.errors import BikecastError, CommandFailed, HostGone, Unavailable
from bikecast.ops import training
from bikecast.ops.airflow import Airflow, airflow_client
from bikecast.ops.environment import parse_environment
from bikecast.ops.training import verdict_of
from bikecast.registry.artifacts import PAGE

GONE = (Gone("one"), Gone("two"))
# Prints as `bikecast model promote` does, and takes down what it was asked.
PROGRAM = """#!/bin/sh
echo "$*" >> "$FAKE_DOCKER/asked"
[ -n "$BIKECAST_WHO" ] && [ "$MLFLOW_HTTP_REQUEST_MAX_RETRIES" = 2 ] || exit 9
echo '{"passed": true}'
"""


@pytest.fixture
def airflow():
    """An Airflow whose next run trains version 7, which passes the gate."""
    server = FakeAirflow()
    server.next.results = judged("promote", CHECKS)
    with serving(server):
        yield server


def judged(outcome, checks):
    """What the two tasks return."""
    return {"train": TRAINED, "validate": {"outcome": outcome, "checks": checks}}


def settings(airflow, **more):
    """The environment of these tests, with an Airflow."""
    given = {"url": airflow.url, "username": USERNAME, "password": PASSWORD} | more
    lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in given.items())
    return parse_environment(f"{TEXT}[airflow]\n{lines}\n", "staging.toml", "staging", {})


@pytest.fixture
def train(airflow, hosts, play, monkeypatch):
    """Run `inv train` on hosts whose release has `bikecast`; how it ended."""
    monkeypatch.setattr(training, "PAUSE", 0.01)
    for host in hosts:
        release(host, PROGRAM)

    def run(*words, hosts=hosts, **more):
        return play(hosts, "train", *words, env=settings(airflow, **more))

    return run


def release(host, program):
    """Let `docker exec … bikecast` run a program on a host."""
    (host.docker / "bikecast").write_text(program)
    (host.docker / "bikecast").chmod(0o755)


def promotions(hosts):
    """What the releases of all hosts were asked."""
    asked = [h.docker / "asked" for h in hosts]
    return "".join(a.read_text() for a in asked if a.exists()).splitlines()


def only(airflow):
    """The name of the one run there is."""
    (name,) = airflow.runs
    return name


@pytest.mark.parametrize("api", ["v2", "v1"])
def test_the_stand_in_keeps_to_what_the_real_one_does(airflow, api):
    """The same is asked of a real Airflow in test_train_for_real.py."""
    with airflow_client() as client:
        starts_a_run_once(Airflow(settings(airflow, api=api).airflow, client), "once")


@pytest.mark.parametrize("api", ["v2", "v1"])
def test_what_passes_the_gate_is_promoted_once_on_one_host(train, airflow, hosts, api):
    """Exit code 0; the run says who started it, and no password is anywhere."""
    done = train(api=api)
    assert (done.code, done.out) == (0, f"version 7 is in production: {FIGURES}\n")
    assert promotions(hosts) == ["model promote 7 --json"]
    run = airflow.runs[only(airflow)]
    assert run.note.startswith("started by ") and only(airflow).startswith("inv-train-")
    assert f"started the run {only(airflow)}: {airflow.url}/dags/model_training/" in done.err
    for state in ("queued", "running", "success"):
        assert f"run {only(airflow)}: {state}" in done.err
    assert PASSWORD not in done.out + done.err and "token-" not in done.out + done.err


@pytest.mark.parametrize(
    ("outcome", "checks", "says"),
    [
        ("reject", NO, "does not pass the gate and stays out of production: night: 9.1 against 3"),
        ("inconclusive", CHECKS, "leaves the gate undecided and stays out of production"),
        ("?", CHECKS, "leaves the gate undecided"),
    ],
)
def test_a_no_and_a_cannot_tell_promote_nothing(train, airflow, hosts, outcome, checks, says):
    """Exit code 1, with what did not pass; a word that nobody knows is no yes."""
    airflow.next.results = judged(outcome, checks)
    done = train("--json")
    assert done.code == 1 and f"error: version 7 {says}" in done.err
    document = json.loads(done.out)
    assert document["version"] == "7" and document["promoted"] is False
    assert document["run"] == only(airflow) and document["figures"] == FIGURES
    assert promotions(hosts) == []


def test_a_release_that_refuses_has_the_last_word(train, hosts):
    """The champion may be another than the gate saw: exit code 1."""
    for host in hosts:
        release(host, "#!/bin/sh\necho 'error: version 7 stays out: worse' >&2; exit 1\n")
    done = train()
    assert done.code == 1 and "version 7 stays out: worse" in done.err and done.out == ""


def test_mlflow_down_at_promotion_is_no_verdict(train, airflow, hosts):
    """Exit code 3 with the reason and the command that tries again, which then does."""
    for host in hosts:
        release(host, "#!/bin/sh\necho 'error: MLflow does not answer; see to it' >&2; exit 3\n")
    done = train()
    assert done.code == 3 and "version 7 passes the gate, and was not promoted" in done.err
    again = f"inv train --env staging --run {only(airflow)}"
    assert "MLflow does not answer" in done.err and done.err.endswith(f"then `{again}`\n")
    for host in hosts:
        release(host, PROGRAM)
    later = train("--run", only(airflow))
    assert (later.code, promotions(hosts)) == (0, ["model promote 7 --json"])
    assert airflow.asked.count("POST /api/v2/dags/model_training/dagRuns") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unavailable("no refresher runs"), "and was not promoted: no refresher runs; then `again`"),
        (HostGone("one is gone"), "whether it was promoted is not known: one is gone; `again`"),
    ],
)
def test_hosts_that_go_while_airflow_trains_cost_no_training(error, says):
    """Its version is there still, and the command that promotes it is told."""

    def gone(words):
        raise error

    with pytest.raises(BikecastError, match=says):
        training.promote(verdict_of(TRAINED, {"outcome": "promote"}), gone, "again")


@pytest.mark.parametrize(
    "error", [HostGone("one is gone"), CommandFailed("one", "promote", 137, "Killed")]
)
def test_what_is_not_known_is_not_said_to_be_false(train, tmp_path, monkeypatch, error):
    """It was cut off while it promoted; scripts and people are told that nobody knows."""

    def gone(words):
        raise error

    monkeypatch.setattr("bikecast.ops.tasks.training.there", lambda site: gone)
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    done = train("--json")
    assert done.code == 3 and "whether it was promoted is not known" in done.err
    assert json.loads(done.out)["promoted"] is None
    lines = (tmp_path / "output").read_text().splitlines()
    assert "verdict=perhaps promoted" in lines and "kind=bad" in lines


def test_a_run_that_fails_shows_the_log_of_its_task(train, airflow, hosts):
    """Exit code 3: the last lines, without Airflow's frames, and where all of it is."""
    log = "\n".join(f"line {i}" for i in range(100))
    airflow.next = Run(["running", "failed"], {"train": "failed", "validate": "upstream_failed"})
    airflow.next.log = f"{log}\nerror: no room left"
    done = train()
    assert done.code == 3 and promotions(hosts) == []
    assert "train| line 99" in done.err and "train| error: no room left" in done.err
    assert "line 30\n" not in done.err and "::group::" not in done.err
    assert (
        f"the run {only(airflow)} failed: its task train failed; nothing was promoted" in done.err
    )
    assert f"all of it on {airflow.url}/dags/model_training/runs/" in done.err


def test_a_run_that_fails_is_said_to_have_failed_where_its_log_cannot_be_had(train, airflow):
    """As where the worker that has it is gone."""
    airflow.next = Run(["failed"], {"train": "failed"})
    airflow.mute = True
    done = train()
    assert done.code == 3 and "Airflow does not tell all of it: Airflow on" in done.err
    run = only(airflow)
    failed = f"error: the run {run} failed: its task train failed; nothing was promoted; look at"
    assert failed in done.err


def test_logs_of_airflow_2_are_shown_too(train, airflow):
    """They are text there."""
    airflow.next = Run(["failed"], {"train": "failed"}, log="first\nlast")
    assert "train| last" in train(api="v1").err


def test_a_run_that_was_stopped_has_no_log_to_show(train, airflow):
    """As Airflow ends one that takes longer than its DAG allows."""
    airflow.next = Run(["failed"], {"train": "skipped", "validate": "skipped"})
    done = train()
    assert done.code == 3 and "it ran out of time or was stopped; nothing" in done.err


def test_a_run_that_hangs_is_named_and_goes_on(train, airflow, hosts):
    """Exit code 3 once the time is over, with how to wait on."""
    airflow.next = Run(["queued", "running"], {"train": "running"})
    done = train(time_limit=0.2)
    assert done.code == 3 and promotions(hosts) == []
    name = only(airflow)
    assert f"error: the run {name} is not over after 0 s (train running); nothing" in done.err
    assert done.err.endswith(f"`inv train --env staging --run {name}` waits on\n")


def test_another_run_is_waited_for_and_never_read(train, airflow, hosts):
    """It ends first, with another version: ours is the one that counts."""
    other = Run(["running"], results={"train": TRAINED | {"version": "6"}})
    airflow.runs["scheduled__1"] = other
    airflow.next.states = ["queued", "queued", "running", "success"]
    done = train()
    assert done.code == 0 and "waits for scheduled__1" in done.err
    assert promotions(hosts) == ["model promote 7 --json"]
    assert not any("scheduled__1" in asked for asked in airflow.asked)


def test_a_token_that_expires_in_the_middle_is_renewed(train, airflow):
    """As often as it takes."""
    airflow.tokens_last = 2
    assert train().code == 0
    assert airflow.asked.count("POST /auth/token") > 2


@pytest.mark.parametrize("api", ["v2", "v1"])
def test_a_wrong_password_is_said_once_and_shown_never(train, airflow, hosts, api):
    """Exit code 3; nothing was started."""
    done = train(password="falsch-geraten", api=api)
    assert done.code == 3 and airflow.runs == {} and promotions(hosts) == []
    assert f"Airflow on {airflow.url} refuses the login of 'bikecast'; see to" in done.err
    assert "falsch" not in done.err and len(airflow.asked) == 1


def test_airflow_down_is_one_line(train, airflow, hosts):
    """Exit code 3; so is one that names no Airflow, with 2, as a file is wrong."""
    airflow.shutdown()
    airflow.server_close()
    done = train()
    assert done.code == 3 and f"Airflow does not answer on {airflow.url}" in done.err
    assert done.err.count("\n") == 1 and promotions(hosts) == []


def test_airflow_that_goes_for_a_while_is_asked_again(train, airflow):
    """The run goes on meanwhile."""
    airflow.down = 3
    done = train()
    assert done.code == 0 and "answers 503 to GET" in done.err and "asking again" in done.err


def test_airflow_that_stays_away_ends_the_waiting(train, airflow, monkeypatch):
    """Exit code 3, with how to wait on."""
    monkeypatch.setattr(training, "PATIENCE", 0.1)
    airflow.down = 10**6
    done = train()
    assert done.code == 3
    assert f"the run goes on all the same: `inv train --env staging --run {only(airflow)}`" in (
        done.err
    )


def test_a_verdict_that_cannot_be_read_can_be_later(train, airflow, hosts):
    """The run is over; exit code 3 says how."""
    airflow.mute = True
    done = train()
    assert done.code == 3 and promotions(hosts) == []
    assert f"is over: `inv train --env staging --run {only(airflow)}` reads" in done.err
    airflow.mute = False
    assert train("--run", only(airflow)).code == 0


@pytest.mark.parametrize(
    ("flaw", "says"),
    [("paused", "is paused, so no run of it would begin"), ("broken", "cannot be read by Airflow")],
)
def test_a_dag_that_would_never_run_is_not_started(train, airflow, flaw, says):
    """It would be waited for in vain."""
    setattr(airflow, flaw, True)
    done = train()
    assert done.code == 3 and says in done.err and airflow.runs == {}


def test_a_dag_that_is_not_there(train, airflow):
    """Exit code 3, with where its name comes from."""
    done = train(dag="other")
    assert done.code == 3 and "the DAG other of" in done.err and "does not exist" in done.err


def test_what_answers_may_be_no_airflow(train, airflow):
    """A run that is not there, and a result that is none."""
    assert "answers 404 to GET" in train("--run", "never").err
    airflow.runs["old"] = Run(["success"], results={"train": 3, "validate": {}})
    done = train("--run", "old")
    assert done.code == 3 and "returned no JSON document from train" in done.err


def test_without_a_refresher_no_training_begins(train, airflow):
    """An hour later nobody could promote what it made."""
    done = train(hosts=GONE)
    assert done.code == 3 and "no refresher runs in staging" in done.err and airflow.runs == {}
    assert "one does not answer" in done.err


def test_ctrl_c_stops_the_waiting_and_not_the_run(train, airflow):
    """Exit code 130, and how to go on."""
    airflow.next = Run(["running"], {"train": "running"})

    timer = threading.Timer(
        0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    )
    timer.start()
    done = train()
    assert done.code == 130
    assert f"the run {only(airflow)} goes on: look at" in done.err
    assert f"`inv train --env staging --run {only(airflow)}` waits on" in done.err


def test_a_dry_run_shows_what_it_would_do(train, airflow, hosts):
    """And asks nobody."""
    done = train("--dry")
    assert done.code == 0 and airflow.asked == [] and promotions(hosts) == []
    dag = f"{airflow.url}/api/v2/dags/model_training"
    assert f"here$ POST {dag}/dagRuns" in done.err
    assert "bikecast model promote VERSION --json" in done.err


def test_a_protected_environment_is_asked_about(play, airflow):
    """Nobody is there to be."""
    env = settings(airflow).model_copy(update={"protected": True})
    done = play(GONE, "train", env=env)
    assert done.code == 2 and "this would train a model and promote it in staging" in done.err


def test_no_airflow_is_named(play, hosts):
    """Then there is --local."""
    done = play(hosts, "train", env=environment())
    assert done.code == 2 and "staging names no Airflow" in done.err and "--local" in done.err
    both = play(hosts, "train", "--local", "--run", "x", env=environment())
    assert both.code == 2 and "--local and --run" in both.err


def test_a_workflow_learns_how_it_ended(train, airflow, hosts, tmp_path, monkeypatch):
    """A line for each fact, whatever the exit code."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))

    def told():
        lines = (tmp_path / "output").read_text().splitlines()
        (tmp_path / "output").unlink()
        return dict(line.split("=", 1) for line in lines)

    train()
    assert told() == {
        **{"verdict": "promoted", "version": "7", "figures": FIGURES, "why": "", "kind": "good"},
        "report": f"{PAGE} of run ab12 in MLflow; ✓ rain: fine",
    }
    airflow.next = Run(results=judged("reject", NO))
    train()
    rejected = told()
    assert rejected["verdict"] == "rejected" and rejected["kind"] == "warning"
    assert "night: 9.1 against 3.0" in rejected["why"]
    assert rejected["report"].endswith("; ✓ rain: fine; ✗ night: 9.1 against 3.0")
    odd = {"name": "rain", "outcome": "promote", "detail": "at a\nverdict=b"}
    airflow.next = Run(results=judged("reject", [odd, *NO]))
    train()
    assert told()["verdict"] == "rejected"
    airflow.next = Run(["failed"], {"train": "failed"})
    train()
    assert told()["verdict"] == "could not run"
    airflow.next = Run(results=judged("promote", CHECKS))
    for host in hosts:
        release(host, "#!/bin/sh\nexit 3\n")
    train()
    failed = told()
    assert failed["verdict"] == "not promoted" and failed["kind"] == "bad"
