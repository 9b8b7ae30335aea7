"""``bikecast model show``: a version's card, on the terminal, as JSON and as a page."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bikecast.cli.history import cells, document
from bikecast.cli.open import opened
from bikecast.cli.terminal import output, print_json, print_table
from bikecast.config import read_settings
from bikecast.errors import InputError
from bikecast.records import ModelVersion

if TYPE_CHECKING:
    from bikecast.evaluation.card import Card

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Which = Annotated[str, typer.Argument(help="A version's number, `challenger` or `production`.")]


def show(
    which: Which = "production",
    html: Annotated[
        Path | None, typer.Option(help="Write the card as a page of HTML, too.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a version's card: data, scores beside others, weak spots, who promoted it and why."""
    with opened(read_settings()) as database:
        production = database.production
        card = production.card(production.registry.get(which))
    if html:
        _write(html, card)
    if as_json:
        print_json(card_document(card))
    else:
        print_card(card)


def _write(path: Path, card: "Card") -> None:
    from bikecast.evaluation.report.card import card_html

    try:
        path.write_text(card_html(card))
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}", hint="name another file"
        ) from error


def card_document(card: "Card") -> dict[str, Any]:
    """A card as JSON: what is known of the version, and more of it beside."""
    from bikecast.evaluation.card import weak_spots

    more = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
    del more["version"]
    return (
        dataclasses.asdict(card.version)
        | more
        | {
            "trained_at": card.trained_at and card.trained_at.isoformat(),
            "moves": [document(move) for move in card.moves],
            "weak_spots": weak_spots(card),
        }
    )


def print_card(card: "Card") -> None:
    """The card, in lines."""
    from bikecast.evaluation.card import weak_spots

    print_version(card.version)
    trained = f"{card.trained_at:%Y-%m-%d %H:%M} UTC" if card.trained_at else "unknown"
    facts = {
        "trained at": f"{trained}, from commit {card.commit or 'unknown'}",
        "data": f"{card.data_from} to {card.data_until}, hash {card.version.data_hash}",
        "features": ", ".join(f"{word} ({len(names)})" for word, names in card.features.items()),
        "parameters": ", ".join(f"{name} {value}" for name, value in card.params.items()),
        "gate": (card.gate or {}).get("outcome", "not validated"),
    }
    for name, value in facts.items():
        _say(f"{name}: {value or 'none'}")
    for check in (card.gate or {}).get("checks", ()):
        _say(f"  {check.get('outcome')}: {check.get('name')}, {check.get('detail')}")
    for spot in weak_spots(card) or ["none that its figures show"]:
        _say(f"weak spot: {spot}")
    if card.moves:
        columns = ["at (UTC)", "what", "from", "to", "who", "why"]
        print_table("In production", columns, [cells(move) for move in card.moves])


def _say(line: str) -> None:
    output.print(line, markup=False, highlight=False, soft_wrap=True)


def print_version(version: ModelVersion) -> None:
    """A version and the scores of every model on the same hours."""
    alias = f" ({', '.join(version.aliases)})" if version.aliases else ""
    output.print(
        f"version {version.version}{alias}: {version.model} of {version.system_id}, "
        f"trained until {version.trained_until}"
    )
    names = sorted({s for scores in version.scores.values() for s in scores})
    rows = [
        [entry, *(f"{scores[n]:.4f}" if n in scores else "–" for n in names)]
        for entry, scores in version.scores.items()
    ]
    print_table("Scores on the same recent hours", ["model", *names], rows)
