"""``inv notify``, and the notices that releases send by themselves."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps

from invoke import Context, task

from bikecast.errors import BikecastError, InputError
from bikecast.ops.notify import LIMIT, MARKS, Notice, post, send, send_aside
from bikecast.ops.release import Held
from bikecast.ops.site import Site
from bikecast.ops.tasks.common import environment, helped, is_dry, run_link, told

WEBHOOK = "SLACK_WEBHOOK_URL"
A_MOMENT = 1.0  # seconds


@task(  # type: ignore[untyped-decorator]
    help=helped(
        *("env", "dry", "json"),
        title="What happened, in a line.",
        kind="good, bad or warning.",
        fact="NAME=VALUE to show below; may be repeated.",
        link="Where more is to be read; by default this run of a workflow.",
    ),
    iterable=["fact"],
)
def notify(
    context: Context,
    title: str,
    env: str = "staging",
    kind: str = "good",
    fact: list[str] | None = None,
    link: str = "",
    dry: bool = False,
    json: bool = False,
) -> None:
    """Tell Slack something: inv notify --title "CI failed on main" --kind bad.

    The webhook is that of the environment, or of SLACK_WEBHOOK_URL. A notice that cannot be sent is
    a warning and no failure: what it reports on has happened all the same.
    """
    with told():
        if kind not in MARKS:
            raise InputError(f"--kind is {kind!r}", hint=f"write {', '.join(MARKS)}")
        facts = dict(part.partition("=")[::2] for part in fact or [])
        notice = Notice(title, kind, facts, link or run_link())
        if is_dry(context, dry):
            print(dumps(notice.message(), indent=2, ensure_ascii=False))
            return
        # A workflow without that secret sets it to nothing: then nobody is to be told.
        webhook = (
            os.environ[WEBHOOK]
            if WEBHOOK in os.environ
            else environment(env).notify.slack_webhook.get_secret_value()
        )
        why = send(webhook, notice.message(), post) if webhook else f"{WEBHOOK} is not set"
    if why:
        print(f"warning: the notice was not sent: {why}", file=sys.stderr)
    if json:
        print(dumps({"sent": not why, "why": why}))


@contextmanager
def reported(site: Site, action: str, release: str = "") -> Iterator[dict[str, str]]:
    """Report how the block ended; it may add facts to what it gets."""
    began = time.monotonic()
    facts = {"Environment": site.env.name, "Release": release, "By": site.who}

    def tell(kind: str, how: str, why: str = "") -> None:
        webhook = site.env.notify.slack_webhook.get_secret_value()
        if webhook and not site.dry:
            took = {"Took": f"{time.monotonic() - began:.0f} s", "Why": why}
            title = f"{action} {how}: {site.env.name}"
            # A runner of GitHub ends what a job leaves behind, and the release is over by now.
            patience = LIMIT if "GITHUB_ACTIONS" in os.environ else A_MOMENT
            send_aside(webhook, Notice(title, kind, facts | took, run_link()), patience)

    try:
        yield facts
    except Held as error:
        tell("warning", "waits for people", str(error))
        raise
    except BikecastError as error:
        tell("bad", "failed", str(error))
        raise
    except BaseException as error:
        tell("bad", "was stopped", type(error).__name__)
        raise
    tell("good", "done")
