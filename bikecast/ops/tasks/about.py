"""``inv version`` and ``inv env``: what a release from here would be, and where it would go."""

from json import dumps
from pathlib import Path

from invoke import Context, task

from bikecast import __version__
from bikecast.errors import BikecastError
from bikecast.ops.images import read_commit
from bikecast.ops.tasks.common import environment, helped, told


@task(help=helped("json"))  # type: ignore[untyped-decorator]
def version(context: Context, json: bool = False) -> None:
    """Say which version and commit a release from here would carry: inv version."""
    try:
        commit = read_commit(Path()).revision
    except BikecastError:
        commit = ""
    if json:
        print(dumps({"version": __version__, "commit": commit}))
    else:
        print(f"bikecast {__version__}, commit {commit or 'unknown'}")


@task(name="env", help=helped("env", "json"))  # type: ignore[untyped-decorator]
def show_environment(context: Context, env: str = "staging", json: bool = False) -> None:
    """Show an environment's resolved values, its secrets masked: inv env --env staging."""
    with told():
        shown = environment(env).masked()
    if json:
        print(dumps(shown, indent=2))
        return
    for key, value in shown.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for name, of in rows:
            print(f"{key}.{name}".rstrip("."), "=", dumps(of))
