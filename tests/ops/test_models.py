"""`inv rollback --with-model`: the service first, then its model, and never half of it unsaid."""

import json

import pytest
from deployer import live
from local_host import Gone, environment, target

from bikecast.ops import commands
from bikecast.ops.tasks import releasing

NEXT = (
    '; `inv exec "model rollback" --of refresher --env staging` takes the model alone; '
    "another `inv rollback` would take the service one release further back\n"
)


def leads_to(host, version):
    """Let a rollback of the model lead to a version."""
    (host.docker / "model").write_text(version)


def asked(hosts):
    """What was run inside of containers but health checks."""
    calls = [line for h in hosts for line in (h.docker / "calls").read_text().splitlines()]
    return [c for c in calls if c.startswith("exec ") and "healthcheck" not in c]


def test_the_command_names_who_asks():
    """Word by word; no shell is in between."""
    words = ("model", "rollback")
    asking = commands.bikecast_in("bikecast-refresher-blue", "ann@laptop", words)
    assert asking.text() == (
        "docker exec --env BIKECAST_WHO=ann@laptop --env MLFLOW_HTTP_REQUEST_MAX_RETRIES=2 "
        "--env MLFLOW_HTTP_REQUEST_TIMEOUT=10 bikecast-refresher-blue bikecast model rollback"
    )
    assert (asking.reads, asking.stdin) == (False, "")
    assert str(asking) == "bikecast model rollback in bikecast-refresher-blue"


def test_service_and_model_go_back_together(play, three):
    """The model once, on the one host that can, by the release that riders have again."""
    leads_to(three[0], "6")
    done = play(three, "rollback", "--with-model", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        **{"environment": "staging", "verdict": "live", "model": "6"},
        **vars(target("b")),
    }
    assert live(three) == {"b": 2}
    (call,) = asked(three)
    assert "by inv rollback --with-model " in call
    assert call.endswith(" bikecast-refresher-green bikecast model rollback --json")
    assert "version 6 of the model is in production, and in use within a minute" in done.err


def test_without_the_word_the_model_stays(play, three):
    """Which is the usual way back."""
    done = play(three, "rollback", "--json")
    assert done.code == 0 and "model" not in json.loads(done.out) and asked(three) == []


def test_a_model_that_has_no_former_one_is_a_no(play, three):
    """Exit code 1: the service is back, the model is not, and what to do is said."""
    done = play(three, "rollback", "--with-model")
    assert (done.code, live(three)) == (1, {"b": 2})
    assert done.err.endswith(
        "error: riders have bbbbbbbbbbbb, but its model was not taken back: one: error: version 1 "
        "is the first in production; train (bikecast model rollback --json in "
        "bikecast-refresher-green)" + NEXT
    )


@pytest.mark.parametrize(
    ("change", "says", "code"),
    [
        ("docker kill bikecast-refresher-green", "no refresher runs on one", 2),
        ("docker rm -f bikecast-refresher-green", "no refresher runs on one", 2),
    ],
)
def test_without_a_refresher_nobody_can_take_the_model_back(
    play, three, monkeypatch, change, says, code
):
    """It ended, or there never was one."""
    leads_to(three[0], "6")

    def ended(site, *words, **more):
        found = back(site, *words, **more)
        three[0].run(commands.script(change))
        return found

    back = releasing.rollback
    monkeypatch.setattr(releasing, "rollback", ended)
    done = play(three, "rollback", "--with-model")
    assert (done.code, live(three)) == (code, {"b": 2})
    assert done.err.endswith(
        f"error: riders have bbbbbbbbbbbb, but its model was not taken back: {says}{NEXT}"
    )


def test_a_service_that_does_not_go_back_keeps_its_model(play, three):
    """Nor does one that goes back on some hosts alone; whoever tries again takes both."""
    leads_to(three[0], "6")
    done = play((three[0], Gone("two")), "rollback", "--with-model")
    assert done.code == 3 and asked(three) == []
    assert "; the model was left as it is; all others went back" in done.err


def test_a_dry_run_shows_what_would_be_asked_of_the_model(play, three):
    """And asks nothing."""
    leads_to(three[0], "6")
    done = play(three, "rollback", "--with-model", "--dry", "--json")
    assert done.code == 0, done.err
    assert "bikecast-refresher-green bikecast model rollback --json" in done.err
    assert json.loads(done.out)["model"] == "" and json.loads(done.out)["verdict"] == "dry"
    assert asked(three) == [] and live(three) == {"c": 2}


def test_a_protected_environment_asks_for_both(play, three):
    """Nobody is there to answer."""
    env = environment(("[registry]", "protected = true\n[registry]"))
    done = play(three, "rollback", "--with-model", env=env)
    assert done.code == 2 and "this would roll staging back with its model, and" in done.err
