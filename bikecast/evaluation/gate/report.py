"""The gate's answer as one page of HTML that needs nothing beside it."""

from collections.abc import Sequence
from html import escape
from math import isfinite
from typing import Any, Final

import numpy as np

from bikecast.evaluation.gate.checks import MARKS, Check
from bikecast.evaluation.gate.comparison import daily_losses
from bikecast.evaluation.gate.evidence import CHALLENGER, CHAMPION, NAIVE, Evidence
from bikecast.evaluation.report.drawing import COLOURS, GREY, INK, picture, table
from bikecast.evaluation.report.page import STYLE

SAID: Final = {
    "promote": "may go into production",
    "reject": "stays out of production",
    "inconclusive": "stays out of production until more is known",
}


def report_html(
    document: dict[str, Any], checks: Sequence[Check], evidence: Evidence | None
) -> str:
    """The page.

    :param document: the answer as JSON has it: ``version``, ``model``, ``against``, ``outcome``.
    """
    title = f"Version {document['version']} ({document['model']}) at the gate"
    against = document["against"]
    beside = NAIVE if against == NAIVE else f"version {against}"
    body = (
        f"<p><strong>It {SAID[document['outcome']]}.</strong> Held against {escape(beside)}, "
        f"with the rule {escape(document['rule'])}.</p>" + _checks(checks)
    )
    if evidence is not None:
        facts = evidence.facts
        reference = NAIVE if against == NAIVE else CHAMPION
        body += (
            f"<h2>Slices and days</h2>{_pictures(checks, evidence, reference)}"
            f"<h2>Scores on the same hours</h2>{_scores(facts.scores)}"
            f'<p class="quiet">{facts.days} days from {escape(facts.start)}, every model fitted '
            "before them, up to a week ahead, with the weather forecasts that are stored.</p>"
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"</head><body>\n<h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _checks(checks: Sequence[Check]) -> str:
    lines = [[MARKS[c.outcome], c.outcome, escape(c.name), escape(c.detail)] for c in checks]
    return table(["", "answer", "check", "figures"], lines, look="words")


def _scores(scores: dict[str, dict[str, float]]) -> str:
    names = sorted({name for own in scores.values() for name in own})
    lines = [
        [escape(role), *(f"{own[n]:,.4g}" if n in own else "–" for n in names)]
        for role, own in scores.items()
    ]
    return table(["", *names], lines)


def _pictures(checks: Sequence[Check], evidence: Evidence, reference: str) -> str:
    bars = [c for c in checks if "low" in c.figures]
    own, other = daily_losses(evidence.rows, CHALLENGER, reference)
    told = "; ".join(f"{c.name}: {c.detail}" for c in bars)

    def draw(axes: Any) -> None:
        _intervals(axes[0], bars)
        _days(axes[1], own, other, reference)

    return picture(draw, f"Errors beside {reference}'s. {told}", rows=2, height=7)


def _intervals(axes: Any, bars: Sequence[Check]) -> None:
    """The error's change in percent, and its interval; more is worse."""
    for i, check in enumerate(reversed(bars)):
        figures = check.figures
        sign = 1 if "worse" in figures else -1
        value = figures["worse"] if sign > 0 else -figures["gain"]
        ends = [100 * sign * figures[end] for end in ("low", "high")]
        colour = COLOURS[2] if check.passed else COLOURS[1]
        if all(isfinite(e) for e in ends):
            axes.plot(ends, [i, i], color=colour, linewidth=2)
        axes.plot([100 * value], [i], "o", color=colour)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(bars)), [c.name for c in reversed(bars)], fontsize=8)
    axes.set(title="change of the absolute error, %, with its interval; more is worse")


def _days(axes: Any, own: Any, other: Any, reference: str) -> None:
    at = np.arange(len(own))
    axes.bar(at - 0.2, own, 0.4, color=COLOURS[0], label=CHALLENGER)
    axes.bar(at + 0.2, other, 0.4, color=GREY, label=reference)
    axes.set(title="absolute errors of each day, bikes", xlabel="day of the window")
    axes.legend(ncols=2, fontsize=8)
