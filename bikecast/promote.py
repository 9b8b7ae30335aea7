"""From challenger to production: what the gate says, and a move."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from bikecast.errors import BikecastError, OtherRelease, Refused
from bikecast.evaluation.gate import (
    NAIVE,
    Check,
    Evidence,
    Outcome,
    Rule,
    judge,
    loading,
    overall,
    report_html,
)
from bikecast.production import Production
from bikecast.records import ModelVersion, Promotion
from bikecast.registry import CHALLENGER, PRODUCTION, Registry

__all__ = ["Check", "Rule", "Verdict", "promote", "validate"]


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a version.

    :param against: the version that it was held against, or ``naive``.
    :param kept: the report stands with the version's training run.
    """

    version: ModelVersion
    checks: tuple[Check, ...]
    against: str = NAIVE
    rule: Rule = Rule()
    kept: bool = False

    @property
    def outcome(self) -> Outcome:
        """Promote, reject, or inconclusive, which does not pass either."""
        return overall(self.checks)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.outcome == "promote"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "outcome": self.outcome,
            "passed": self.passed,
            "version": self.version.version,
            "model": self.version.model,
            "against": self.against,
            "rule": "strict" if self.rule.strict else "not worse and newer",
            "checks": [
                {
                    "name": c.name,
                    "outcome": c.outcome,
                    "passed": c.passed,
                    "detail": c.detail,
                    "figures": {k: _plain(v) for k, v in c.figures.items()},
                }
                for c in self.checks
            ],
        }


def _plain(value: Any) -> Any:
    """As JSON can hold it, which knows no infinity."""
    return None if isinstance(value, float) and not isfinite(value) else value


def validate(
    registry: Registry,
    which: str = CHALLENGER,
    rule: Rule = Rule(),
    moves: Callable[[], Sequence[Promotion]] | None = None,
) -> Verdict:
    """Judge a version by what its training left, and by a real load of it.

    The report is kept with the version's run, where we may write there.

    :param moves: of production, for the version's card, which is renewed then.
    """
    version = registry.get(which)
    champion = registry.find(PRODUCTION)
    against = champion.version if champion and champion.version != version.version else ""
    evidence = registry.evidence(version)
    checks = judge(evidence, against, rule)
    # What is out already need not be loaded, which takes seconds.
    if overall(checks) != "reject":
        checks += _loaded(registry, version)
    verdict = Verdict(version, checks, against or NAIVE, rule)
    return replace(verdict, kept=_keep(registry, verdict, evidence, moves))


def _loaded(registry: Registry, version: ModelVersion) -> tuple[Check, ...]:
    try:
        return loading(registry.load_apart(version))
    except OtherRelease as error:
        # A registry that is gone, or files that cannot be had now, are no fault of the version's.
        with suppress(OtherRelease):
            registry.load(version)
        return (Check("forecasts where it is loaded alone", "reject", str(error)),)


def _keep(
    registry: Registry,
    verdict: Verdict,
    evidence: Evidence | None,
    moves: Callable[[], Sequence[Promotion]] | None,
) -> bool:
    document = verdict.document()
    try:
        registry.keep_answer(
            verdict.version, document, report_html(document, verdict.checks, evidence)
        )
    except BikecastError:
        # Whoever may only read is told the answer all the same.
        return False
    if moves is not None:
        # `bikecast model show` makes it anew at any time.
        with suppress(BikecastError):
            registry.keep_card(verdict.version, moves())
    return True


def promote(
    production: Production, which: str = CHALLENGER, rule: Rule = Rule(), why: str = ""
) -> Verdict:
    """Put a version that passes the gate into production, and write down who did so and why.

    Nothing is asked of the one that is there already.

    :param why: by default the gate's figures.
    :raises Refused: where it does not pass; :raises OtherRelease: where this release cannot ask
        it; :raises Unavailable, DiskFull: where its file cannot be had. Nothing is changed then.
    """
    registry = production.registry
    champion, version = registry.find(PRODUCTION), registry.get(which)
    if champion is not None and champion.version == version.version:
        # As where it is not known whether a promotion came through, and it is asked for once more.
        there = Check("in production", "promote", "it is there already")
        return Verdict(production.put(version, why, champion), (there,), kept=True)
    verdict = validate(registry, version.version, rule, production.moves)
    if not verdict.passed:
        failed = "; ".join(f"{c.name}: {c.detail}" for c in verdict.checks if not c.passed)
        raise Refused(
            f"version {verdict.version.version} stays out of production: {failed}",
            hint="`bikecast model validate` has every check",
        )
    registry.load(verdict.version)
    why = why or _reason(verdict)
    return replace(verdict, version=production.put(verdict.version, why, champion))


def _reason(verdict: Verdict) -> str:
    """The comparisons of a verdict that passes, in a line."""
    gains = [f"{c.name} {c.detail}" for c in verdict.checks if "gain" in c.figures]
    return "; ".join(gains) or "nothing errs less than naive"
