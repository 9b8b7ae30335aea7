"""Invoke tasks; each parses, calls, prints."""

import json

from invoke import Context, task

from bikecast import __version__


@task(help={"as_json": "Print one JSON document."})  # type: ignore[untyped-decorator]
def version(context: Context, as_json: bool = False) -> None:
    """Say which version and commit a release from here would carry."""
    asked = context.run("git rev-parse HEAD", hide=True, warn=True)
    commit = asked.stdout.strip() if asked.ok else ""
    if as_json:
        print(json.dumps({"version": __version__, "commit": commit}))
    else:
        print(f"bikecast {__version__}, commit {commit or 'unknown'}")
