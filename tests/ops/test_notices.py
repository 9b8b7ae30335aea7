"""What Slack is told of releases, by the tasks themselves, on hosts of the tests."""

from contextlib import contextmanager

import pytest
from invoke import Context, Exit
from deployer import Deployer
from local_host import environment, target

from bikecast.errors import UnknownName
from bikecast.ops.tasks import deploy_task, releasing, rollback_task

CANARY = {"strategy": "canary", "steps": "5,100"}


@pytest.fixture
def task(hosts, slack, monkeypatch):
    """Run a task against two hosts on which b is live; its messages are what Slack got."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    env = environment(("[service]", f'[notify]\nslack_webhook = "{slack.url}"\n[service]'))

    @contextmanager
    def site_of(context, name, dry=False):
        yield Deployer(hosts, env, dry=dry).site

    def target_of(env, release, training, allow_dirty, show):
        if release == "absent":
            raise UnknownName("the registry has no image absent")
        return target(release[0])

    monkeypatch.setattr(releasing, "site_of", site_of)
    monkeypatch.setattr(releasing, "target_of", target_of)

    def run(of, **words):
        try:
            of.body(Context(), **words)
        except Exit as exit:
            return exit.code
        return 0

    # Whoever is told something is told it before the task ends.
    monkeypatch.setattr("bikecast.ops.tasks.notices.A_MOMENT", 20.0)
    return run


def told(slack):
    """The one message that Slack got: its title, its facts."""
    (message,) = slack.got
    fields = message["blocks"][1]["fields"]
    return message["text"], dict(f["text"].strip("*").split("*\n", 1) for f in fields)


def test_a_deploy_is_told(task, slack):
    """With the release, who did it and where."""
    assert task(deploy_task, release="cccccccccccc") == 0
    title, facts = told(slack)
    assert title == "✅ deploy done: staging"
    assert facts.pop("Took").endswith(" s")
    assert facts == {"Environment": "staging", "Release": "c" * 12, "By": "ann@laptop"}


def test_a_deploy_that_fails_is_told_with_the_reason(task, slack, hosts):
    """Here the image never gets healthy."""
    for host in hosts:
        host.offer(target("c"), "crashing")
    assert task(deploy_task, release="c") != 0
    title, facts = told(slack)
    assert title == "❌ deploy failed: staging"
    assert facts["Release"] == "c" * 12 and "is not healthy on one, two" in facts["Why"]


def test_an_image_that_is_not_there_is_told_too(task, slack):
    """Somebody waits for that release."""
    assert task(deploy_task, release="absent") == 2
    title, facts = told(slack)
    assert title == "❌ deploy failed: staging" and facts["Release"] == "absent"
    assert facts["Why"] == "the registry has no image absent"


def test_a_rollback_is_told_with_what_is_live_again(task, slack):
    """The release that riders have now."""
    assert task(rollback_task) == 0
    title, facts = told(slack)
    assert title == "✅ rollback done: staging" and facts["Release"] == "a" * 12


def test_a_canary_that_is_held_asks_for_people(task, slack):
    """Nobody asks these hosts anything, so there is nothing to judge by."""
    assert task(deploy_task, release="c", **CANARY) == 1
    title, facts = told(slack)
    assert title == "⚠️ deploy waits for people: staging"
    assert "the canary stays at 5 %; `inv canary-promote`" in facts["Why"]


@pytest.mark.parametrize(
    ("of", "words"), [(deploy_task, {"release": "c"}), (rollback_task, {})], ids=["deploy", "back"]
)
def test_a_dry_run_tells_nobody(task, slack, of, words):
    """Nothing has happened."""
    assert task(of, dry=True, **words) == 0 and slack.got == []


def test_on_a_runner_of_github_a_notice_is_waited_for(task, slack, monkeypatch):
    """Its processes are ended with the job; elsewhere nobody waits longer than a moment."""
    monkeypatch.setattr("bikecast.ops.tasks.notices.A_MOMENT", 0.0)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    slack.slow = 2.0
    assert task(rollback_task) == 0 and slack.answered == 1


def test_a_webhook_out_of_reach_fails_no_release(task, slack, monkeypatch):
    """Neither does it change the exit code of one that failed."""
    monkeypatch.setattr("bikecast.ops.tasks.notices.A_MOMENT", 0.1)
    slack.end()
    assert task(deploy_task, release="c") == 0 and task(deploy_task, release="absent") == 2
