"""The page: its sections in order, the scores, and how it looks."""

from html import escape
from typing import Any, Final

import polars as pl

from bikecast.evaluation.report.days import days
from bikecast.evaluation.report.drawing import colours, table
from bikecast.evaluation.report.reliability import reliability
from bikecast.evaluation.report.skill import by_horizon, by_station
from bikecast.evaluation.report.week import busiest, week
from bikecast.history import History

# Score → (heading, how it is written).
COLUMNS: Final = {
    "mae": ("MAE", "{:.3f}"),
    "rmse": ("RMSE", "{:.3f}"),
    "wape": ("WAPE", "{:.1%}"),
    "mase": ("MASE", "{:.3f}"),
    "pinball": ("pinball", "{:.3f}"),
    "coverage_80": ("inside the 80 % interval", "{:.1%}"),
    "net_flow_mae": ("net flow per station-day, MAE", "{:.2f}"),
    "failed_trips": ("trips that fail", "{:,.0f}"),
    "skill": ("better than naive", "{:.1%}"),
    "skill_mean4w": ("better than mean4w", "{:.1%}"),
    "n": ("station-hours", "{:,}"),
}
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; background: #fff }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.6rem }
p { max-width: 46rem } .quiet { color: #5b6876 } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%;
  font-size: .9rem; margin: .6rem 0 }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #dfe5ec;
  vertical-align: top }
th { font-size: .82rem; color: #5b6876; vertical-align: bottom }
th:first-child, td:first-child { text-align: left } td { white-space: nowrap }
.words th:nth-child(n + 4), .words td:nth-child(n + 4) { text-align: left }
.words td:last-child { white-space: normal }
tr.best td { background: #e8f4ee; font-weight: 600 } .miss { color: #a3250f }
.warning { background: #fff4d6; padding: .6rem 1rem; border-radius: .4rem }
img { width: 100%; height: auto }
"""


def report_html(document: dict[str, Any], predictions: pl.DataFrame, history: History) -> str:
    """The page.

    :param document: ``window`` and ``models``, the latter as ``score_models`` gives them.
    :param predictions: the rows that were scored, models told apart by ``model``.
    """
    window, models = document["window"], document["models"]
    best = min(models, key=lambda name: models[name]["overall"]["mae"])
    own = predictions.filter(pl.col("model") == best)
    colour, station = colours(models)[best], busiest(own)
    title = f"Backtest of {window['days']} days from {window['start']}"
    sections = {
        "Scores": _scores(models, best),
        "By hours ahead": by_horizon(models),
        "By station": by_station(models, best, history),
        f"Reliability of the intervals of {best}": reliability(
            models[best]["calibration"], best, colour
        ),
        f"The worst days of {best}": days(own, history, colour),
        f"A week of station {_named(history, station)}, by {best}": week(
            own, history, station, colour
        ),
    }
    body = "\n".join(f"<h2>{escape(head)}</h2>\n{text}" for head, text in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"</head><body>\n<h1>{escape(title)}</h1>\n{_about(window, history)}\n{body}\n"
        "</body></html>\n"
    )


def _about(window: dict[str, Any], history: History) -> str:
    about = (
        f'<p class="quiet">{len(history.stations)} stations, up to {window["horizon"]} hours '
        f"ahead, an origin every {escape(window['every'])}; hours are local, "
        f"{escape(history.system.timezone)}.</p>"
    )
    if history.weather is None or not history.weather.hindsight:
        return about
    return about + (
        '<p class="warning">Hindsight: observed weather stood for a forecast. These scores are an '
        "upper bound, not a result.</p>"
    )


def _scores(models: dict[str, Any], best: str) -> str:
    shown = {c: v for c, v in COLUMNS.items() if any(c in m["overall"] for m in models.values())}
    heads = ["model", *(heading for heading, _ in shown.values()), "calibrated"]
    lines = []
    for name, model in models.items():
        scores = model["overall"]
        cells = [form.format(scores[c]) if c in scores else "–" for c, (_, form) in shown.items()]
        miss = model["calibration"]["largest_miss"]
        verdict = f"no: {100 * miss:.1f} off" if miss else "yes"
        lines.append([escape(name), *cells, verdict])
    return table(heads, lines, best=list(models).index(best)) + (
        '<p class="quiet">MAE, RMSE and pinball in bikes per station-hour. The line with the '
        "lowest MAE is marked. Where the quantiles are not calibrated, the largest miss beyond the "
        "tolerance is in points of a hundred.</p>"
    )


def _named(history: History, station_id: str) -> str:
    name = history.stations[history.position[station_id]].name
    return f"{station_id}, {name}" if name else station_id
