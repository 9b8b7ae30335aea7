"""Notices: what Slack gets, and that a webhook that misbehaves hurts nobody."""

import json
import os
import subprocess
import sys
import time
from http.client import BadStatusLine
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack import Slack

from bikecast.ops import notify
from bikecast.ops.notify import FIELDS, HEADER, LIMIT, Notice, post, send, send_aside

TOP = Path(__file__).parents[2]

IN_TIME = "the webhook did not answer in time"
NOTICE = Notice("deploy done: staging", facts={"Release": "abc", "Why": ""}, link="https://x/1?a&b")


def test_a_message_has_text_and_blocks() -> None:
    """Empty facts are left out; what means something to Slack is escaped."""
    message = NOTICE.message()
    assert message["text"] == "✅ deploy done: staging"
    header, section, context = message["blocks"]
    assert header["text"]["text"] == message["text"]
    assert [f["text"] for f in section["fields"]] == ["*Release*\nabc"]
    assert context["elements"][0]["text"] == "<https://x/1?a&amp;b|more>"


@given(st.text(max_size=400), st.dictionaries(st.text(min_size=1), st.text(max_size=3000)))
def test_a_message_is_within_what_slack_takes(title: str, facts: dict[str, str]) -> None:
    """Whatever is reported: a header of 150 characters, ten fields of 2,000 in a section."""
    header, *others = Notice(title, "bad", facts).message()["blocks"]
    assert len(header["text"]["text"]) <= HEADER
    for section in others:
        assert len(section["fields"]) <= FIELDS
        assert all(len(f["text"]) <= 2000 for f in section["fields"])


@pytest.mark.parametrize(
    ("statuses", "asked", "why"),
    [
        ([200], 1, ""),
        ([500, 503, 200], 3, ""),
        ([429, 200], 2, ""),
        ([404], 1, "the webhook answers 404"),
        ([500] * 9, 5, "the webhook answers 500"),
    ],
)
def test_it_is_tried_again_where_that_may_help(
    slack: Slack, statuses: list[int], asked: int, why: str
) -> None:
    """Faults of the server are; a refusal is not."""
    slack.statuses = statuses
    assert send(slack.url, NOTICE.message(), post, sleep=lambda _: None) == why
    assert len(slack.got) == asked and slack.got[0] == NOTICE.message()


def test_nobody_listens() -> None:
    """It is said without the webhook, which is a secret."""
    why = send("http://127.0.0.1:9/geheim", {}, post, sleep=lambda _: None)
    assert "refused" in why and "geheim" not in why
    why = send("geheim", {}, post, sleep=lambda _: None)
    assert why == "it is no web address"


def test_an_answer_that_is_no_http_is_said_too() -> None:
    """Nothing that a webhook does becomes an error of ours."""

    def babble(url: str, body: bytes, timeout: float) -> int:
        raise BadStatusLine("hello")

    assert send("http://x", {}, babble, sleep=lambda _: None) == "hello"


def test_all_tries_together_have_a_limit() -> None:
    """A webhook that is always slow is given up."""
    clock = [0.0]

    def slow(url: str, body: bytes, timeout: float) -> int:
        clock[0] += timeout
        raise TimeoutError("timed out")

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    assert send("http://x", {}, slow, sleep, lambda: clock[0]) == IN_TIME
    assert clock[0] <= LIMIT


def test_a_server_that_drips_is_given_up(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits hold although there is always one more byte."""
    monkeypatch.setattr(notify, "ONE_TRY", 0.4)
    monkeypatch.setattr(notify, "LIMIT", 1.5)
    slack.drips = 0.05
    began = time.monotonic()
    assert send(slack.url, {}, post) == IN_TIME
    assert time.monotonic() - began < 3 and len(slack.got) == 2


def test_a_process_that_gave_up_ends(slack: Slack) -> None:
    """What it left to itself does not keep it alive."""
    slack.drips = 0.05
    code = f"from bikecast.ops.notify import post; post({slack.url!r}, b'{{}}', 0.3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "TimeoutError" in done.stderr


@pytest.mark.parametrize("program", ["no-such-program", "/bin/true"])
def test_no_process_or_one_that_reads_nothing_fails_nobody(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds some of a message; this one is more than that."""
    monkeypatch.setattr(sys, "executable", program)
    facts = {str(i): "long" * 500 for i in range(100)}
    send_aside("http://127.0.0.1:9", Notice("x", facts=facts), patience=5)


def test_a_notice_goes_its_own_way(slack: Slack) -> None:
    """It arrives although its sender did not wait, and a slow webhook holds nobody up."""
    slack.slow = 3
    began = time.monotonic()
    send_aside(slack.url, NOTICE, patience=0.1)
    assert time.monotonic() - began < 2.5
    until = time.monotonic() + 30
    while not slack.got:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert slack.got == [NOTICE.message()]


def inv(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `inv`."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(TOP), "notify", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_inv_notify_sends_and_never_fails_what_it_reports_on(slack: Slack) -> None:
    """Exit code 0 and a warning where it cannot be sent; a dry run sends nothing."""
    words = ("--title", "CI failed on main", "--kind", "bad", "--fact", "Branch=main")
    sent = inv(*words, "--json", SLACK_WEBHOOK_URL=slack.url)
    assert sent.returncode == 0 and json.loads(sent.stdout)["sent"], sent.stderr
    assert slack.got[0]["text"] == "❌ CI failed on main"
    slack.statuses = [403]
    refused = inv(*words, SLACK_WEBHOOK_URL=slack.url)
    assert refused.returncode == 0 and "warning: the notice was not sent" in refused.stderr
    assert "geheim" not in refused.stderr
    dry = inv(*words, "--dry", SLACK_WEBHOOK_URL=slack.url)
    assert json.loads(dry.stdout)["blocks"] and len(slack.got) == 2
    wrong = inv("--title", "x", "--kind", "ugly", SLACK_WEBHOOK_URL=slack.url)
    assert wrong.returncode == 2 and "--kind is 'ugly'" in wrong.stderr
