"""``inv up``, ``down``, ``backup`` and ``restore``: the services of one machine."""

import json as documents
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from invoke import Context, task

from bikecast import __version__
from bikecast.ops import backups, services
from bikecast.ops.tasks.common import confirm, helped, is_dry, told

YES = "Do not ask."
TIMEOUT = "Seconds until all must be healthy."


@task(help=helped("dry", "json", timeout=TIMEOUT))  # type: ignore[untyped-decorator]
def up(context: Context, timeout: int = 180, dry: bool = False, json: bool = False) -> None:
    """Start PostgreSQL, MLflow, the service and nginx here, and wait until all are well: inv up.

    The first time it makes the passwords. What runs already is left alone.
    """
    with told():
        started = services.up(_shell(context, dry), services.here(), timeout)
    if json:
        print(documents.dumps(started._asdict(), indent=2))
    elif started.systems:
        print(f"up: the service answers on {started.url}")
    else:
        print(
            f"up, but no system was imported yet, so there is nothing to serve on {started.url}; "
            "import trips, then `inv up` again"
        )


@task(  # type: ignore[untyped-decorator]
    help=helped("dry", volumes="Delete the database and all models too.", yes=YES)
)
def down(context: Context, volumes: bool = False, yes: bool = False, dry: bool = False) -> None:
    """Stop what `inv up` started; the data stay: inv down.

    With --volumes the database and all models are deleted, which it asks about.
    """
    with told():
        if volumes and not dry:
            confirm("delete the database and all models", yes)
        services.down(_shell(context, dry), services.here(), volumes)


@task(  # type: ignore[untyped-decorator]
    help=helped("dry", "json", to="The folder to make; it must not exist.")
)
def backup(context: Context, to: str, dry: bool = False, json: bool = False) -> None:
    """Copy both databases and all models into a new folder: inv backup --to backups/2026-11-25.

    What was running goes on running. A folder of that name is there only once it is whole.
    """
    begun = monotonic()
    with told():
        made = backups.backup(
            _shell(context, dry), services.here(), Path(to), __version__, datetime.now(UTC)
        )
    if json:
        print(documents.dumps(made.document(), indent=2))
    elif not dry:
        rows = sum(sum(tables.values()) for tables in made.rows.values())
        print(f"{to}: {rows:,} rows and all models in {monotonic() - begun:.0f} s")


@task(  # type: ignore[untyped-decorator]
    positional=["folder"],
    help=helped("dry", "json", folder="What `inv backup` made.", yes=YES, timeout=TIMEOUT),
)
def restore(
    context: Context,
    folder: str,
    yes: bool = False,
    timeout: int = 180,
    dry: bool = False,
    json: bool = False,
) -> None:
    """Put a backup in the place of what is here now: inv restore backups/2026-11-25.

    It is checked, restored and counted beside the data that are in use; then the service stops for
    some seconds and they change places. Whatever fails leaves the data that were there.
    """
    begun = monotonic()
    with told():
        shell, compose = _shell(context, dry), services.here()
        manifest = backups.read_backup(Path(folder))
        if not dry:
            confirm(f"replace all data here with those of {manifest.made:%Y-%m-%d %H:%M} UTC", yes)
            # An installation of a release before has none, and its services would not start.
            config = services.read_config(shell, compose)
            services.ensure_admin_token(shell, services.secrets_folder(config))
        backups.restore(shell, compose, Path(folder), manifest, timeout)
    if json:
        print(documents.dumps({"folder": folder, "rows": manifest.rows}, indent=2))
    elif not dry:
        rows = sum(sum(tables.values()) for tables in manifest.rows.values())
        print(f"restored {rows:,} rows, counted, and all models in {monotonic() - begun:.0f} s")


def _shell(context: Context, dry: bool) -> services.Shell:
    return services.Shell(dry=is_dry(context, dry))
