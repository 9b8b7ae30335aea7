"""A model's card: what is known of a version, and where it is weak, from its figures alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bikecast.records import ModelVersion, Promotion

NAIVE: Final = "naive"
CHAMPION: Final = "champion"
WEAKEST: Final = 3  # slices that are named


@dataclass(frozen=True)
class Card:
    """All that is known of a registered version.

    :param trained_at: when its training began, with time zone.
    :param features: word → names of what it learned from; empty where it learned from none.
    :param detail: as :func:`bikecast.evaluation.detail.detail` gives it; None where none was left.
    :param gate: ``outcome`` and ``checks`` of its last validation; None where there was none.
    :param moves: by which it came into production.
    """

    version: ModelVersion
    trained_at: datetime | None = None
    data_from: str = ""
    data_until: str = ""
    commit: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, list[str]] = field(default_factory=dict)
    detail: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    moves: tuple[Promotion, ...] = ()


def compared(card: Card) -> dict[str, dict[str, float]]:
    """Its scores, naive's and the champion's on the same hours, where each is known."""
    names = dict.fromkeys((card.version.model, NAIVE, CHAMPION))
    return {name: card.version.scores[name] for name in names if name in card.version.scores}


def skill(own: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """By how much the MAE is smaller than another's, as a share of it."""
    if not other.get("mae") or "mae" not in own:
        return None
    return 1 - own["mae"] / other["mae"]


def weak_spots(card: Card) -> list[str]:
    """Where it is weak, a sentence each; each of them follows from a figure of the card."""
    return [*_slices(card), *_stations(card), *_calibration(card), *_scores(card), *_checks(card)]


def _slices(card: Card) -> Iterator[str]:
    model = card.version.model
    found = []
    for part in (card.detail or {}).get("slices", ()):
        scores = part["scores"]
        value = skill(scores.get(model, {}), scores.get(NAIVE, {}))
        if value is not None and model != NAIVE:
            found.append((value, part["of"], part["part"]))
    for value, of, name in sorted(found)[:WEAKEST]:
        yield f"least gained over naive: {of} {name}, {value:+.1%} of its MAE"


def _stations(card: Card) -> Iterator[str]:
    found = (card.detail or {}).get("stations")
    if found and found["worse_than_naive"]:
        worst = found["worst"][0]
        yield (
            f"worse than naive at {found['worse_than_naive']} of {found['n']} stations, most at "
            f"{worst['station_id']}: MAE {worst['mae']:.2f} against {worst['naive']:.2f}"
        )


def _calibration(card: Card) -> Iterator[str]:
    found = (card.detail or {}).get("calibration")
    if found and found["worst"]:
        cell = found["worst"][0]
        yield (
            f"quantiles not calibrated: that of {cell['level']:.0%} for {cell['group']} "
            f"{cell['part']} misses by {100 * cell['miss']:.1f} points beyond the tolerance"
        )


def _scores(card: Card) -> Iterator[str]:
    entries = compared(card)
    own = entries.pop(card.version.model, {})
    for name, scores in entries.items():
        for score in ("mae", "rmse", "net_flow_mae", "failed_trips"):
            if score in own and score in scores and own[score] > scores[score]:
                yield f"{score} above {name}'s: {own[score]:.4g} against {scores[score]:.4g}"


def _checks(card: Card) -> Iterator[str]:
    for check in (card.gate or {}).get("checks", ()):
        if check.get("outcome") not in ("promote", None):
            yield f"the gate on {check['name']}: {check['outcome']}, {check['detail']}"
