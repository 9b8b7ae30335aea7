"""``bikecast model history``: what was in production, since when, by whom and why."""

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape

from bikecast.cli.open import Opened, opened
from bikecast.cli.terminal import errors, output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError, Unavailable
from bikecast.records import Promotion

if TYPE_CHECKING:
    from bikecast.production import Production

COLUMNS = ["at (UTC)", "what", "from", "to", "who", "why"]


def history(
    at: Annotated[
        str,
        typer.Option(
            help="What was in production then: RFC 3339, without an offset local time.",
            show_default=False,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List all that was ever in production, by whom and why, the oldest first."""
    from bikecast.registry import fail_soon

    fail_soon()
    with opened(read_settings()) as database:
        production = database.production
        _notice(production)
        moves = tuple(m for m in production.book.all() if m.kind != "done")
        if at:
            _print_at(moves, _moment(database, moves, at), as_json)
        elif as_json:
            print_json([document(move) for move in moves])
        else:
            print_table("In production", COLUMNS, [cells(move) for move in moves])


def _notice(production: "Production") -> None:
    """Look for what was moved in MLflow itself, which is part of the answer where it can be had."""
    try:
        production.notice()
    except Unavailable as error:
        told = f"what was moved in MLflow itself may be lacking: {error}"
        errors.print(told, markup=False, highlight=False, soft_wrap=True)


def _print_at(moves: tuple[Promotion, ...], moment: datetime, as_json: bool) -> None:
    from bikecast import production

    move = production.at(moves, moment)
    version = move.to_version if move else ""
    if as_json:
        known = {"version": version or None, "since": move and move.at.isoformat()}
        print_json({"at": moment.isoformat()} | known | {"move": move and document(move)})
    elif move and version:
        since = f"since {move.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        output.print(
            f"version {version}, {since}: {move.kind} by {move.who}, {move.why}",
            markup=False,
            highlight=False,
        )
    else:
        output.print(f"no version is known to have been in production at {moment}")


def _moment(database: Opened, moves: tuple[Promotion, ...], text: str) -> datetime:
    """What is given as ``--at``, in the civil time of the model's system where it has no offset."""
    from bikecast.serve.problems import Problem
    from bikecast.serve.times import moment

    system_id = moves[-1].system_id if moves else database.settings.system
    zones = {s.system_id: s.timezone for s in database.store.systems()}
    try:
        return moment(text, ZoneInfo(zones.get(system_id, "UTC")))
    except Problem as problem:
        raise InputError(f"--at: {problem.detail}") from None


def cells(move: Promotion) -> list[str]:
    """A line of the table."""
    return [
        f"{move.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        move.kind,
        move.from_version or "–",
        move.to_version or "–",
        escape(move.who),
        escape(move.why),
    ]


def document(move: Promotion) -> dict[str, Any]:
    """A move as JSON."""
    return dataclasses.asdict(move) | {"at": move.at.isoformat()}
