"""``bikecast audit``: what admins did."""

import dataclasses
from datetime import UTC
from typing import Annotated

import typer
from rich.markup import escape

from bikecast.cli.open import opened
from bikecast.cli.terminal import print_json, print_table
from bikecast.config import read_settings


def audit(
    limit: Annotated[int, typer.Option(help="Acts to list.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List who made or revoked a key or reloaded the service, and when, the newest first.

    Example: bikecast audit --limit 50
    """
    with opened(read_settings()) as database:
        database.store.check_readable()
        acts = database.store.keys.acts(limit)
    if as_json:
        print_json([dataclasses.asdict(act) | {"at": act.at.isoformat()} for act in acts])
        return
    rows = [
        [
            f"{act.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            act.act,
            escape(act.subject),
            escape(act.who),
        ]
        for act in acts
    ]
    print_table("What admins did", ["at (UTC)", "act", "subject", "who"], rows)
