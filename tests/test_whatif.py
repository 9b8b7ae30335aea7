"""An hour's forecast with other weather, from what is stored beside a table."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import small_history, with_weather

from bikecast.errors import InputError, NotLearned
from bikecast.features import NAMES, features, pairs, sky_ahead
from bikecast.features.inputs import Inputs, inputs_of
from bikecast.features.inputs import pack as pack_inputs
from bikecast.features.inputs import unpack as unpack_inputs
from bikecast.history import WeatherArchive
from bikecast.models import MODELS, boosted, learned
from bikecast.models.base import Grid
from bikecast.models.portable import pack, unpack
from bikecast.records import WEATHER
from bikecast.whatif import asks_weather, second_week, seen, what_if

HISTORY = with_weather(small_history())
ORIGIN = HISTORY.known
STATION = 1


@pytest.fixture(scope="module", params=["ensemble", "ensemble after a year", "xgboost", "glm"])
def model(request):
    """Each kind that looks at the weather, with weather to learn from.

    After a year the networks of the ensemble know of which station a row is.
    """
    name, _, after_a_year = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosted, "ROUNDS", 60)
        if after_a_year:
            patch.setattr(learned, "YEAR_DAYS", 30)
        made = MODELS[name]()
        made.fit(HISTORY, Grid(168))
    # So that each hour's forecast is changed behind the model.
    made._fitted = {k: replace(fitted, shrunk=0.5) for k, fitted in made._fitted.items()}
    return made


def stored(model, history=HISTORY):
    """A model and its inputs as they come out of the database, and its forecast as it is shown."""
    origin = np.array([ORIGIN])
    inputs = inputs_of(
        *(model.inputs(history, origin, 168), NAMES, STATION, sky_ahead(history, ORIGIN, 168))
    )
    found = model.predict(history, origin, 168)
    restored = asks_weather(unpack(pack(model)))
    means = found.mean[0, :, STATION].astype(float).round(3)
    known = seen(restored, unpack_inputs(pack_inputs(inputs)), means)
    return restored, known, means, found.quantiles[0, :, STATION]


def lacking(unknown):
    """The history, in which nobody knows one variable of the coming week's weather."""
    if unknown is None:
        return HISTORY
    grid = HISTORY.weather.at(ORIGIN, np.arange(ORIGIN + 200))
    grid[ORIGIN:, WEATHER.index(unknown)] = np.nan
    return replace(HISTORY, weather=WeatherArchive(((0, grid),)))


@pytest.mark.parametrize("unknown", [None, "wind_speed", "cloud_cover", "humidity"])
def test_the_weather_of_the_table_gives_its_forecast(model, unknown):
    """Of every hour, reconciled as it was; the interval by a bike at most, where one is rounded.

    On working days and days off, and where one of the variables is not known.
    """
    restored, known, means, quantiles = stored(model, lacking(unknown))
    assert restored.sees_weather and (known.balance != 1).any()
    assert 0 < HISTORY.calendar(ORIGIN, ORIGIN + 168).workday.sum() < 168
    misses = 0
    for step in range(168):
        given = zip(WEATHER, known.sky.weather(step).tolist(), strict=True)
        own = {name: value for name, value in given if name != unknown}
        found, used = what_if(known, step, own)
        assert found.mean == pytest.approx(means[step], abs=1e-3)
        assert np.abs(found.quantiles - quantiles[step]).max() <= 1
        misses += (found.quantiles != quantiles[step]).sum()
        assert used == pytest.approx(own | ({unknown: None} if unknown else {}))
    assert misses < 0.01 * quantiles.size


@pytest.mark.parametrize("step", [0, 9, 40, 167])
def test_other_weather_gives_what_its_forecast_would_have_been(model, step):
    """As the model says itself, had that been forecast; reconciled as the table was."""
    restored, known, _, _ = stored(model)
    given = {"temperature": 27.0, "precipitation": 4.5}
    found, used = what_if(known, step, given)
    grid = HISTORY.weather.at(ORIGIN, np.arange(ORIGIN + 200))
    for name, value in given.items():
        grid[ORIGIN + step, WEATHER.index(name)] = value
    other = replace(HISTORY, weather=WeatherArchive(((0, grid),)))
    rows = model.inputs(other, np.array([ORIGIN]), 168)
    own = model.means(rows.values[step, STATION], rows.level[step, STATION])
    assert found.mean == pytest.approx(own * known.balance[step], rel=1e-4)
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()
    assert used == pytest.approx(
        dict(zip(WEATHER, known.sky.weather(step).tolist(), strict=True)) | given
    )


def test_what_was_seen_is_not_changed_by_a_question(model):
    """The next one is of the same hour as it was."""
    restored, known, _, _ = stored(model)
    first = what_if(known, 3, {"temperature": 5.0})[0].mean
    what_if(known, 3, {"temperature": 35.0, "precipitation": 10.0})
    assert np.array_equal(what_if(known, 3, {"temperature": 5.0})[0].mean, first)


def test_where_no_weather_was_known_all_that_is_needed_must_be_given(model):
    """A model would take the hour for one without weather, and ignore what is given."""
    restored, known, means, _ = stored(model, replace(HISTORY, weather=None))
    with pytest.raises(NotLearned, match="nothing is known of the precipitation of this hour"):
        what_if(known, 12, {"temperature": 20.0})
    with pytest.raises(NotLearned, match="temperature and the precipitation"):
        what_if(known, 12, {"humidity": 20.0})
    dry, wet = (
        what_if(known, 12, {"temperature": 20.0, "precipitation": rain}) for rain in (0.0, 12.0)
    )
    assert wet[1] == dict.fromkeys(WEATHER, None) | {"temperature": 20.0, "precipitation": 12.0}
    assert (wet[0].mean != dry[0].mean).all()


