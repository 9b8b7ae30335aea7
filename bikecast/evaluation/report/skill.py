"""How good the models are by hours ahead and by station, and against the plain ones."""

from collections.abc import Sequence
from html import escape
from typing import Any

from bikecast.evaluation.report.drawing import INK, colours, picture, plain, table
from bikecast.evaluation.scores import REFERENCES
from bikecast.history import History

MOST_NAMED = 45  # stations whose ids fit below a picture
HARDEST = 5

Models = dict[str, Any]


def by_horizon(models: Models) -> str:
    """Error and, beside naive, skill by hours ahead."""
    compared = [n for n, m in models.items() if n != "naive" and "skill" in m["overall"]]
    told = "; ".join(f"{n} {_ends(m['by_horizon'])}" for n, m in models.items())
    meaning = f"MAE of each model by hours ahead, in bikes: {told}"
    if compared:
        meaning += ". Beside it, by how much each is better than naive"

    def draw(axes: Any) -> None:
        left = axes[0] if compared else axes
        _errors(left, models)
        if compared:
            _skills(axes[1], models, compared)
        left.figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=6)

    return picture(draw, meaning, columns=2 if compared else 1)


def _ends(steps: Sequence[dict[str, Any]]) -> str:
    first, last = steps[0], steps[-1]
    return f"{first['mae']:.2f} at {first['horizon']} and {last['mae']:.2f} at {last['horizon']}"


def _errors(axes: Any, models: Models) -> None:
    for name, colour in colours(models).items():
        if name in models:
            steps = models[name]["by_horizon"]
            _line(axes, steps, "mae", colour, name)
    axes.set(title="MAE, bikes per station-hour", ylim=(0, None))
    _hours_ahead(axes, models)


def _hours_ahead(axes: Any, models: Models) -> None:
    from matplotlib.ticker import MultipleLocator

    longest = max(s["horizon"] for m in models.values() for s in m["by_horizon"])
    axes.xaxis.set_major_locator(MultipleLocator(24 if longest > 48 else 6 if longest > 6 else 1))
    axes.set(xlabel="hours ahead")


def _skills(axes: Any, models: Models, compared: Sequence[str]) -> None:
    from matplotlib.ticker import PercentFormatter

    for name in compared:
        steps = [s for s in models[name]["by_horizon"] if "skill" in s]
        _line(axes, steps, "skill", colours(models)[name], name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="better than naive by")
    _hours_ahead(axes, models)


def _line(axes: Any, steps: Sequence[dict[str, Any]], score: str, colour: str, name: str) -> None:
    mark = "." if len(steps) <= 48 else ""
    hours = [s["horizon"] for s in steps]
    axes.plot(hours, [s[score] for s in steps], color=colour, marker=mark, label=plain(name))


def by_station(models: Models, best: str, history: History) -> str:
    """Error and skill station by station, and the hardest of them by name."""
    stations = sorted(models[best]["by_station_id"], key=lambda s: -s["mae"])
    worse = [s["station_id"] for s in stations if s.get("skill", 0) < 0]
    skilled = best != "naive" and any("skill" in s for s in stations)
    meaning = (
        f"MAE of each model station by station, the hardest for {best} first: from "
        f"{stations[0]['mae']:.2f} at {stations[0]['station_id']} to {stations[-1]['mae']:.2f} at "
        f"{stations[-1]['station_id']}"
    )
    if skilled:
        meaning += f". Below it by how much {best} is better than naive; it is not at {len(worse)}"

    def draw(axes: Any) -> None:
        upper = axes[0] if skilled else axes
        _station_errors(upper, models, best, [s["station_id"] for s in stations])
        if skilled:
            upper.tick_params(labelbottom=False)
            upper.set(xlabel="")
            _station_skills(axes[1], stations, colours(models)[best])

    image = picture(draw, meaning, rows=2 if skilled else 1, height=5 if skilled else 3.4)
    return image + _hardest(stations[:HARDEST], history) + (_worse(worse, best) if skilled else "")


def _station_errors(axes: Any, models: Models, best: str, ids: Sequence[str]) -> None:
    places = range(len(ids))
    for name, colour in colours(models).items():
        if name not in models:
            continue
        errors = {s["station_id"]: s["mae"] for s in models[name]["by_station_id"]}
        values = [errors.get(i, float("nan")) for i in ids]
        if name == best:
            axes.bar(places, values, color=colour, alpha=0.8, label=plain(name))
        else:
            axes.plot(places, values, "_", color=colour, markeredgewidth=2, label=plain(name))
    axes.set(title="MAE, bikes per station-hour", xlim=(-0.8, len(ids) - 0.2))
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    _name_places(axes, ids)


def _station_skills(axes: Any, stations: Sequence[dict[str, Any]], colour: str) -> None:
    from matplotlib.ticker import PercentFormatter

    values = [s.get("skill", float("nan")) for s in stations]
    axes.bar(range(len(values)), values, color=colour, alpha=0.8)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="better than naive by", xlim=(-0.8, len(values) - 0.2))
    _name_places(axes, [s["station_id"] for s in stations])


def _name_places(axes: Any, ids: Sequence[str]) -> None:
    named = len(ids) <= MOST_NAMED
    axes.set_xticks(range(len(ids)) if named else [], [plain(i) for i in ids] if named else [])
    axes.tick_params(axis="x", rotation=90)
    if not named:
        axes.set(xlabel=f"{len(ids)} stations, the hardest first")


def _hardest(stations: Sequence[dict[str, Any]], history: History) -> str:
    headings = {"skill": "better than naive", "skill_mean4w": "better than mean4w"}
    shown = [s for s in REFERENCES.values() if any(s in line for line in stations)]
    heads = ["the hardest stations", "MAE", "WAPE", "bias", *(headings[s] for s in shown)]
    lines = []
    for line in stations:
        station = history.stations[history.position[line["station_id"]]]
        name = f'{escape(station.station_id)} <span class="quiet">{escape(station.name)}</span>'
        cells = [name, f"{line['mae']:.2f}", f"{line['wape']:.1%}", f"{line['bias']:+.2f}"]
        lines.append(cells + [f"{line[s]:.1%}" if s in line else "–" for s in shown])
    return table(heads, lines)


def _worse(worse: Sequence[str], best: str) -> str:
    if not worse:
        return f"<p>At no station is {escape(best)} worse than naive.</p>"
    more = f" and {len(worse) - 10} more" if len(worse) > 10 else ""
    return f"<p>Worse than naive at {escape(', '.join(worse[:10]))}{more}.</p>"
