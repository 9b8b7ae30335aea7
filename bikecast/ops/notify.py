"""Notices to Slack: they never fail or delay what they report on.

Run as a module it reads one JSON document from standard input, ``{"webhook", "message"}``, and
sends it: that is how a task lets a notice go its own way while it ends.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

LIMIT = 20.0  # seconds for all tries together
ONE_TRY = 5.0  # seconds
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries
MARKS = {"good": "✅", "bad": "❌", "warning": "⚠️"}
# Slack's limits: 150 characters of a header, 2,000 of a field, 10 fields of a section.
HEADER, FIELD, FIELDS = 150, 2000, 10

Post = Callable[[str, bytes, float], int]


@dataclass(frozen=True)
class Notice:
    """What happened, in a line and some facts.

    :param kind: ``good``, ``bad`` or ``warning``.
    :param facts: name → value, shown two in a row.
    :param link: where more is to be read; may be empty.
    """

    title: str
    kind: str = "good"
    facts: dict[str, str] = field(default_factory=dict)
    link: str = ""

    def message(self) -> dict[str, Any]:
        """As Slack's incoming webhooks take it: text for notifications, blocks for the channel."""
        title = f"{MARKS[self.kind]} {self.title}"
        shown = [
            {"type": "mrkdwn", "text": f"*{escape(k)}*\n{escape(v)}"[:FIELD]}
            for k, v in self.facts.items()
            if v
        ]
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": {"type": "plain_text", "text": title[:HEADER]}}
        ]
        for start in range(0, len(shown), FIELDS):
            blocks.append({"type": "section", "fields": shown[start : start + FIELDS]})
        if self.link:
            more = f"<{escape(self.link)}|more>"
            blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": more}]})
        return {"text": title, "blocks": blocks}


def escape(text: str) -> str:
    """The three characters that mean something to Slack, as it wants them.

    >>> escape("a <b> & c")
    'a &lt;b&gt; &amp; c'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def send(
    webhook: str,
    message: dict[str, Any],
    post: Post,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> str:
    """Send a message, several times where that may help, within a time limit.

    :param post: sends a body to a URL within some seconds; returns the status.
    :returns: empty where it went, and else why not; never raises for what lies outside, and never
        names the webhook, which is a secret.
    """
    until, why = now() + LIMIT, "no time was left"
    body = json.dumps(message).encode()
    for pause in (0.0, *PAUSES):
        if now() + pause >= until:
            break
        sleep(pause)
        try:
            status = post(webhook, body, min(ONE_TRY, until - now()))
        except TimeoutError:
            why = "the webhook did not answer in time"
            continue
        except (OSError, ValueError, HTTPException) as error:
            why = re.sub(r"https?://\S+", "the webhook", str(error)) or type(error).__name__
            continue
        if 200 <= status < 300:
            return ""
        why = f"the webhook answers {status}"
        # What Slack refuses once it refuses again; it asks for patience with 429.
        if 400 <= status < 500 and status != 429:
            break
    return why


def post(url: str, body: bytes, timeout: float) -> int:
    """POST a JSON body; the status of the answer.

    :raises OSError: where there is none in time.
    :raises ValueError: for what is no web address.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError("it is no web address")
    request = Request(url, body, {"Content-Type": "application/json"})
    return within(timeout, lambda: _status(request, timeout))


def _status(request: Request, timeout: float) -> int:
    try:
        with urlopen(request, timeout=timeout) as answer:  # nosec B310  # http only
            return int(answer.status)
    except HTTPError as error:
        return error.code


def within(seconds: float, do: Callable[[], int]) -> int:
    """What a call returns, or raises; one that takes longer is left to itself.

    A socket's own limit begins anew with each byte: a server that drips would never meet it.

    :raises TimeoutError: where it takes longer.
    """
    ended: Future[int] = Future()

    def run() -> None:
        try:
            ended.set_result(do())
        except BaseException as error:
            ended.set_exception(error)

    # A daemon: the interpreter does not wait for it at its end.
    Thread(target=run, daemon=True).start()
    return ended.result(seconds)


def send_aside(webhook: str, notice: Notice, patience: float) -> None:
    """Send a notice from a process of its own, which may outlive this one; never raises.

    :param patience: seconds to wait for it; then it goes on alone.
    """
    given = json.dumps({"webhook": webhook, "message": notice.message()}).encode()
    # No process to be had, one that ends before it has read, one that takes its time.
    with suppress(OSError, subprocess.TimeoutExpired):
        # Our own interpreter and package, and fixed words.
        process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "bikecast.ops.notify"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        with process.stdin as into:
            into.write(given)
        process.wait(patience)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    sys.exit(1 if send(given["webhook"], given["message"], post) else 0)
