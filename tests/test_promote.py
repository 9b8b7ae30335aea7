"""The gate reads figures and nothing else."""

import math

import pytest

from bikecast.promote import judge
from bikecast.records import ModelVersion

NAIVE = {"mae": 2.0, "rmse": 4.0}


def version(number="2", model="xgboost", **scores):
    """A registered version with these scores."""
    return ModelVersion(number, model, "run", "city", scores=scores)


def failed(checks):
    """The names of the checks that said no."""
    return [c.name for c in checks if not c.passed]


def test_better_than_naive_passes():
    """The first version needs only to beat naive, in MAE and in RMSE."""
    checks = judge(version(xgboost={"mae": 1.5, "rmse": 3.0}, naive=NAIVE), None)
    assert len(checks) == 2
    assert failed(checks) == []


@pytest.mark.parametrize("figure", ["mae", "rmse"])
@pytest.mark.parametrize("value", [2.0, 99.0, math.nan, math.inf])
def test_no_better_than_naive_is_refused(figure, value):
    """Equal to naive, worse, or not a number: each is a no, in either score."""
    scores = {"mae": 1.5, "rmse": 3.0} | {figure: max(value, NAIVE[figure])}
    if math.isnan(value):
        scores[figure] = value
    checks = judge(version(xgboost=scores, naive=NAIVE), None)
    assert failed(checks) == [f"{figure} better than naive"]


@pytest.mark.parametrize(
    ("net_flow", "refused"), [(10.4, []), (10.6, ["net flow"]), (math.nan, ["net flow"])]
)
def test_a_worse_net_flow_than_the_weekly_means_is_refused(net_flow, refused):
    """Where stations run empty is told by the difference of both flows; 5 % are let pass."""
    own = {"mae": 1.5, "rmse": 3.0, "net_flow_mae": net_flow}
    weekly = {"mae": 1.9, "rmse": 3.9, "net_flow_mae": 10.0}
    checks = judge(version(xgboost=own, naive=NAIVE, mean4w=weekly), None)
    assert [name.removesuffix(" no worse than mean4w") for name in failed(checks)] == refused


def test_a_city_that_counts_only_pickups_has_no_net_flow():
    """What cannot be scored is not asked."""
    scores = {"xgboost": {"mae": 1.5, "rmse": 3.0}, "naive": NAIVE, "mean4w": NAIVE}
    assert len(judge(version(**scores), None)) == 2


def test_worse_than_the_champion_is_refused():
    """A challenger must not be worse than the champion on the same hours."""
    champion = version("1")
    scores = {"xgboost": {"mae": 1.5, "rmse": 3.0}, "naive": NAIVE}
    worse = judge(version(**scores, champion={"mae": 1.4, "rmse": 3.0}), champion)
    assert failed(worse) == ["mae no worse than the champion"]
    equal = judge(version(**scores, champion={"mae": 1.5, "rmse": 3.0}), champion)
    assert len(equal) == 4 and failed(equal) == []


def test_a_champion_that_was_not_compared_is_a_no():
    """Nobody is promoted over a champion that was not measured on the same hours."""
    checks = judge(version(xgboost={"mae": 1, "rmse": 1}, naive=NAIVE), version("1"))
    assert failed(checks) == ["champion"]


def test_the_champion_is_not_held_against_itself():
    """Validating the version in production asks only for naive."""
    same = version(xgboost={"mae": 1, "rmse": 1}, naive=NAIVE)
    assert failed(judge(same, same)) == []


def test_a_version_without_scores_is_refused():
    """Without scores there is nothing to judge, and the answer is no."""
    assert failed(judge(version(naive=NAIVE), None)) == ["scored"]
    assert failed(judge(version(xgboost={"mae": 1, "rmse": 1}), None)) == ["scored"]


def test_the_rmse_limit_is_a_bound_of_its_own():
    """An RMSE above the limit is refused though naive is beaten; at the limit it passes."""
    good = version(xgboost={"mae": 1.5, "rmse": 3.0}, naive=NAIVE)
    assert failed(judge(good, None, rmse_limit=2.9)) == ["rmse within the limit"]
    assert failed(judge(good, None, rmse_limit=3.0)) == []
