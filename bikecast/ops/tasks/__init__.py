"""Invoke tasks; each parses, calls, prints."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path

from invoke import Context, Exit, task

from bikecast import __version__
from bikecast.errors import BikecastError
from bikecast.ops.environment import load_environment

ENVIRONMENTS = Path("deploy/environments")
HELP = {
    "env": "The environment: a file in deploy/environments.",
    "json": "Print one JSON document.",
}


@contextmanager
def told() -> Iterator[None]:
    """An error is one line on stderr and its exit code; Invoke itself exits 1 on wrong usage."""
    try:
        yield
    except BikecastError as error:
        raise Exit(f"error: {error}", code=error.exit_code) from error


@task(help={"json": HELP["json"]})  # type: ignore[untyped-decorator]
def version(context: Context, json: bool = False) -> None:
    """Say which version and commit a release from here would carry."""
    asked = context.run("git rev-parse HEAD", hide=True, warn=True)
    commit = asked.stdout.strip() if asked.ok else ""
    if json:
        print(dumps({"version": __version__, "commit": commit}))
    else:
        print(f"bikecast {__version__}, commit {commit or 'unknown'}")


@task(name="env", help=HELP)  # type: ignore[untyped-decorator]
def show_environment(context: Context, env: str = "staging", json: bool = False) -> None:
    """Show an environment's resolved values, its secrets masked: inv env --env staging."""
    with told():
        shown = load_environment(ENVIRONMENTS, env, os.environ).masked()
    if json:
        print(dumps(shown, indent=2))
        return
    for key, value in shown.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for name, of in rows:
            print(f"{key}.{name}".rstrip("."), "=", dumps(of))
