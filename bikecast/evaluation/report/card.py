"""A model's card as one page of HTML that needs nothing beside it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from bikecast.evaluation.card import NAIVE, Card, compared, skill, weak_spots
from bikecast.evaluation.report.drawing import table
from bikecast.evaluation.report.page import COLUMNS, STYLE

FACTS = (
    "<style>.facts td { white-space: normal; text-align: left; overflow-wrap: anywhere }</style>"
)


def card_html(card: Card) -> str:
    """The page."""
    version = card.version
    title = f"Version {version.version} of {version.system_id}: {version.model}"
    sections = {
        "Where it comes from": _facts(_origin(card)),
        "Scores on the same recent hours": _scores(card),
        "By part of these hours": _slices(card),
        "Known weak spots": _list(weak_spots(card)),
        "Calibration of the quantiles": _calibration(card),
        "The gate": _gate(card),
        "In production": _moves(card),
        "Features": _facts({word: ", ".join(names) for word, names in card.features.items()}),
        "Parameters": _facts(card.params),
    }
    body = "\n".join(f"<h2>{escape(head)}</h2>\n{text}" for head, text in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style>{FACTS}'
        f"</head><body>\n<h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _origin(card: Card) -> dict[str, str]:
    return {
        "aliases": ", ".join(card.version.aliases) or "none",
        "trained at": f"{card.trained_at:%Y-%m-%d %H:%M} UTC" if card.trained_at else "",
        "data from": card.data_from,
        "data until": card.data_until,
        "hash of the data": card.version.data_hash,
        "git commit": card.commit,
        "MLflow run": card.version.run_id,
    }


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return "<p>None.</p>"
    lines = [[escape(name), escape(value) or "unknown"] for name, value in facts.items()]
    return f'<div class="facts">{table(["what", ""], lines)}</div>'


def _scores(card: Card) -> str:
    entries = compared(card)
    shown = {c: v for c, v in COLUMNS.items() if any(c in scores for scores in entries.values())}
    heads = ["model", *(heading for heading, _ in shown.values())]
    lines = [
        [escape(name), *(form.format(s[c]) if c in s else "–" for c, (_, form) in shown.items())]
        for name, s in entries.items()
    ]
    return table(heads, lines, best=0) if lines else "<p>None were kept.</p>"


def _slices(card: Card) -> str:
    if not card.detail:
        return "<p>Not recorded at its training.</p>"
    heads = ["part", "station-hours", "MAE", "bias", "inside the 80 % interval"]
    return table(
        [*heads, "better than naive", "better than the champion"],
        [_slice(card.version.model, part) for part in card.detail["slices"]],
    )


def _slice(model: str, part: Mapping[str, Any]) -> list[str]:
    own = part["scores"][model]
    gains = [skill(own, part["scores"].get(other, {})) for other in (NAIVE, "champion")]
    return [
        escape(f"{part['of']}: {part['part']}"),
        f"{own['n']:,}",
        f"{own['mae']:.3f}",
        f"{own['bias']:+.3f}",
        f"{own['coverage_80']:.1%}",
        *("–" if gain is None else f"{gain:+.1%}" for gain in gains),
    ]


def _list(lines: list[str]) -> str:
    if not lines:
        return "<p>None that its figures show.</p>"
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _calibration(card: Card) -> str:
    if not card.detail:
        return "<p>Not recorded at its training.</p>"
    found = card.detail["calibration"]
    if found["calibrated"]:
        return "<p>Calibrated, overall and in every group.</p>"
    heads = ["quantile", "hours", "share below – up to", "points beyond the tolerance"]
    return table(
        heads,
        [
            [
                f"{c['level']:.0%}",
                escape(f"{c['group']} {c['part']}"),
                f"{c['below']:.1%} – {c['up_to']:.1%}",
                f"{100 * c['miss']:.1f}",
            ]
            for c in found["worst"]
        ],
    )


def _gate(card: Card) -> str:
    if not card.gate:
        return "<p>Not validated.</p>"
    checks = [
        [escape(str(check.get(key, ""))) for key in ("name", "outcome", "detail")]
        for check in card.gate.get("checks", ())
    ]
    said = f"<p>Its outcome: {escape(str(card.gate.get('outcome', 'unknown')))}.</p>"
    return f'{said}<div class="facts">{table(["check", "outcome", "detail"], checks)}</div>'


def _moves(card: Card) -> str:
    if not card.moves:
        return "<p>Never, as far as is written down.</p>"
    heads = ["at (UTC)", "what", "in the place of", "who", "why"]
    lines = [
        [
            f"{m.at:%Y-%m-%d %H:%M}",
            escape(m.kind),
            escape(m.from_version) or "–",
            escape(m.who),
            escape(m.why),
        ]
        for m in card.moves
    ]
    return f'<div class="facts">{table(heads, lines)}</div>'
