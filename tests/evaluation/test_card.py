"""What a model's card tells, and that every word of it rests on a figure."""

import dataclasses
from datetime import UTC, datetime
from html.parser import HTMLParser

from bikecast.evaluation.card import Card, skill, weak_spots
from bikecast.evaluation.report.card import card_html
from bikecast.records import ModelVersion, Promotion

AT = datetime(2026, 11, 2, 3, 4, tzinfo=UTC)
SCORES = {
    "xgboost": {"mae": 1.0, "rmse": 2.0, "net_flow_mae": 9.0, "coverage_80": 0.8},
    "naive": {"mae": 2.0, "rmse": 4.0, "net_flow_mae": 12.0, "coverage_80": 0.7},
    "glm": {"mae": 1.5, "rmse": 3.0},
    "champion": {"mae": 1.1, "rmse": 1.9},
}
VERSION = ModelVersion(
    "7", "xgboost", "run-id", "city", ("production",), "2026-11-01", "hash-of-data", SCORES
)


def slice_of(of, part, own, naive, champion):
    """A part of the hours by three MAEs."""
    scores = {"xgboost": own, "naive": naive, "champion": champion}
    return {
        "of": of,
        "part": part,
        "scores": {
            name: {"n": 1_000, "mae": mae, "rmse": mae, "bias": 0.1, "coverage_80": 0.8}
            for name, mae in scores.items()
        },
    }


CELL = {"group": "hour of the day", "part": "0–5", "level": 0.9, "below": 0.8, "up_to": 0.82}
DETAIL = {
    "slices": [
        slice_of("target", "pickups", 1.0, 2.0, 1.2),
        slice_of("hours of the day", "0–5", 1.1, 1.0, 1.0),
        slice_of("day", "weekend", 1.0, 1.1, 1.2),
        slice_of("day", "Monday to Friday", 1.0, 1.5, 1.2),
    ],
    "stations": {
        "n": 40,
        "worse_than_naive": 2,
        "worst": [{"station_id": "A.<b>", "mae": 3.0, "naive": 2.5}],
    },
    "calibration": {"calibrated": False, "largest_miss": 0.04, "worst": [CELL | {"miss": 0.04}]},
}
GATE = {
    "outcome": "inconclusive",
    "checks": [
        {"name": "rain", "outcome": "inconclusive", "detail": "too few hours"},
        {"name": "night", "outcome": "promote", "detail": "fine"},
    ],
}
FULL = Card(
    VERSION,
    AT,
    "2025-01-01",
    "2026-11-01",
    "0123456789abcdef",
    {"trees": "500", "note": "<script>alert(1)</script>"},
    {"weather": ["temperature", "humidity"]},
    DETAIL,
    GATE,
    (Promotion(AT, "promote", "6", "7", "ann@laptop", "winter & snow", "city"),),
)


def test_the_weak_spots_are_those_of_the_figures():
    """Parts with the least gain, stations, quantiles, scores above others', checks not passed."""
    assert weak_spots(FULL) == [
        "least gained over naive: hours of the day 0–5, -10.0% of its MAE",
        "least gained over naive: day weekend, +9.1% of its MAE",
        "least gained over naive: day Monday to Friday, +33.3% of its MAE",
        "worse than naive at 2 of 40 stations, most at A.<b>: MAE 3.00 against 2.50",
        "quantiles not calibrated: that of 90% for hour of the day 0–5 misses by 4.0 points "
        "beyond the tolerance",
        "rmse above champion's: 2 against 1.9",
        "the gate on rain: inconclusive, too few hours",
    ]


def test_where_nothing_was_recorded_nothing_is_made_up():
    """An older release left neither parts nor a gate's answer."""
    bare = Card(dataclasses.replace(VERSION, scores={}))
    assert weak_spots(bare) == []
    page = card_html(bare)
    for words in ("Not validated.", "Not recorded at its training.", "None were kept."):
        assert words in page
    assert "Never, as far as is written down." in page and "None that its figures show." in page


def test_a_good_model_has_fewer():
    """No station worse, calibrated, every check passed."""
    detail = {
        "slices": DETAIL["slices"][:1],
        "stations": {"n": 40, "worse_than_naive": 0, "worst": []},
        "calibration": {"calibrated": True, "largest_miss": 0.0, "worst": []},
    }
    scores = {name: SCORES[name] for name in ("xgboost", "naive")}
    card = Card(dataclasses.replace(VERSION, scores=scores), detail=detail)
    assert weak_spots(card) == ["least gained over naive: target pickups, +50.0% of its MAE"]
    assert "Calibrated, overall and in every group." in card_html(card)


def test_naive_itself_is_not_held_against_itself():
    """Where naive is registered it is its own yardstick."""
    version = dataclasses.replace(VERSION, model="naive", scores={"naive": SCORES["naive"]})
    part = {"of": "target", "part": "pickups", "scores": {"naive": {"mae": 1.0}}}
    assert weak_spots(Card(version, detail={"slices": [part]})) == []


def test_a_skill_needs_both_errors():
    """A share of nothing is none."""
    assert skill({"mae": 1.0}, {"mae": 2.0}) == 0.5
    assert skill({}, {"mae": 2.0}) is skill({"mae": 1.0}, {}) is skill({}, {"mae": 0.0}) is None


class Page(HTMLParser):
    """Its words, and what it would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.words, self.loads, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        """Any tag."""
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data):
        """Text."""
        self.words.append(data)


def test_the_page_tells_all_of_it_and_needs_nothing_else():
    """Names from data are text, whatever they hold."""
    page = Page()
    page.feed(card_html(FULL))
    words = " ".join(page.words)
    for told in (
        *("Version 7 of city: xgboost", "production", "2026-11-02 03:04 UTC", "2025-01-01"),
        *("hash-of-data", "0123456789abcdef", "run-id", "temperature, humidity", "500"),
        *("ann@laptop", "winter & snow", "too few hours", "hours of the day: 0–5", "A.<b>"),
        *("+50.0%", "4.0", "Its outcome: inconclusive."),
    ):
        assert told in words, told
    assert "glm" not in words, "its scores are beside naive's and the champion's"
    assert page.loads == [] and "script" not in page.tags and "url(" not in card_html(FULL)
