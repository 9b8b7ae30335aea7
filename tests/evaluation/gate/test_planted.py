"""Planted models: the gate's verdict on each is the one written down here beforehand."""

import planted
import pytest

from bikecast.evaluation.gate import Rule, judge, overall
from bikecast.models import MODELS
from bikecast.models.naive import WeeklyMean
from bikecast.records import ModelVersion
from bikecast.train import CHAMPION, gate_window, gathered, tried

# Model → verdict by default, verdict of the strict rule, and a check that has to say no.
VERDICTS = {
    planted.Leaky: ("reject", "reject", "forecasts do not look ahead"),
    planted.Constant: ("reject", "reject", "errs less than naive"),
    planted.Shuffled: ("reject", "reject", "errs less than naive"),
    planted.Equal: ("promote", "reject", ""),
    planted.Truth: ("promote", "promote", ""),
    planted.RuinousAtNight: ("reject", "reject", "no worse: 0–5 h"),
    planted.NoNumber: ("reject", "reject", "a number for every station and hour"),
}


@pytest.fixture(scope="module")
def evidence():
    """What a training leaves on every planted model, with mean4w as the champion."""
    history = planted.city()
    window = gate_window(history)
    makers = {name: MODELS[name] for name in ("naive", "mean4w")}
    makers |= {CHAMPION: WeeklyMean} | {p.__name__: p for p in VERDICTS}
    trials = tried(history, makers, window, 1_000, "", lambda *_: None)
    champion = ModelVersion("1", "mean4w", "run", "made-up", trained_until="2018-03-01T00:00:00")
    return {p: gathered(history, trials, p.__name__, window, champion) for p in VERDICTS}


@pytest.mark.parametrize("model", VERDICTS)
def test_the_verdict_is_the_one_written_down(evidence, model):
    """By default and in strict mode."""
    by_default, strict, says_no = VERDICTS[model]
    for rule, verdict in ((Rule(), by_default), (Rule(strict=True), strict)):
        checks = judge(evidence[model], "1", rule)
        assert overall(checks) == verdict, [c for c in checks if not c.passed]
        no = [c.name for c in checks if c.outcome == "reject"]
        assert not says_no or says_no in no


def test_a_ruinous_night_hides_behind_a_better_whole(evidence):
    """Nothing but its hours, and what they are part of, speaks against it."""
    checks = judge(evidence[planted.RuinousAtNight], "1", Rule(strict=True))
    no = {c.name for c in checks if not c.passed}
    assert no == {"no worse: 0–5 h"}
