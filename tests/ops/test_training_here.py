"""`inv train --local`, and what the documents say that any training hands over."""

import json
import signal
import sys
import threading
import time

import pytest
from local_host import Gone, environment
from trained import CHECKS, NO, SCORES, TRAINED

from bikecast.errors import BikecastError
from bikecast.ops.asking import surroundings
from bikecast.ops.training import figures, verdict_of

GONE = (Gone("one"), Gone("two"))


# On this machine


@pytest.fixture
def local(play, tmp_path, monkeypatch):
    """Run `inv train --local` with a script for `python -m bikecast`; how it ended."""
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("BIKECAST_DATABASE_URL_FILE", "/elsewhere")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    def run(script, *words):
        program.write_text(f'#!/bin/sh\necho "$*" >> "$ASKED"\n{script}')
        program.chmod(0o755)
        done = play(GONE, "train", "--local", *words, env=environment())
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    return run


def script(validate, promote="exit 0"):
    """A `bikecast` that trains version 7."""
    return f"""
[ "$BIKECAST_DATABASE_URL_FILE" = "" ] && [ "$BIKECAST_SYSTEM" = made-up ] || exit 9
case "$*" in
  *train*) echo "✓ train" >&2; echo '{json.dumps(TRAINED)}' ;;
  *validate*) {validate} ;;
  *promote*) {promote} ;;
esac
"""


def answer(outcome, checks=CHECKS):
    """What `model validate` prints."""
    return f"echo '{json.dumps({'outcome': outcome, 'checks': checks})}'"


def test_without_airflow_the_same_three_commands_run_here(local):
    """On the environment's database, with their progress passed on; exit code 0."""
    done, asked = local(script(answer("promote")))
    assert done.code == 0 and "✓ train" in done.err
    assert asked == [
        "-m bikecast train --json",
        "-m bikecast model validate 7 --json",
        "-m bikecast model promote 7 --json",
    ]


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        (script(answer("reject", NO) + "; exit 1"), 1, "night: 9.1 against 3.0"),
        (script("echo 'error: no' >&2; exit 1"), 3, "the training could not run: here: error: no"),
        (script("echo fine"), 3, "printed no JSON document"),
        (script(answer("promote"), "echo 'error: gone' >&2; exit 3"), 3, "then `inv train --env "),
        (script(answer("promote"), "echo 'error: worse' >&2; exit 1"), 1, "here: error: worse"),
        ("exit 2", 3, "the training could not run: here: exit code 2"),
    ],
)
def test_what_fails_here_has_the_exit_codes_of_airflow(local, program, code, says):
    """A no is 1, everything else 3."""
    done, _ = local(program)
    assert done.code == code and says in done.err


def test_ctrl_c_stops_what_runs_here(local):
    """Exit code 130, at once; a signal to us alone is meant for both."""
    main = threading.main_thread().ident
    threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    began = time.monotonic()
    done, _ = local("exec sleep 120")
    assert done.code == 130 and time.monotonic() - began < 60


@pytest.mark.parametrize("strict", ["true", "false"])
def test_the_gate_here_is_as_strict_as_there(strict, monkeypatch):
    """As the environment has it, and not this machine."""
    monkeypatch.setenv("BIKECAST_STRICT_GATE", "true")
    env = environment(("database_url =", f"strict_gate = {strict}\ndatabase_url ="))
    assert surroundings(env)["BIKECAST_STRICT_GATE"] == strict


def test_a_dry_run_here_runs_nothing(local):
    """Three commands are shown."""
    done, asked = local("exit 9", "--dry")
    assert done.code == 0 and asked == []
    assert "here$ bikecast model validate VERSION --json" in done.err


# What documents say


def test_a_gate_of_a_release_before_says_only_whether_it_passed():
    """Anything but a plain yes is none."""
    assert verdict_of(TRAINED, {"passed": True}).outcome == "promote"
    for passed in (False, None, "yes", 1):
        assert verdict_of(TRAINED, {"passed": passed}).outcome == "reject"
    old = {"passed": False, "checks": [{"name": "a", "passed": True}, {"name": "b", "detail": "c"}]}
    assert verdict_of(TRAINED, old).failed == ("b: c",)


def test_a_training_that_names_no_version_has_no_verdict():
    """Nothing could be promoted."""
    with pytest.raises(BikecastError, match="names no version"):
        verdict_of({}, {"outcome": "promote"})


def test_a_verdict_on_another_version_is_none():
    """As where somebody has let Airflow do one of the two tasks again."""
    with pytest.raises(BikecastError, match="made version 7, and the gate was asked about 6; ask"):
        verdict_of(TRAINED, {"version": "6", "outcome": "promote"})


def test_figures_name_what_is_beside_them():
    """The champion where there is one."""
    scores = SCORES | {"champion": {"mae": 1.25}}
    assert figures(TRAINED | {"scores": scores}).startswith("MAE 1.000 (naive 1.500, champion 1.25")
    assert figures({}) == ""
