"""The gate reads evidence and nothing else; what is missing never passes."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from evidence import START, made_evidence, made_rows

from bikecast.evaluation.gate import Rule, beats_naive, judge, overall
from bikecast.evaluation.gate.checks import Check

STRICT = Rule(strict=True)


def failed(checks, outcome="reject"):
    """The names of the checks that say so."""
    return [c.name for c in checks if c.outcome == outcome]


def verdict(evidence, champion="", rule=Rule()):
    """The whole, and what does not pass."""
    checks = judge(evidence, champion, rule)
    return overall(checks), [c.name for c in checks if not c.passed]


def test_one_no_is_a_no_and_what_is_open_does_not_pass():
    """Nothing at all is no promotion either."""
    yes, no, open_ = (Check("", o, "") for o in ("promote", "reject", "inconclusive"))
    assert overall([yes, yes]) == "promote"
    assert overall([yes, open_]) == "inconclusive" == overall([])
    assert overall([yes, open_, no]) == "reject"


def test_the_first_version_is_held_against_naive():
    """Better than that beyond doubt, and it passes; naive's kind of errors do not."""
    assert verdict(made_evidence()) == ("promote", [])
    assert beats_naive(made_evidence())
    for own in (2.0, 3.0):
        worse = made_evidence(rows=made_rows(own=own))
        assert not beats_naive(worse)
        found, names = verdict(worse)
        assert found != "promote" and "errs less than naive" in names


def test_naive_itself_passes_where_nothing_is_better():
    """It need not be better than itself, nor its net flow as good as the four-week mean's."""
    rows = made_rows(own=2.0).with_columns(challenger=pl.col("naive"))
    scores = {r: {"mae": 2.0, "rmse": 2.4, "net_flow_mae": 9.0} for r in ("challenger", "naive")}
    scores["mean4w"] = {"mae": 1.9, "rmse": 2.2, "net_flow_mae": 5.0}
    assert verdict(made_evidence("naive", rows=rows, scores=scores)) == ("promote", [])
    found, names = verdict(made_evidence("glm", rows=made_rows(), scores=scores))
    assert (found, names) == ("reject", ["net flow no worse than mean4w's"])


def test_no_worse_with_newer_data_passes_by_default_and_not_in_strict_mode():
    """A champion's equal is no gain."""
    equal = made_rows().with_columns(challenger=pl.col("champion"))
    evidence = made_evidence(champion="1", rows=equal)
    assert verdict(evidence, "1") == ("promote", [])
    assert verdict(evidence, "1", STRICT)[0] == "reject"
    better = made_evidence(champion="1", rows=made_rows(champion=1.5))
    assert verdict(better, "1", STRICT) == ("promote", [])
    worse = made_evidence(champion="1", rows=made_rows(own=1.5))
    assert verdict(worse, "1")[0] == "reject"


@pytest.mark.parametrize(
    ("until", "answers", "outcomes"),
    [
        ("2018-05-22T00:00:00", True, ("reject", "promote")),
        ("2018-05-22T00:00:00", False, ("promote", "promote")),
        ("2018-05-21T00:00:00", False, ("reject", "reject")),
        ("", True, ("inconclusive", "inconclusive")),
    ],
)
def test_no_worse_needs_newer_data_and_better_no_older_ones(until, answers, outcomes):
    """The same data will do where this release cannot ask the champion; unknown ends never do."""
    equal = made_rows().with_columns(challenger=pl.col("champion"))
    facts = {"champion": "1", "data_until": until, "champion_answers": answers}
    better = made_evidence(rows=made_rows(champion=1.5), **facts)
    found = verdict(made_evidence(rows=equal, **facts), "1")[0], verdict(better, "1", STRICT)[0]
    assert found == outcomes
    # What the strict rule lets pass passes by default.
    assert verdict(better, "1")[0] == outcomes[1]


