"""Whether the intervals hold what they promise: two pictures, and the figures."""

from html import escape
from typing import Any, Final

import numpy as np

from bikecast.evaluation.calibration import EDGES, GROUP_TOLERANCE, TOLERANCE
from bikecast.evaluation.report.drawing import INK, picture, table
from bikecast.records import QUANTILES

DRAWN: Final = (
    ("overall", "all"),
    ("forecast", "low"),
    ("forecast", "middle"),
    ("forecast", "high"),
)
EXPLAINED: Final = (
    "A count may equal a quantile, so a level is right where it lies between the share below the "
    "quantile and the share up to it: where the bar touches the grey strip of its tolerance, the "
    "darker one for all hours, the lighter one for a third of the forecasts. The histogram spreads "
    "each count evenly over its own probability (Czado, Gneiting and Held 2009), as far as seven "
    "quantiles tell it; flat is right, a bowl says too narrow, a hill too wide."
)


def reliability(found: dict[str, Any], best: str, colour: str) -> str:
    """The best model's calibration.

    :param found: what ``calibration`` gives for the model.
    """
    told = "; ".join(
        f"{c['level']:.0%}: {c['below']:.1%} below, {c['up_to']:.1%} up to it"
        for c in found["cells"]
        if c["group"] == "overall"
    )
    meaning = f"Observed shares of counts below each quantile and up to it. {told}"

    def draw(axes: Any) -> None:
        _misses(axes[0], found["cells"], colour)
        _histogram(axes[1], found["pit"], colour)

    return (
        f"<p>{_verdict(found, best)}</p>"
        + picture(draw, meaning, columns=2, height=3.6)
        + f'<p class="quiet">{EXPLAINED}</p>'
        + _figures(found)
    )


def _verdict(found: dict[str, Any], best: str) -> str:
    if found["calibrated"]:
        return f"The quantiles of {escape(best)} are calibrated, overall and in every group."
    worst = found["worst"][0]
    where = _named(worst["group"], worst["part"])
    return (
        f"The quantiles of {escape(best)} are not calibrated. Worst is that of "
        f"{worst['level']:.0%} for {where}: {worst['below']:.1%} came below and "
        f"{worst['up_to']:.1%} up to it, "
        f"{100 * worst['miss']:.1f} points beyond the tolerance."
    )


def _named(group: str, part: str) -> str:
    """A part of the rows as a reader calls it."""
    return {
        "overall": "all hours",
        "forecast": f"{part} forecasts",
        "hour of the day": f"hours {part}",
        "hours ahead": f"{part} h ahead",
    }[group]


def _misses(axes: Any, cells: list[dict[str, Any]], colour: str) -> None:
    """A bar from the share below to the share up to, both less the level, in points."""
    for i, (group, part) in enumerate(DRAWN):
        own = [c for c in cells if (c["group"], c["part"]) == (group, part)]
        places = [QUANTILES.index(c["level"]) + 0.2 * (i - 1.5) for c in own]
        low, high = (
            np.array([100 * (c[share] - c["level"]) for c in own]) for share in ("below", "up_to")
        )
        look = {"color": colour if i else INK, "alpha": (0.25 * i + 0.2) if i else 1}
        label = _named(group, part)
        axes.bar(places, np.maximum(high - low, 0.3), 0.17, bottom=low, label=label, **look)
    axes.axhspan(-100 * GROUP_TOLERANCE, 100 * GROUP_TOLERANCE, color=INK, alpha=0.08)
    axes.axhspan(-100 * TOLERANCE, 100 * TOLERANCE, color=INK, alpha=0.12)
    axes.set_xticks(range(len(QUANTILES)), [f"{100 * p:.0f} %" for p in QUANTILES])
    axes.set(title="observed share less the level, in points", xlabel="level", ylim=(-15, 15))
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)


def _histogram(axes: Any, shares: list[float], colour: str) -> None:
    edges = np.array(EDGES)
    density = np.array(shares) / np.diff(edges)
    axes.bar(
        edges[:-1],
        density,
        np.diff(edges),
        align="edge",
        color=colour,
        alpha=0.8,
        edgecolor="white",
    )
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(
        title="PIT histogram, 1 is right",
        xlabel="where counts fall among the quantiles",
        xlim=(0, 1),
        ylim=(0, max(1.5, density.max() * 1.05)),
    )


def _figures(found: dict[str, Any]) -> str:
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in found["cells"]:
        lines.setdefault((cell["group"], cell["part"]), []).append(cell)
    heads = ["share below – up to, %", *(f"{p:.0%}" for p in QUANTILES), "tolerance", "n"]
    return table(heads, [_line(*name, cells) for name, cells in lines.items()])


def _line(group: str, part: str, cells: list[dict[str, Any]]) -> list[str]:
    tolerance = f"± {100 * cells[0]['tolerance']:.1f}"
    return [_named(group, part), *(_cell(c) for c in cells), tolerance, f"{cells[0]['n']:,}"]


def _cell(cell: dict[str, Any]) -> str:
    text = f"{100 * cell['below']:.1f}–{100 * cell['up_to']:.1f}"
    return f'<strong class="miss">{text}</strong>' if cell["miss"] else text
