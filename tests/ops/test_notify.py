"""Notices: what Slack gets, and that a webhook that misbehaves hurts nobody."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.ops.notify import FIELDS, HEADER, LIMIT, Notice, post, send, send_aside

TOP = Path(__file__).parents[2]


class Slack:
    """A webhook that answers what it is told to, one status after the other."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.slow = 0.0
        self.got: list[dict] = []
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                slack.got.append(json.loads(body))
                if slack.slow:
                    time.sleep(slack.slow)
                self.send_response(slack.statuses.pop(0) if slack.statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T/B/geheim"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def slack() -> Iterator[Slack]:
    """A webhook on this machine."""
    made = Slack()
    yield made
    made.server.shutdown()
    made.server.server_close()


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


def test_all_tries_together_have_a_limit() -> None:
    """A webhook that is always slow is given up."""
    clock = [0.0]

    def slow(url: str, body: bytes, timeout: float) -> int:
        clock[0] += timeout
        raise TimeoutError("timed out")

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    assert send("http://x", {}, slow, sleep, lambda: clock[0]) == "timed out"
    assert clock[0] <= LIMIT


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
