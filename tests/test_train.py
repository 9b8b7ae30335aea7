"""Which entry of MODELS a training fits on everything."""

import planted
import pytest

from bikecast.models.naive import SeasonalNaive, WeeklyMean
from bikecast.records import ModelVersion
from bikecast.train import chosen, gate_window, tried

CHAMPION = ModelVersion("1", "mean4w", "run", "made-up", trained_until="2018-04-20T00:00:00")


@pytest.mark.parametrize(
    ("model", "champion", "best"),
    [
        (planted.Truth, CHAMPION, "planted"),
        # It has the lower RMSE, and would be refused for its nights.
        (planted.RuinousAtNight, CHAMPION, "mean4w"),
        (planted.RuinousAtNight, None, "planted"),
    ],
)
def test_what_could_not_take_the_champions_place_is_not_fitted(model, champion, best, monkeypatch):
    """The champion's own recipe learns from the newer data instead."""
    models = {"naive": SeasonalNaive, "mean4w": WeeklyMean, "planted": model}
    monkeypatch.setattr("bikecast.train.MODELS", models)
    history = planted.city()
    window = gate_window(history)
    trials = tried(history, models, window, 1_000, "mean4w", lambda *_: None)
    assert trials["planted"].scores["rmse"] < trials["mean4w"].scores["rmse"]
    found, evidence = chosen(history, trials, window, champion)
    assert (found, evidence.facts.model) == (best, best)