def test_what_is_missing_never_passes():
    """Evidence, the champion in it, the look for leaks, days, a score: each leaves it open."""
    assert verdict(None) == ("inconclusive", ["evidence"])
    other = made_evidence(champion="1")
    assert verdict(other, "2") == ("inconclusive", ["compared with the champion"])
    assert verdict(made_evidence(), "2")[0] == "inconclusive"
    none = made_rows().with_columns(champion=pl.lit(None, pl.Float32))
    assert verdict(made_evidence(champion="1", rows=none), "1")[0] == "inconclusive"
    part = made_rows().with_columns(
        champion=pl.when(pl.col("station_id") != "a").then(pl.col("champion"))
    )
    found, names = verdict(made_evidence(champion="1", rows=part), "1")
    assert found == "inconclusive" and len(names) == 1
    assert verdict(made_evidence(leak=None)) == ("inconclusive", ["forecasts do not look ahead"])
    few = made_evidence(rows=made_rows(days=6))
    assert verdict(few) == ("inconclusive", ["errs less than naive"])
    scores = made_evidence().facts.scores | {"mean4w": {"rmse": 3.0}}
    assert verdict(made_evidence(scores=scores))[0] == "inconclusive"


def test_the_version_in_production_is_held_against_naive():
    """What it was compared with at its training does not matter then."""
    assert verdict(made_evidence(champion="1")) == ("promote", [])


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, None])
@pytest.mark.parametrize("column", ["challenger", "q95"])
def test_a_forecast_that_is_no_number_is_refused_with_its_station(column, value):
    """One hour of one station is enough."""
    rows = made_rows().with_row_index()
    bad = pl.when(pl.col("index") == len(rows) - 1).then(pl.lit(value, pl.Float64))
    rows = rows.with_columns(bad.otherwise(pl.col(column)).alias(column)).drop("index")
    checks = judge(made_evidence(rows=rows), "", Rule())
    [check] = [c for c in checks if c.name == "a number for every station and hour"]
    assert check.outcome == "reject" and check.figures["stations"] == ["c"]
    assert check.figures["bad"] == 1


def test_crossing_quantiles_and_wrong_intervals_are_refused():
    """Too narrow, and too wide."""
    crossing = made_rows().with_columns(q75=pl.col("q25") - 1)
    assert failed(judge(made_evidence(rows=crossing), "", Rule())) == ["quantiles in order"]
    for deviation in (0.5, 3.0):
        levels = made_rows(own=deviation).select("q05", "q10", "q25", "q50", "q75", "q90", "q95")
        rows = made_rows().with_columns(levels)
        assert failed(judge(made_evidence(rows=rows), "", Rule())) == ["interval coverage"]


def worse_where(part, factor=2.0):
    """Rows of a challenger that is better but where it is ruinous."""
    rows = made_rows(champion=1.3)
    error = pl.col("challenger") + factor * (pl.col("champion") - 20).abs() + 2 * factor
    return rows.with_columns(
        pl.when(part).then(error).otherwise(pl.col("challenger")).alias("challenger")
    )


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (pl.col("hour").dt.hour() < 6, "no worse: 0–5 h"),
        (pl.col("hour").dt.weekday() >= 6, "no worse: weekends"),
        (pl.col("station_id") == "b", "no worse: middling stations"),
    ],
)
def test_a_ruined_slice_is_found(part, name):
    """Whoever pays for the gain is named."""
    checks = judge(made_evidence(champion="1", rows=worse_where(part)), "1", Rule())
    assert name in failed(checks)


@pytest.mark.parametrize(("factor", "outcome"), [(0.4, "promote"), (2.0, "inconclusive")])
def test_few_days_refuse_nobody(factor, outcome):
    """A short history has one weekend in its window; where that is ruinous it cannot be told."""
    rows = worse_where(pl.col("hour").dt.weekday() >= 6, factor)
    rows = rows.filter(pl.col("hour") < START + timedelta(days=9))
    checks = judge(made_evidence(champion="1", rows=rows), "1", Rule())
    [check] = [c for c in checks if c.name == "no worse: weekends"]
    assert check.figures["days"] == 2 and check.figures["worse"] > 0.1
    assert check.outcome == outcome and "2 days are too few to be sure" in check.detail


def test_rain_and_new_stations_are_slices_where_they_are_known():
    """Without rain there is no such slice, and nothing against the version."""
    names = {c.name for c in judge(made_evidence(), "", Rule())}
    assert not {"no worse: hours with rain", "no worse: new stations"} & names
    wet = pl.col("hour").dt.day() % 3 == 0
    rows = worse_where(wet).with_columns(rain=pl.when(wet).then(1.0).otherwise(0.0))
    new = made_evidence().facts.first_hours | {"c": (START - timedelta(days=20)).isoformat()}
    evidence = made_evidence(champion="1", rows=rows, first_hours=new)
    checks = {c.name: c.outcome for c in judge(evidence, "1", Rule())}
    assert checks["no worse: hours with rain"] == "reject"
    assert checks["no worse: dry hours"] == "promote"
    assert "no worse: new stations" in checks


