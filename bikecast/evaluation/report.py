"""A backtest as one page of HTML that needs nothing beside it: scores, and pictures inside."""

import base64
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from bikecast.evaluation.scores import KEYS, actuals
from bikecast.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEEK = timedelta(days=7)
# Score → (heading, how it is written).
COLUMNS = {
    "mae": ("MAE", "{:.3f}"),
    "rmse": ("RMSE", "{:.3f}"),
    "wape": ("WAPE", "{:.1%}"),
    "mase": ("MASE", "{:.3f}"),
    "pinball": ("pinball", "{:.3f}"),
    "coverage_80": ("inside the 80 % interval", "{:.1%}"),
    "net_flow_mae": ("net flow per station-day, MAE", "{:.2f}"),
    "skill": ("better than naive", "{:.1%}"),
    "n": ("station-hours", "{:,}"),
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; background: #fff }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
p { max-width: 46rem } .quiet { color: #5b6876 } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid #dfe5ec }
th:first-child, td:first-child { text-align: left } th { font-size: .85rem; color: #5b6876 }
tr.best td { background: #e8f4ee; font-weight: 600 }
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
    station = _busiest(predictions)
    title = f"Backtest of {window['days']} days from {window['start']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{len(history.stations)} stations, up to {window["horizon"]} hours '
        f"ahead, an origin every {escape(window['every'])}; hours are local, "
        f"{escape(history.system.timezone)}.</p>",
        _warning(history),
        "<h2>Scores</h2>",
        _table(models, best),
        '<p class="quiet">MAE, RMSE and pinball in bikes per station-hour. The line with the '
        "lowest MAE is marked.</p>",
        "<h2>Error by hours ahead</h2>",
        _picture(lambda axes: _draw_horizons(axes, models), "MAE of each model by hours ahead"),
        f"<h2>A week of station {escape(station)}, by {escape(best)}</h2>",
        _picture(
            lambda axes: _draw_week(axes, predictions, history, best, station),
            "Pickups that came, beside their forecast and its 80 % interval",
        ),
        "<h2>Error by station</h2>",
        _picture(
            lambda axes: _draw_stations(axes, models), "MAE of each model, station by station"
        ),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"</head><body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _warning(history: History) -> str:
    if history.weather is None or not history.weather.hindsight:
        return ""
    return (
        '<p class="warning">Hindsight: observed weather stood for a forecast. These scores are an '
        "upper bound, not a result.</p>"
    )


def _table(models: dict[str, Any], best: str) -> str:
    shown = {c: v for c, v in COLUMNS.items() if any(c in m["overall"] for m in models.values())}
    head = "".join(f"<th>{escape(heading)}</th>" for heading, _ in shown.values())
    lines = []
    for name, model in models.items():
        overall = model["overall"]
        cells = [
            f"<td>{form.format(overall[c]) if c in overall else '–'}</td>"
            for c, (_, form) in shown.items()
        ]
        mark = ' class="best"' if name == best else ""
        lines.append(f"<tr{mark}><td>{escape(name)}</td>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th>model</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _picture(draw: "Callable[[Axes], None]", meaning: str) -> str:
    """A drawing as an image inside the page; drawn without a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dfe5ec")
    draw(axes)
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{escape(meaning)}" src="data:image/svg+xml;base64,{data}">'


def _draw_horizons(axes: "Axes", models: dict[str, Any]) -> None:
    for name, model in models.items():
        steps = model["by_horizon"]
        axes.plot([s["horizon"] for s in steps], [s["mae"] for s in steps], ".-", label=_text(name))
    axes.set(xlabel="hours ahead", ylabel="MAE, bikes", ylim=(0, None))
    axes.legend(frameon=False)


def _draw_stations(axes: "Axes", models: dict[str, Any]) -> None:
    for name, model in models.items():
        errors = sorted((s["mae"] for s in model["by_station_id"]), reverse=True)
        axes.plot(range(1, len(errors) + 1), errors, ".-", label=_text(name))
    axes.set(xlabel="stations, the hardest first", ylabel="MAE, bikes", ylim=(0, None))
    axes.legend(frameon=False)


def _draw_week(
    axes: "Axes", predictions: pl.DataFrame, history: History, model: str, station: str
) -> None:
    from matplotlib.dates import DateFormatter

    rows = predictions.filter(
        (pl.col("model") == model)
        & (pl.col("station_id") == station)
        & (pl.col("target") == "pickups")
    )
    newest = rows.sort("origin").unique(KEYS, keep="last").sort("hour")
    first = newest["hour"][0]
    assert isinstance(first, datetime)
    week = newest.filter(pl.col("hour") < first + WEEK)
    came = week.join(actuals(history, first), on=KEYS).sort("hour")
    hours = week["hour"].to_list()
    axes.fill_between(hours, week["q10"], week["q90"], alpha=0.25, label="80 % interval")
    axes.plot(hours, week["mean"], label="forecast")
    axes.plot(came["hour"].to_list(), came["actual"], ".", color="#1d2733", label="came")
    axes.set(ylabel="pickups per hour", ylim=(0, None))
    axes.xaxis.set_major_formatter(DateFormatter("%a %d %b"))
    axes.legend(frameon=False)


def _busiest(predictions: pl.DataFrame) -> str:
    total = predictions.group_by("station_id").agg(pl.col("mean").sum())
    return str(total.sort("mean", "station_id")["station_id"][-1])


def _text(name: str) -> str:
    # A dollar sign would begin a formula.
    return name.replace("$", r"\$")
