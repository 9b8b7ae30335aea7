"""What `bikecast predict` prints."""

import dataclasses
from datetime import datetime

import polars as pl
import pytest
from fakes import doubling, published, seen
from hypothesis import given
from hypothesis import strategies as st

from bikecast.cli.predict import _imagined, _print_reasons, _print_week, _print_what_if, _weather
from bikecast.errors import InputError
from bikecast.models.portable import unpack
from bikecast.records import WEATHER_BOUNDS
from bikecast.serve.table import build_table


def row(target, mean, level, **factors):
    """A forecast of one hour with its explanation."""
    found = [{"group": word.replace("_", " "), "factor": f} for word, f in factors.items()]
    hour = datetime(2018, 7, 16, 8)
    why = {"level": level, "factors": found}
    return {"hour": hour, "target": target, "mean": mean, "explanation": why}


def test_factors_stand_under_their_words(capsys):
    """In the order of the words; those that change nothing anywhere are left out."""
    rows = [
        row("pickups", 3.3, 2.0, weather=1.5, last_hours=1.1, station=1.001),
        row("returns", 3.0, 3.0, balance=1.0001),
    ]
    _print_reasons("A.10", True, rows)
    told = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert told[0] == "simulated data"
    assert told[2].split() == ["hour", "level", "last", "hours", "weather", "mean"]
    assert told[-2].split()[-5:] == ["pickups", "2.00", "×1.10", "×1.50", "3.30"]
    assert told[-1].split()[-5:] == ["returns", "3.00", "×1.00", "×1.00", "3.00"]


@given(
    st.lists(
        st.sampled_from([*WEATHER_BOUNDS, ""]).flatmap(
            lambda name: st.one_of(st.floats().map(str), st.text(max_size=6)).map(
                f"{name}={{}}".format
            )
        )
    )
)
def test_weather_is_what_can_be_or_an_error_that_says_so(words):
    """Whatever is written: nothing beyond the bounds, no variable twice, none that is not known."""
    try:
        found = _weather(words)
    except InputError as error:
        assert str(error).startswith("--weather ") and "; " in str(error)
    else:
        assert [f"{name}={value}" for name, value in found.items()] or not words
        assert len(found) == len(words)
        assert all(low <= found.get(name, low) <= high for name, (low, high) in BOUNDS)


BOUNDS = WEATHER_BOUNDS.items()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["temperature"], "'temperature'; write a number from -90 to 60"),
        (["temperature="], "'temperature='; write a number"),
        (["temperature=61"], "'temperature=61'; write a number from -90 to 60"),
        (["humidity=nan"], "'humidity=nan'; write a number from 0 to 100"),
        (["precipitation=1e400"], "write a number from 0 to 500"),
        (["temperature=5,precipitation=2"], "write a number from -90 to 60"),
        (["snow=1"], "'snow=1'; write NAME=VALUE, of temperature, precipitation, wind_speed"),
        (["humidity=1", "humidity=2"], "gives humidity twice; say it once"),
    ],
)
def test_weather_that_cannot_be_is_told(words, says):
    """With what was written, and what may be."""
    with pytest.raises(InputError, match="^--weather ") as caught:
        _weather(words)
    assert says in str(caught.value)


def imagined(frame, step=5, **weather):
    """What a model that doubles with each degree above 1 °C makes of the hour from 5 to 6."""
    made = published()
    table = build_table(dataclasses.replace(made, frame=frame))
    return _imagined(table, table.index["B"], step, unpack(doubling()), seen(made)["B"], weather)


def test_a_what_if_stands_beside_the_forecast(capsys):
    """Of the same hour; the weather is what was given, and what was known else."""
    rows, used = imagined(published().frame, temperature=2.0)
    assert [(row["target"], row["forecast"]["mean"], row["mean"]) for row in rows] == [
        ("pickups", 7, 14),
        ("returns", 7.5, 15),
    ]
    assert rows[0]["hour"] == datetime(2018, 7, 16, 5)
    assert rows[0]["q10"] < 14 < rows[0]["q90"] and rows[0]["forecast"]["q90"] == 14
    assert used["temperature"] == 2 and used["humidity"] == 0
    _print_what_if("B", True, rows, used | {"humidity": None})
    told = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert told[0] == "simulated data"
    assert told[1].strip() == "Station B, Mon 16 Jul 05:00"
    assert told[-3].split()[:4] == ["pickups", "7.0", "(4–14)", "14.0"]
    assert told[-1].startswith("That weather is temperature 2, precipitation 0")
    assert "humidity" not in told[-1]


@pytest.mark.parametrize("step", [5, 173])
def test_a_target_that_is_not_forecast_has_no_what_if(step):
    """Where returns are not counted; nor has it one in the second week."""
    frame = published().frame.filter(pl.col("target") == "pickups")
    rows, _ = imagined(frame, step, temperature=2.0)
    assert [row["target"] for row in rows] == ["pickups"]


def test_a_what_if_of_the_second_week_stands_beside_what_the_model_says():
    """As the table does not have that hour."""
    rows, _ = imagined(published().frame, 173, temperature=2.0)
    assert [(row["forecast"]["mean"], row["mean"]) for row in rows] == [(175, 350), (175.5, 351)]
    assert rows[0]["hour"] == datetime(2018, 7, 23, 5)


def test_hours_of_the_second_week_are_marked(capsys):
    """Below the table of both; where there are none, nothing is said."""
    rows = [row("pickups", 3.3, 2.0) | {"q10": 1.0, "q90": 6.0}]
    _print_week("B", False, rows)
    assert "second week" not in capsys.readouterr().out
    later = rows[0] | {"hour": datetime(2018, 7, 23), "second_week": True}
    _print_week("B", False, [*rows, later, later | {"target": "returns"}])
    told = capsys.readouterr().out
    assert "Mon 23 Jul 00:00 3.3 (1–6) 3.3 (1–6) From" in " ".join(told.split())
    assert "From Mon 23 Jul 00:00 on it is the second week" in told
