"""``bikecast keys``: who may ask the service for forecasts."""

import re
from typing import Annotated, Any

import typer

from bikecast.cli.open import opened, who
from bikecast.cli.terminal import errors, output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError
from bikecast.keys import ApiKey, new_key

keys = typer.Typer(no_args_is_help=True, help="API keys of the service: make, list, revoke them.")

Name = Annotated[
    str,
    typer.Argument(
        help="Whose key it is: up to 63 letters, digits, dots, hyphens and underscores.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@keys.command(epilog="Example: bikecast keys create planner-app")
def create(name: Name, as_json: Json = False) -> None:
    """Make a key and print it, this once: the database keeps its hash alone."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise InputError(
            f"{name!r} is no name of a key",
            hint="write up to 63 letters, digits, dots, hyphens and underscores",
        )
    with opened(read_settings()) as database:
        database.store.check_readable()
        text, key = new_key(name)
        database.store.keys.add(key, who(database.settings))
    if as_json:
        print_json(_document(key) | {"key": text})
        return
    errors.print("send it as `Authorization: Bearer …`; it is not shown again", highlight=False)
    typer.echo(text)


@keys.command("list", epilog="Example: bikecast keys list --json")
def list_keys(as_json: Json = False) -> None:
    """List all keys there ever were, without their secrets."""
    with opened(read_settings()) as database:
        database.store.check_readable()
        found = database.store.keys.all()
    if as_json:
        print_json([_document(key) for key in found])
        return
    rows = [[k.name, k.key_id, f"{k.created_at:%Y-%m-%d %H:%M}", _state(k)] for k in found]
    print_table("Keys", ["name", "id", "created", "state"], rows)


@keys.command(epilog="Example: bikecast keys revoke planner-app")
def revoke(name: Name, as_json: Json = False) -> None:
    """Make a key invalid for good; services that reach the database refuse it within seconds."""
    with opened(read_settings()) as database:
        database.store.check_readable()
        key = database.store.keys.revoke(name, who(database.settings))
    if as_json:
        print_json(_document(key))
    else:
        output.print(f"{key.name} ({key.key_id}) is revoked", highlight=False)


def _state(key: ApiKey) -> str:
    return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "key_id": key.key_id,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
