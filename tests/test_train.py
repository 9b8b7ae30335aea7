"""Which entry of MODELS a training fits on everything."""

from dataclasses import replace

import numpy as np
import planted
import pytest

from bikecast.evaluation.gate import Rule, judge, overall
from bikecast.history import WeatherArchive
from bikecast.models.naive import SeasonalNaive, WeeklyMean
from bikecast.records import WEATHER, ModelVersion
from bikecast.train import chosen, gate_window, gathered, tried

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


class RuinousUnderSky(planted.Truth):
    """Right where it knows no weather; three times too much where it does."""

    def predict(self, history, origins, horizon):
        """With what is known of the weather at each origin."""
        found = super().predict(history, origins, horizon)
        if history.weather is None:
            return found
        for i, origin in enumerate(origins.tolist()):
            sky = history.weather.at(origin, origin + np.arange(horizon))
            found.mean[i][~np.isnan(sky).any(axis=1)] *= 3
        return self.around(found.mean, origins[:, None] + np.arange(horizon), history)


@pytest.mark.parametrize(
    ("forecast", "outcome"),
    [
        # Observations of hours that were to come nobody knew then.
        (False, "promote"),
        (True, "reject"),
    ],
)
def test_a_model_is_judged_with_the_weather_that_was_forecast(forecast, outcome, monkeypatch):
    """As it is served: with the forecasts that were stored then; without any, without weather."""
    models = {"naive": SeasonalNaive, "mean4w": WeeklyMean, "planted": RuinousUnderSky}
    monkeypatch.setattr("bikecast.train.MODELS", models)
    history = planted.city()
    known = np.full((history.known + 192, len(WEATHER)), 12, np.float32)
    window = gate_window(history)
    day = history.index(window[0])
    vintages = ((0, known), *(((day, known),) if forecast else ()))
    history = replace(history, weather=WeatherArchive(vintages, hindsight=True))
    trials = tried(history, models, window, 1_000, "", lambda *_: None)
    evidence = gathered(history, trials, "planted", window, None)
    assert overall(judge(evidence, "", Rule())) == outcome
    assert evidence.rows["rain"].null_count() == 0
