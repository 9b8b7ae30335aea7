"""What every entry of MODELS promises."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from made_up import mutated_after, small_history, with_weather

from bikecast.errors import InputError
from bikecast.features import NAMES
from bikecast.features.groups import GROUPS
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.models.counts import recent_actuals
from bikecast.models.frames import forecast_frame
from bikecast.models.portable import pack, unpack
from bikecast.records import QUANTILES, Station

HISTORY = small_history()
ORIGINS = np.array([50 * 24, 52 * 24 + 9, 55 * 24 + 23])
GRIDS = {1: Grid(1, 1), 24: Grid(24, 24), 168: Grid(168, 24)}


@pytest.fixture(scope="module", params=list(MODELS))
def name(request):
    """Each entry in turn."""
    return request.param


@pytest.fixture(scope="module")
def model(name):
    """A model that was fitted on the first 50 days, with weather, for the week ahead."""
    made = MODELS[name]()
    made.fit(with_weather(HISTORY).until(50 * 24), Grid(168, 24))
    return made


def test_the_name_is_the_key(name):
    """A model knows the name that it is entered under."""
    assert MODELS[name]().name == name


@pytest.mark.parametrize("horizon", [1, 24, 168])
def test_forecasts_are_whole_and_in_order(model, horizon):
    """Right shapes; finite and non-negative everywhere; quantiles that do not cross."""
    found = model.predict(HISTORY, ORIGINS, horizon)
    assert found.mean.shape == (3, horizon, 3, 2)
    assert found.quantiles.shape == (3, horizon, 3, 2, len(QUANTILES))
    assert found.mean.dtype == found.quantiles.dtype == np.float32
    for values in (found.mean, found.quantiles):
        assert np.isfinite(values).all() and (values >= 0).all()
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()


@pytest.mark.parametrize("horizon", [1, 24, 168])
@pytest.mark.parametrize("origin", ORIGINS)
def test_nothing_after_the_origin_matters(model, origin, horizon):
    """Flows from the origin on and weather issued later are changed; no forecast changes."""
    history = with_weather(HISTORY)
    before = model.predict(history, np.array([origin]), horizon)
    after = model.predict(mutated_after(history, origin), np.array([origin]), horizon)
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.quantiles, after.quantiles)


def test_company_of_other_origins_does_not_matter(model):
    """A forecast is the same whether its origin is asked alone or among others, in any order."""
    history = with_weather(HISTORY)
    # One before any weather and any ride of the second station, which both tell of later ones.
    origins = np.array([*ORIGINS[::-1], 9 * 24])
    together = model.predict(history, origins, 48).mean
    for i, origin in enumerate(origins):
        alone = model.predict(history, np.array([origin]), 48).mean[0]
        assert together[i] == pytest.approx(alone, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_two_fits_are_equal_and_survive_pickling(name, grid):
    """Fitting twice gives the same forecasts, and so does the model that was stored and loaded."""
    first, second = MODELS[name](), MODELS[name]()
    for made in (first, second):
        made.fit(HISTORY.until(40 * 24), grid)
    loaded = pickle.loads(pickle.dumps(second))
    wanted = first.predict(HISTORY, ORIGINS, grid.horizon)
    found = loaded.predict(HISTORY, ORIGINS, grid.horizon)
    assert np.array_equal(wanted.mean, found.mean)
    assert np.array_equal(wanted.quantiles, found.quantiles)


def test_the_end_of_the_data_is_an_origin(model):
    """The week behind the last known hour is forecast, as serving does."""
    found = model.predict(HISTORY, np.array([HISTORY.known]), 168)
    assert np.isfinite(found.mean).all()


def test_a_gap_leaves_something_to_learn(name):
    """Most of the last fifth is all there is: of that, too, some days are learned from."""
    flows = HISTORY.flows.copy()
    flows[:, 28 * 24 : 50 * 24] = np.nan
    made = MODELS[name]()
    made.fit(replace(HISTORY, flows=flows), Grid(24, 24, rows=3_000))
    assert np.isfinite(made.predict(HISTORY, np.array([HISTORY.known]), 24).mean).all()


def test_fitting_does_not_see_the_hours_to_be_forecast(name):
    """A fit on what was known equals a fit on the same with everything later changed."""
    known = 45 * 24 + 5
    fits = []
    for history in (HISTORY, mutated_after(HISTORY, known)):
        made = MODELS[name]()
        made.fit(history.until(known), Grid(24, 24))
        fits.append(made.predict(HISTORY, ORIGINS, 24).mean)
    assert np.array_equal(*fits)


def test_unseen_and_unknown_stations_are_forecast(model):
    """A station that the fit did not know, and one without a single hour, harm nobody."""
    history = replace(
        HISTORY,
        stations=(*HISTORY.stations, Station("new"), Station("empty")),
        flows=np.concatenate([HISTORY.flows, HISTORY.flows[:1], HISTORY.flows[:1] * np.nan]),
    )
    found = model.predict(history, ORIGINS, 24)
    assert np.isfinite(found.mean).all() and np.isfinite(found.quantiles).all()
    assert (found.mean[:, :, 4] > 0).any()


def test_a_station_without_hours_does_not_break_the_fit(name):
    """Training data with a station of which nothing is known gives a sound model."""
    flows = HISTORY.flows.copy()
    flows[2] = np.nan
    history = replace(HISTORY, flows=flows)
    made = MODELS[name]()
    made.fit(history.until(40 * 24), Grid(24, 24))
    assert np.isfinite(made.predict(history, ORIGINS, 24).mean).all()


@pytest.mark.parametrize("grid", [Grid(2, 1), Grid(24, 24)], ids=["short", "day"])
def test_pickups_are_forecast_as_well_without_returns(name, grid):
    """Where pickups alone are counted, half the rows of both are there to learn from, no more.

    On a city whose returns are drawn like its pickups those cost up to 3 %.
    """
    alone = replace(HISTORY, flows=np.where([True, False], HISTORY.flows, np.float32(np.nan)))
    at = np.arange(45 * 24, HISTORY.known - 24, grid.every)
    actual = recent_actuals(HISTORY, at, grid.horizon)[..., 0]
    errors = []
    for history in (alone, HISTORY):
        made = MODELS[name]()
        made.fit(history.until(45 * 24), grid)
        found = made.predict(history, at, grid.horizon)
        assert np.isfinite(found.mean).all() and np.isfinite(found.quantiles).all()
        errors.append(np.nanmean(np.abs(found.mean[..., 0] - actual)))
        frame = forecast_frame(found, history, at)
        assert set(frame["target"]) == {"pickups", *(["returns"] if history is HISTORY else [])}
    assert errors[0] <= 1.05 * errors[1]


def test_forecasts_are_near_the_truth(model):
    """On a city that repeats its week with Poisson noise, the error is near the noise."""
    days = np.arange(50, 54) * 24
    found = model.predict(HISTORY, days, 24).mean
    actual = HISTORY.flows.transpose(1, 0, 2)[days[:, None] + np.arange(24)]
    assert np.nanmean(np.abs(found - actual)) < 0.75 * np.nanmean(
        np.abs(np.nanmean(actual) - actual)
    )


def test_serves_with_and_without_weather(model):
    """What was trained with weather forecasts without it too, and nearly alike."""
    without = model.predict(HISTORY, ORIGINS, 24).mean
    having = model.predict(with_weather(HISTORY), ORIGINS, 24).mean
    assert np.isfinite(having).all()
    assert abs(having.mean() / without.mean() - 1) < 0.25


def test_too_short_a_history_is_refused_in_days(name):
    """The error says how many days there are and how many are needed."""
    with pytest.raises(InputError, match=r"needs (7|14) days of history, there are 5"):
        MODELS[name]().fit(HISTORY.until(5 * 24), Grid(24, 24))


def test_the_shortest_history_is_enough(name):
    """Two weeks are enough for every model."""
    made = MODELS[name]()
    made.fit(HISTORY.until(14 * 24), Grid(24, 24))
    assert np.isfinite(made.predict(HISTORY.until(14 * 24), np.array([14 * 24]), 168).mean).all()


def test_what_a_run_logs_is_plain(model):
    """Every model says its settings, as values that a registry can write down."""
    assert all(isinstance(v, (int, float, str, bool)) for v in model.params.values())


def test_intervals_cover_what_they_say(model):
    """Between q10 and q90 lies four fifths of what came, or more where counts are whole."""
    days = np.arange(50, 56) * 24
    found = model.predict(HISTORY, days, 24).quantiles
    actual = HISTORY.flows.transpose(1, 0, 2)[days[:, None] + np.arange(24)]
    known = np.isfinite(actual)
    covered = (found[..., 1] <= actual) & (actual <= found[..., 5])
    assert 0.75 < covered[known].mean() < 0.97


@pytest.mark.parametrize("history", [HISTORY, with_weather(HISTORY)], ids=["bare", "weather"])
def test_rows_that_were_kept_give_the_forecast(model, history):
    """Of every hour of a part of a day, which is not reconciled, also of a model taken back."""
    inputs = model.inputs(history, ORIGINS[1:2], 8)
    rows = inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()
    wanted = model.predict(history, ORIGINS[1:2], 8)
    for made in (model, unpack(pack(model))):
        found = made.forecasts(*rows)
        assert found.mean == pytest.approx(wanted.mean.ravel(), rel=1e-4)
        quantiles = wanted.quantiles.reshape(-1, len(QUANTILES))
        assert (found.quantiles != quantiles).mean() < 0.02
        assert np.abs(found.quantiles - quantiles).max() <= 1


@pytest.mark.parametrize("origin", [ORIGINS[1], HISTORY.known])
@pytest.mark.parametrize("ahead", [168, 400])
def test_the_second_week_is_forecast_from_what_was_known(model, origin, ahead):
    """Every hour of it, soundly; nothing after the origin matters, whatever weather is forecast."""
    history = with_weather(HISTORY, ahead)
    before, after = (
        model.inputs(h, np.array([origin]), 336) for h in (history, mutated_after(history, origin))
    )
    assert np.array_equal(before.values, after.values, equal_nan=True)
    assert np.array_equal(before.level, after.level)
    found = model.forecasts(before.values.reshape(-1, len(NAMES)), before.level.ravel())
    assert np.isfinite(found.mean).all() and (found.quantiles >= 0).all()
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()
    first, second = found.mean.reshape(2, -1)
    assert 0.6 < second.mean() / first.mean() < 1.6


@pytest.mark.parametrize("history", [HISTORY, with_weather(HISTORY)], ids=["bare", "weather"])
def test_an_explanation_takes_the_level_to_the_forecast(model, history):
    """The level times all factors is the mean, of every row that was kept of it."""
    inputs = model.inputs(history, ORIGINS[1:2], 8)
    values, level = inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()
    logs = model.explain(values, level)
    mean = model.predict(history, ORIGINS[1:2], 8).mean.ravel()
    assert logs.shape == (len(mean), len(GROUPS)) and logs.dtype == np.float32
    assert level * np.exp(logs.sum(axis=1)) == pytest.approx(mean, rel=1e-4)


def test_the_portable_form_is_the_whole_model(model):
    """Taken from it, a model explains as it did and forecasts the same, trees to six digits."""
    packed = pack(model)
    again, history = unpack(packed), with_weather(HISTORY)
    inputs = model.inputs(history, ORIGINS[1:2], 8)
    rows = inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()
    assert np.array_equal(again.explain(*rows), model.explain(*rows))
    wanted, found = (m.predict(history, ORIGINS[1:2], 8) for m in (model, again))
    assert found.mean == pytest.approx(wanted.mean, rel=1e-5)
    # A mean on the edge of those that count as one has the quantiles of either.
    other = found.quantiles != wanted.quantiles
    assert other.mean() < 0.01 and np.abs(found.quantiles - wanted.quantiles).max() <= 1
    assert type(again) is type(model) and pack(again) == packed
    assert packed == pack(pickle.loads(pickle.dumps(model)))
