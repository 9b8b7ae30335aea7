"""What every task does the same way: errors in one line, signals, the environment, its hosts."""

import getpass
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from invoke import Context, Exit
from invoke.util import debug

from bikecast.errors import BikecastError, InputError, Refused
from bikecast.ops.environment import Environment, load_environment

ENVIRONMENTS = Path("deploy/environments")
HELP = {
    "env": "The environment: a file in deploy/environments.",
    "json": "Print one JSON document.",
    "dry": "Print every command, local and remote, and run none.",
    "yes": "Do not ask, even where the environment is protected.",
    "wait": "Wait this long for whoever is at work on the hosts, as in 90s or 10m.",
}


def helped(*names: str, **more: str) -> dict[str, str]:
    """Help for the named common options and those of one task."""
    return {name: HELP[name] for name in names} | more


def environment(name: str) -> Environment:
    """The environment of that name, from the folder that the project keeps them in."""
    return load_environment(ENVIRONMENTS, name, os.environ)


def is_dry(context: Context, dry: bool) -> bool:
    """`inv --dry deploy` and `inv deploy --dry` mean the same."""
    return dry or bool(context.config.run.dry)


def who() -> str:
    """Who is doing this, for the lock and the log of releases."""
    return os.environ.get("GITHUB_ACTOR") or f"{getpass.getuser()}@{socket.gethostname()}"


def run_link() -> str:
    """Where this run of a workflow is to be read; empty elsewhere."""
    parts = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def hand_on(values: Mapping[str, str]) -> None:
    """Hand values to later steps of a workflow of GitHub; elsewhere nothing happens."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with open(path, "a") as file:
            # One line each: a station's name must not become an output of its own.
            lines = ((name, " ".join(value.splitlines())) for name, value in values.items())
            file.writelines(f"{name}={line}\n" for name, line in lines)


def confirm(what: str, yes: bool) -> None:
    """Ask a person; raise where the answer is no, or nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"this would {what}, and nobody can be asked", hint="add --yes")
    if input(f"{what[0].upper()}{what[1:]}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed", hint="answer y where you mean it")


class Narrator:
    """Says what happens on stderr, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, line: str) -> None:
        """One line."""
        print(f"[{time.monotonic() - self._began:5.1f} s] {line}", file=sys.stderr, flush=True)

    def would_say(self, line: str) -> None:
        """One line that only a real run could say."""
        self(f"would say: {line}")

    def here(self, line: str) -> None:
        """One step on this machine, as those on hosts are shown."""
        self(f"here$ {line}")


@contextmanager
def told() -> Iterator[None]:
    """An error is one line on stderr and its exit code; Invoke itself exits 1 on wrong usage.

    A mistake of ours is one too, with exit code 3; `inv --debug` shows the trace behind it.
    The first SIGINT or SIGTERM ends the work in an orderly way, later ones do not disturb that.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    except BikecastError as error:
        raise Exit(f"error: {error}", code=error.exit_code) from error
    except Exit:
        raise
    except Exception as error:
        debug("the trace of the error below", exc_info=True)
        crashed = BikecastError(
            f"this is a mistake in bikecast: {type(error).__name__}: {error}",
            hint="`inv --debug …` shows its trace; please report it",
        )
        raise Exit(f"error: {crashed}", code=crashed.exit_code) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _patience)
    print("stopping …", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def _patience(number: int, frame: FrameType | None) -> None:
    print("stopping already; a moment …", file=sys.stderr, flush=True)
