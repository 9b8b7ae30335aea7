"""The gate itself: evidence in, answers out."""

from collections.abc import Callable
from typing import Final

from bikecast.evaluation.gate.checks import Check, Outcome, Rule, at_most
from bikecast.evaluation.gate.comparison import LEAST_DAYS, Gain, daily_losses, gain
from bikecast.evaluation.gate.data import freshness, rain, volume
from bikecast.evaluation.gate.evidence import CHALLENGER, CHAMPION, NAIVE, WEEKLY, Evidence
from bikecast.evaluation.gate.leakage import leakage
from bikecast.evaluation.gate.slices import slices
from bikecast.evaluation.gate.soundness import soundness

MIN_EFFECT: Final = 0.005
"""Of the absolute error, in strict mode: half of what ``train --quick`` costs."""
TOLERANCE: Final = 0.02
"""Of the absolute error, by default. In seven windows (Jersey City 2020, New York before
2018-07-16) the better one of regression and trees could be told to lose no more than 1 % in three,
no more than 2 % in six."""
COMPARED: Final = 0.95
"""Share of the hours that the reference must have forecast too; it may not know the newest
stations, and on few hours one could be better by the choice of them."""
FLOW_SLACK: Final = 0.05
"""Share by which the net flow's error, and trips that fail, may exceed the reference's: what four
weeks of a small city cannot tell from chance. Of trips two standard errors of a count are let pass
as well, which in a small city is more."""


def judge(evidence: Evidence | None, champion: str, rule: Rule) -> tuple[Check, ...]:
    """Every check that the rule asks for.

    :param evidence: None where a training has left none.
    :param champion: the version that is in production now; empty for none, or where it is the very
        version that is judged. Then naive takes its place.
    """
    if evidence is None:
        return (Check("evidence", "inconclusive", "its training left none; train anew"),)
    if champion and champion != evidence.facts.champion:
        then = evidence.facts.champion
        compared = f"compared with version {then}" if then else "not compared with any version"
        detail = f"{compared}, and {champion} is in production now; train anew"
        return (Check("compared with the champion", "inconclusive", detail),)
    reference = CHAMPION if champion else NAIVE
    checks = [*soundness(evidence), leakage(evidence.facts.leak)]
    checks += _compared(evidence, reference, rule)
    checks += slices(evidence, reference)
    checks += _scores(evidence, reference, rule)
    if champion:
        surely = _gained(evidence, CHAMPION, better).passed
        checks.append(freshness(evidence.facts, newer=not (rule.strict or surely)))
    known = rain(evidence.facts, evidence.rows.select("hour", "rain"))
    return (*checks, *volume(evidence.facts), *known)


def beats_naive(evidence: Evidence) -> bool:
    """Whether a first model errs less than naive beyond doubt; else naive is the better one."""
    return _gained(evidence, NAIVE, any_gain).passed


def as_good(evidence: Evidence) -> bool:
    """Whether nothing of what was forecast speaks for the champion, by the default rule."""
    rule = Rule()
    checks = [*_compared(evidence, CHAMPION, rule), *slices(evidence, CHAMPION)]
    return all(c.passed for c in [*checks, *_scores(evidence, CHAMPION, rule)])


def _compared(evidence: Evidence, reference: str, rule: Rule) -> list[Check]:
    found = []
    if evidence.facts.model != NAIVE:
        found.append(_gained(evidence, NAIVE, any_gain))
    if reference == CHAMPION:
        found.append(_gained(evidence, CHAMPION, better if rule.strict else no_worse))
    return found


Reading = Callable[[Gain], tuple[Outcome, str]]


def _gained(evidence: Evidence, reference: str, read: Reading) -> Check:
    rows = evidence.rows
    found = gain(*daily_losses(rows, CHALLENGER, reference))
    outcome, asked = read(found)
    name = f"errs {asked} {reference}"
    there = int(rows[reference].is_finite().sum())
    if there < COMPARED * len(rows):
        detail = f"{reference} forecast {there:,} of the {len(rows):,} alone"
        return Check(name, "inconclusive", detail, {"days": found.days})
    if found.days < LEAST_DAYS:
        detail = f"compared on {found.days} days, {LEAST_DAYS} are needed"
        return Check(name, "inconclusive", detail, {"days": found.days})
    return Check(
        name,
        outcome,
        f"by {found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%}, {found.days} days)",
        {"gain": found.value, "low": found.low, "high": found.high, "days": found.days},
    )


def any_gain(found: Gain) -> tuple[Outcome, str]:
    """How a comparison with naive reads: less, beyond doubt."""
    outcome: Outcome = "promote" if found.low > 0 else "inconclusive"
    return "reject" if found.high <= 0 else outcome, "less than"


def better(found: Gain) -> tuple[Outcome, str]:
    """How the strict rule reads a comparison with the champion."""
    outcome: Outcome = "promote" if found.low > MIN_EFFECT else "inconclusive"
    asked = f"less, by {MIN_EFFECT:.1%} at least, than the"
    return "reject" if found.high <= MIN_EFFECT else outcome, asked


def no_worse(found: Gain) -> tuple[Outcome, str]:
    """How the default rule reads a comparison with the champion."""
    outcome: Outcome = "promote" if found.low >= -TOLERANCE else "inconclusive"
    if outcome != "promote" and found.high < 0:
        outcome = "reject"
    return outcome, f"no more, but for {TOLERANCE:.0%}, than the"


def _scores(evidence: Evidence, reference: str, rule: Rule) -> list[Check]:
    """Plain figures on the hours of the rows."""
    scores = evidence.facts.scores
    own = scores[CHALLENGER]
    checks = []
    for other in dict.fromkeys((NAIVE, reference)):
        slack = 1 + TOLERANCE if other == CHAMPION else 1.0
        checks.append(_beside("rmse", own, scores.get(other, {}), other, lambda r: slack * r))
    # Naive, where nothing is better, need not be as good as the mean of four weeks of it.
    flows = CHAMPION if reference == CHAMPION else WEEKLY
    if evidence.facts.model == NAIVE and reference == NAIVE:
        flows = NAIVE
    for score, bound in (("net_flow_mae", _flow_bound), ("failed_trips", _trips_bound)):
        theirs = scores.get(flows, {})
        # A city that counts its pickups alone has no net flow, nor one without capacities trips.
        if score in own or score in theirs:
            checks.append(_beside(score, own, theirs, flows, bound))
    if rule.rmse_limit is not None:
        checks.append(at_most("rmse within the limit", own["rmse"], rule.rmse_limit))
    return checks


NAMES: Final = {"rmse": "rmse", "net_flow_mae": "net flow", "failed_trips": "trips that fail"}


def _beside(
    score: str,
    own: dict[str, float],
    theirs: dict[str, float],
    other: str,
    bound: Callable[[float], float],
) -> Check:
    name = f"{NAMES[score]} no worse than {other}'s"
    if score not in own or score not in theirs:
        return Check(name, "inconclusive", "one of the two has no such score")
    return at_most(name, own[score], bound(theirs[score]))


def _flow_bound(theirs: float) -> float:
    return (1 + FLOW_SLACK) * theirs


def _trips_bound(theirs: float) -> float:
    return float((1 + FLOW_SLACK) * theirs + 2 * theirs**0.5)
