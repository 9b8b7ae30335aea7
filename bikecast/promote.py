"""From challenger to production: a gate that reads scores, and a move."""

from dataclasses import dataclass

from bikecast.errors import Refused
from bikecast.production import Production
from bikecast.records import ModelVersion
from bikecast.registry import CHALLENGER, PRODUCTION, Registry

NAIVE = "naive"
WEEKLY = "mean4w"
NET_FLOW_SLACK = 0.05
"""Share by which the net flow's error may exceed the four-week mean's: what four weeks of a small
city cannot tell from chance."""


@dataclass(frozen=True)
class Check:
    """One question of the gate, in figures."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a version."""

    version: ModelVersion
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(c.passed for c in self.checks)


def validate(
    registry: Registry, which: str = CHALLENGER, rmse_limit: float | None = None
) -> Verdict:
    """Hold a version's scores against naive's and the champion's on the same recent hours.

    :param rmse_limit: bikes per station-hour that the RMSE must not exceed.
    """
    version = registry.get(which)
    return Verdict(version, judge(version, registry.find(PRODUCTION), rmse_limit))


def judge(
    version: ModelVersion, champion: ModelVersion | None, rmse_limit: float | None = None
) -> tuple[Check, ...]:
    """The gate itself: figures in, answers out."""
    scores = version.scores
    own = scores.get(version.model, {})
    missing = [e for e in (version.model, NAIVE) if "rmse" not in scores.get(e, {})]
    if missing:
        return (Check("scored", False, f"no scores of {', '.join(missing)} on the same hours"),)
    checks = [
        _at_most(f"{score} better than naive", own[score], scores[NAIVE][score], strict=True)
        for score in ("mae", "rmse")
    ]
    flows = [scores.get(e, {}).get("net_flow_mae") for e in (version.model, WEEKLY)]
    if flows[0] is not None and flows[1] is not None:
        # A lower error of either flow does not mean a lower one of their difference.
        most = (1 + NET_FLOW_SLACK) * flows[1]
        checks.append(_at_most("net flow no worse than mean4w", flows[0], most, strict=False))
    if champion is not None and champion.version != version.version:
        theirs = scores.get("champion")
        if theirs is None:
            checks.append(Check("champion", False, f"not compared with version {champion.version}"))
        else:
            checks += [
                _at_most(f"{s} no worse than the champion", own[s], theirs[s], strict=False)
                for s in ("mae", "rmse")
            ]
    if rmse_limit is not None:
        checks.append(_at_most("rmse within the limit", own["rmse"], rmse_limit, strict=False))
    return tuple(checks)


def _at_most(name: str, value: float, bound: float, *, strict: bool) -> Check:
    # A figure that is not a number passes nothing: both comparisons are false.
    passed = value < bound if strict else value <= bound
    return Check(name, passed, f"{value:.4f} against {bound:.4f}")


def promote(
    production: Production,
    which: str = CHALLENGER,
    rmse_limit: float | None = None,
    why: str = "",
) -> Verdict:
    """Put a version that passes the gate into production, and write down who did so and why.

    :param why: by default the gate's figures.
    :raises Refused: where it does not pass; :raises OtherRelease: where this release cannot ask
        it; :raises Unavailable, DiskFull: where its file cannot be had. Nothing is changed then.
    """
    registry = production.registry
    champion = registry.find(PRODUCTION)
    verdict = validate(registry, which, rmse_limit)
    if not verdict.passed:
        failed = "; ".join(f"{c.name}: {c.detail}" for c in verdict.checks if not c.passed)
        raise Refused(
            f"version {verdict.version.version} stays out of production: {failed}",
            hint="`bikecast model show` has all scores",
        )
    registry.load(verdict.version)
    why = why or "; ".join(f"{c.name}: {c.detail}" for c in verdict.checks)
    return Verdict(production.put(verdict.version, why, champion), verdict.checks)
