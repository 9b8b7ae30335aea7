"""What the gate answers: check by check, and on the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Outcome = Literal["promote", "reject", "inconclusive"]
MARKS: Final[dict[Outcome, str]] = {"promote": "✓", "reject": "✗", "inconclusive": "?"}


@dataclass(frozen=True)
class Check:
    """One question of the gate.

    :param outcome: ``promote`` where nothing speaks against it, ``inconclusive`` where what there
        is cannot tell; that never passes.
    :param figures: what the answer rests on.
    """

    name: str
    outcome: Outcome
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.outcome == "promote"


@dataclass(frozen=True)
class Rule:
    """What is asked of a challenger.

    :param strict: better than the champion beyond doubt; otherwise no worse, with newer data,
        will do, too.
    :param rmse_limit: bikes per station-hour that the RMSE must not exceed.
    """

    strict: bool = False
    rmse_limit: float | None = None


def overall(checks: Sequence[Check]) -> Outcome:
    """One no is a no; without one, what cannot be told keeps the whole open."""
    if any(c.outcome == "reject" for c in checks):
        return "reject"
    return "promote" if checks and all(c.passed for c in checks) else "inconclusive"


def at_most(name: str, value: float, bound: float) -> Check:
    """A plain limit; what is not a number is above each."""
    outcome: Outcome = "promote" if value <= bound else "reject"
    return Check(
        name, outcome, f"{value:.4g} against {bound:.4g}", {"value": value, "limit": bound}
    )