def test_a_slice_of_few_bikes_is_judged_by_squares_too():
    """The median of few bikes is none: an honest mean errs more, and its squares less."""
    rng = np.random.default_rng(2)
    rows = made_rows(champion=1.0)
    night = pl.col("hour").dt.hour() < 6
    few = pl.Series(rng.poisson(0.05, len(rows)).astype(float))
    rows = rows.with_columns(
        actual=pl.when(night).then(few).otherwise(pl.col("actual")),
        champion=pl.when(night).then(0.0).otherwise(pl.col("champion")),
        challenger=pl.when(night).then(0.05).otherwise(pl.col("challenger")),
    )
    checks = judge(made_evidence(champion="1", rows=rows), "1", Rule())
    [check] = [c for c in checks if c.name == "no worse: 0–5 h"]
    assert check.figures["worse"] > 0.5 and check.figures["worse_squared"] < 0
    assert check.outcome == "promote"


def test_scores_are_plain_limits():
    """RMSE, net flow and failing trips beside the champion's, and an RMSE of one's own choice."""
    good = {"mae": 1.0, "rmse": 1.2, "net_flow_mae": 5.0, "failed_trips": 400.0}
    theirs = made_evidence().facts.scores | {"champion": good}

    def no(**own):
        scores = theirs | {"challenger": good | own}
        rows = made_rows(champion=1.2)
        evidence = made_evidence(champion="1", rows=rows, scores=scores)
        return failed(judge(evidence, "1", Rule(rmse_limit=3.0)))

    assert no() == []
    assert no(rmse=2.0) == ["rmse no worse than champion's"]
    assert no(rmse=np.nan)[-1] == "rmse within the limit"
    assert no(rmse=3.1)[-1] == "rmse within the limit"
    assert no(net_flow_mae=5.2) == [] != no(net_flow_mae=5.3)
    # 5 % and two standard errors of a count of 400.
    assert no(failed_trips=459.0) == [] != no(failed_trips=461.0)


def test_odd_data_leave_it_open():
    """Half of the rides, or busy stations gone silent: people have to look first."""
    half = [1000.0] * 8 + [400.0, 400.0]
    assert verdict(made_evidence(weekly_rides=half)) == ("inconclusive", ["as many rides as usual"])
    assert verdict(made_evidence(weekly_rides=[1.0] * 3))[0] == "inconclusive"
    silent = made_evidence(vanished=["a"], vanished_share=0.21)
    assert verdict(silent) == ("inconclusive", ["stations still there"])
    assert verdict(made_evidence(vanished=["a", "b"], vanished_share=0.19))[0] == "promote"
    assert verdict(made_evidence(stations=0))[0] == "inconclusive"


@pytest.mark.parametrize(
    ("before", "days", "names"),
    [
        (0.0, 0, []),
        (1.0, 28, []),
        # What archives are behind, and what they are not.
        (1.0, 21, []),
        (1.0, 10, ["rain known as usual"]),
        (1.0, 0, ["rain known as usual"]),
        (0.2, 0, ["rain known as usual"]),
        (0.2, 5, []),
    ],
)
def test_rain_that_is_known_no_more_leaves_it_open(before, days, names):
    """Nobody could say who errs in it; a city without any weather is another matter."""
    known = pl.col("hour") < START + timedelta(days=days)
    rows = made_rows().with_columns(rain=pl.when(known).then(0.0).cast(pl.Float32))
    found, failed_ = verdict(made_evidence(rows=rows, rain_before=before))
    assert (found, failed_) == ("inconclusive" if names else "promote", names)


def test_a_window_of_a_week_asks_for_no_rain():
    """All of it may be what archives are behind."""
    rows = made_rows().filter(pl.col("hour") < START + timedelta(days=7))
    checks = judge(made_evidence(rows=rows, days=7, rain_before=1.0), "", Rule())
    assert "rain known as usual" not in [c.name for c in checks]


def test_a_leak_is_refused_whatever_the_scores():
    """Also one that makes forecasts appear."""
    for change in (1e-4, np.inf):
        assert failed(judge(made_evidence(leak=change), "", Rule())) == [
            "forecasts do not look ahead"
        ]