def test_hours_without_a_forecast_need_no_balance(model):
    """A target that is not counted, and the hour that spring skips."""
    restored, known, means, _ = stored(model)
    rows = model.inputs(HISTORY, np.array([ORIGIN]), 168)
    inputs = Inputs(NAMES, rows.values[:, STATION], rows.level[:, STATION], known.sky)
    lacking = seen(restored, inputs, np.full_like(means, np.nan))
    assert (lacking.balance == 1).all()


def far_ahead(model):
    """A model and two weeks of inputs as they come out of the database; all weather is forecast."""
    history = with_weather(small_history(), ahead=400)
    origin = np.array([ORIGIN])
    rows = model.inputs(history, origin, 336)
    inputs = inputs_of(rows, NAMES, STATION, sky_ahead(history, ORIGIN, 336))
    return unpack(pack(model)), unpack_inputs(pack_inputs(inputs))


def test_the_second_week_is_what_the_fitted_model_says(model):
    """Asked hour by hour of what was stored, to 1e-4."""
    restored, inputs = far_ahead(model)
    week = second_week(restored, inputs)
    rows = inputs.values[168:].reshape(-1, len(NAMES)), inputs.level[168:].ravel()
    wanted = model.forecasts(*rows)
    found = [week.at(step) for step in range(168, 336)]
    assert np.concatenate([f.mean for f in found]) == pytest.approx(wanted.mean, rel=1e-4)
    quantiles = np.concatenate([f.quantiles for f in found])
    assert (quantiles != wanted.quantiles).mean() < 0.01
    assert np.abs(quantiles - wanted.quantiles).max() <= 1


def test_a_what_if_of_the_second_week_with_its_own_weather_is_its_forecast(model):
    """With another one it is not; what is asked of the first week stays the same."""
    restored, inputs = far_ahead(model)
    nothing = np.full((168, 2), np.nan)
    behind = seen(restored, inputs, nothing, 168)
    week, first = second_week(restored, inputs), seen(restored, inputs, nothing)
    for step in range(168, 336, 7):
        own = dict(zip(WEATHER, inputs.sky.weather(step).tolist(), strict=True))
        found, used = what_if(behind, step, own)
        assert used == pytest.approx(own)
        assert found.mean == pytest.approx(week.at(step).mean, rel=1e-4)
        assert np.abs(found.quantiles - week.at(step).quantiles).max() <= 1
        other = what_if(behind, step, own | {"temperature": 45.0, "precipitation": 20.0})[0]
        assert (other.mean != found.mean).all()
    assert what_if(first, 3, {})[0].mean == pytest.approx(
        restored.forecasts(inputs.values[3], inputs.level[3]).mean, rel=1e-4
    )


def test_inputs_of_one_week_have_no_second_one(model):
    """Those of a release that kept no more; the way on is told."""
    restored, inputs = far_ahead(model)
    one = replace(inputs, values=inputs.values[:168], level=inputs.level[:168])
    with pytest.raises(InputError, match="kept what it saw of fewer hours; issue it anew"):
        second_week(restored, one)
    with pytest.raises(InputError, match="fewer hours"):
        seen(restored, one, np.full((168, 2), np.nan), 168)


@pytest.mark.parametrize("name", ["naive", "mean4w"])
def test_what_only_repeats_the_past_cannot_tell(name):
    """The error names the model, and the way on."""
    with pytest.raises(NotLearned, match=f"{name}, which does not look at the weather; leave"):
        asks_weather(MODELS[name]())


def test_a_model_that_learned_without_weather_cannot_tell():
    """It would ignore it."""
    made = MODELS["glm"]()
    made.fit(small_history(), Grid(24))
    with pytest.raises(NotLearned, match="glm, was trained without weather; leave"):
        asks_weather(unpack(pack(made)))


@pytest.mark.parametrize("harm", ["names", "sky"])
def test_inputs_of_another_release_are_refused(harm):
    """With other features, or from before the sky was kept."""
    values = features(HISTORY, *pairs(np.array([ORIGIN]), 2)).values[:, STATION]
    inputs = Inputs(NAMES, values, values[..., 0], sky_ahead(HISTORY, ORIGIN, 2))
    lacking = replace(inputs, **{harm: None if harm == "sky" else NAMES[::-1]})
    with pytest.raises(InputError, match="issue it anew"):
        seen(MODELS["glm"](), lacking, values[..., 0])


def test_what_is_kept_of_a_station_is_as_large_as_it_says(model):
    """Nothing larger is kept alive by it."""
    restored, known, _, _ = stored(model)
    week = second_week(*far_ahead(model))
    assert week.nbytes == week.values.nbytes + week.level.nbytes
    found = [*kept_arrays(known), week.values, week.level]
    arrays = [a for a in found if a.base is not None and a.base.size > a.size]
    assert not arrays and known.nbytes > 1_000


def kept_arrays(thing):
    """All arrays in dataclasses of dataclasses, but for what all stations share."""
    if isinstance(thing, np.ndarray):
        return [thing]
    if isinstance(thing, tuple):
        return [array for part in thing for array in kept_arrays(part)]
    shared = ("spread", "layers", "first", "plain", "by_day", "centre", "scale", "session")
    own = vars(thing).items() if hasattr(thing, "__dict__") else ()
    return [a for name, part in own if name not in shared for a in kept_arrays(part)]
