"""Where a model is good and where it is not: its scores by part of the hours, beside others'."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from bikecast.evaluation.calibration import calibration
from bikecast.evaluation.scores import scored_rows
from bikecast.history import History

WORST: Final = 5  # stations that are named
ENOUGH: Final = 1_000_000  # rows that tell the share below a quantile to a tenth of a point
_ERROR: Final = pl.col("mean") - pl.col("actual")
_SCORES: Final = (
    pl.len().alias("n"),
    _ERROR.abs().mean().alias("mae"),
    _ERROR.pow(2).mean().sqrt().alias("rmse"),
    _ERROR.mean().alias("bias"),
    pl.col("actual").is_between(pl.col("q10"), pl.col("q90")).mean().alias("coverage_80"),
)
_FIRST: Final = pl.col("hour").dt.hour() // 6 * 6
_SLICES: Final = {
    "target": pl.col("target"),
    "day ahead": ((pl.col("horizon") - 1) // 24 + 1).cast(pl.String),
    "hours of the day": pl.format("{}–{}", _FIRST, _FIRST + 5),
    "day": pl.when(pl.col("hour").dt.weekday() > 5)
    .then(pl.lit("weekend"))
    .otherwise(pl.lit("Monday to Friday")),
}


@dataclass(frozen=True)
class Parts:
    """One forecaster's scores by part of its hours.

    :param slices: what a part is of, and its name → score → value.
    :param stations: station → MAE.
    :param calibration: as :func:`bikecast.evaluation.calibration.calibration` gives it.
    """

    slices: dict[tuple[str, str], dict[str, float]]
    stations: dict[str, float]
    calibration: dict[str, Any]


def parts(predictions: pl.DataFrame, history: History) -> Parts:
    """The scores of one model's predictions by part of their hours that are known."""
    rows = scored_rows(predictions, history)
    slices = {
        (of, line.pop("part")): line
        for of, key in _SLICES.items()
        for line in rows.group_by(key.alias("part")).agg(_SCORES).iter_rows(named=True)
    }
    by_station = rows.group_by("station_id").agg(_ERROR.abs().mean())
    few = rows.gather_every(1 + len(rows) // ENOUGH)
    return Parts(slices, dict(by_station.iter_rows()), calibration(few))


def detail(found: Mapping[str, Parts], model: str) -> dict[str, Any]:
    """What a model's card tells beside its scores, small enough for a registry.

    :param found: entry → its parts, all of the same hours; ``model`` and ``naive`` at least.
    :returns: ``slices``, each with what it is ``of``, its ``part`` and the ``scores`` of every
        entry; ``stations``: how many there are, how many of them naive forecasts better, and the
        ``worst`` beside naive; the model's ``calibration``.
    """
    own = found[model]
    order = {of: i for i, of in enumerate(_SLICES)}
    keys = sorted(own.slices, key=lambda k: (order[k[0]], k[1].zfill(5)))
    slices = [
        {
            "of": k[0],
            "part": k[1],
            "scores": {n: p.slices[k] for n, p in found.items() if k in p.slices},
        }
        for k in keys
    ]
    shown = {k: own.calibration[k] for k in ("calibrated", "largest_miss", "worst")}
    stations = _stations(own.stations, found["naive"].stations)
    return {"slices": slices, "stations": stations, "calibration": shown}


def _stations(own: Mapping[str, float], naive: Mapping[str, float]) -> dict[str, Any]:
    both = sorted((naive[i] - own[i], i) for i in own if i in naive)
    worst = [{"station_id": i, "mae": own[i], "naive": naive[i]} for _, i in both[:WORST]]
    worse = sum(gain < 0 for gain, _ in both)
    return {"n": len(both), "worse_than_naive": worse, "worst": worst}
