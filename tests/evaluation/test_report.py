"""The page of a backtest: every section, pictures that say what they show, nothing from outside."""

import base64
import re
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from made_up import small_history, with_weather

from bikecast.evaluation import backtest, score_models
from bikecast.evaluation.report import report_html
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.records import Station

START, DAYS = datetime(2018, 3, 20), 8


def predicted(history, models, days=DAYS, horizon=24):
    """A backtest of these models."""
    frames = [
        backtest(
            history, MODELS[m], start=START, days=days, grid=Grid(horizon, 24), refit_days=28
        ).select(pl.lit(m).alias("model"), pl.all())
        for m in models
    ]
    return pl.concat(frames)


def page_of(history, models=("naive", "mean4w"), days=DAYS, horizon=24):
    """Its report."""
    rows = predicted(history, models, days, horizon)
    window = {"start": "2018-03-20", "days": days, "horizon": horizon, "every": "24h"}
    document = {"window": window, "models": score_models(rows, history)}
    return report_html(document, rows, history), document


@pytest.fixture(scope="module")
def city():
    """Two months of four stations, of which one has a name like a tag."""
    history = small_history(stations=4)
    names = ("Main St", "<b>$x$&", "Park", "")
    places = tuple(Station(s.station_id, n) for s, n in zip(history.stations, names, strict=True))
    return replace(history, stations=places)


@pytest.fixture(scope="module")
def page(city):
    """The report of two models."""
    return page_of(city)


def test_the_sections_come_in_order(page):
    """What was asked, from the scores to a week."""
    text, _ = page
    heads = re.findall("<h2>(.*?)</h2>", text)
    assert [re.sub(" (of|by) mean4w|of station .*, by mean4w", "", h).strip() for h in heads] == [
        "Scores",
        "By hours ahead",
        "By station",
        "Reliability of the intervals",
        "The worst days",
        "A week",
    ]


def test_nothing_comes_from_elsewhere(page):
    """No script, no link, no picture by address, also not from inside a picture."""
    text, _ = page
    assert not re.search(r"(src|href)=[\"'](?!data:)", text)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    for data in re.findall('data:image/svg[+]xml;base64,([^"]*)', text):
        drawing = base64.b64decode(data).decode()
        assert not re.search(r"(src|href)=[\"'](?!#)", drawing) and "<script" not in drawing


def test_every_picture_says_what_it_shows(page):
    """With figures, for those who do not see it."""
    text, _ = page
    pictures = re.findall("<img ([^>]*)>", text)
    assert len(pictures) == 5
    for said in (re.search('alt="([^"]*)"', p)[1] for p in pictures):
        assert len(said) > 40 and re.search(r"\d", said), said


def test_the_figures_are_those_of_the_scores(page):
    """Skill against both plain models, the verdict on the intervals, every station's error."""
    text, document = page
    for name, model in document["models"].items():
        assert f"<td>{name}</td><td>{model['overall']['mae']:.3f}</td>" in text
        for skill in ("skill", "skill_mean4w"):
            assert f"<td>{model['overall'][skill]:.1%}</td>" in text
        off = model["calibration"]["largest_miss"]
        assert (f"<td>no: {100 * off:.1f} off</td>" if off else "<td>yes</td>") in text
    hardest = max(document["models"]["mean4w"]["by_station_id"], key=lambda s: s["mae"])
    assert f"<td>{hardest['mae']:.2f}</td><td>{hardest['wape']:.1%}</td>" in text


def test_misses_are_marked_and_the_verdict_names_the_worst(page):
    """Each cell that misses is marked in the table, no other."""
    text, document = page
    found = document["models"]["mean4w"]["calibration"]
    assert text.count('class="miss"') == sum(c["miss"] > 0 for c in found["cells"])
    verdict = "are calibrated, overall" if found["calibrated"] else "points beyond the tolerance"
    assert verdict in text


def test_names_are_text(page):
    """A station called like a tag and a formula breaks neither page nor picture."""
    text, _ = page
    assert "&lt;b&gt;$x$&amp;" in text and "<b>" not in text


def test_the_same_backtest_gives_the_same_page(city, page):
    """Byte by byte, so that two pages can be compared."""
    assert page_of(city)[0] == page[0]


def test_one_model_and_one_target_are_enough(city):
    """Without naive there is no skill, without returns only pickups are shown."""
    flows = city.flows.copy()
    flows[..., 1] = np.nan
    text, _ = page_of(replace(city, flows=flows), models=("mean4w",), days=2, horizon=2)
    assert "better than naive" not in text and "returns" not in text
    assert len(re.findall("<img ", text)) == 5


def test_a_perfect_forecast_has_a_page_too(city):
    """No error, so no skill and no usual day; but intervals around it that were too wide."""
    flows = np.full_like(city.flows, 3)
    text, document = page_of(replace(city, flows=flows, known=flows.shape[1]))
    assert document["models"]["naive"]["overall"]["mae"] == 0
    assert "better than" not in text and "<td>–</td>" in text
    assert "are not calibrated" in text


def test_hindsight_is_said_at_the_top(city):
    """Weather that was observed stands for a forecast: no result."""
    assert "Hindsight" not in page_of(with_weather(city), days=1)[0]
    seen = with_weather(city)
    seen = replace(seen, weather=replace(seen.weather, hindsight=True))
    assert "Hindsight" in page_of(seen, days=1)[0]
