"""What all pictures and tables of the page share: colours, and how they get into it."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Final

INK: Final = "#1d2733"
QUIET: Final = "#5b6876"
LINE: Final = "#dfe5ec"
GREY: Final = "#9aa5b1"
# For the models in their order, told apart by people who see fewer colours too (Okabe and Ito 2008,
# "Color universal design"); naive is grey.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BEST: Final = ' class="best"'
_STYLE: Final = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": QUIET,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    # The same figures give the same bytes.
    "svg.hashsalt": "bikecast",
}


def colours(models: Iterable[str]) -> dict[str, str]:
    """A colour for each model."""
    others = [name for name in models if name != "naive"]
    return {"naive": GREY} | {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(others)}


def picture(
    draw: Callable[[Any], None], meaning: str, rows: int = 1, columns: int = 1, height: float = 3.4
) -> str:
    """A drawing as an image inside the page; drawn without a screen.

    :param draw: is given the axes of matplotlib, as an array where there are several.
    :param meaning: what the picture tells, for those who do not see it.
    :param height: in inches, of 9.5 in width.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, height), layout="constrained")
        draw(figure.subplots(rows, columns))
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{escape(meaning)}" src="data:image/svg+xml;base64,{data}">'


def table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    best: int | None = None,
    look: str = "figures",
) -> str:
    """A table.

    :param lines: cells, which are HTML already.
    :param best: the line to mark.
    :param look: ``words`` where cells from the fourth on are text.
    """
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    rows = ["".join(f"<td>{cell}</td>" for cell in line) for line in lines]
    body = "".join(f"<tr{BEST if i == best else ''}>{row}</tr>" for i, row in enumerate(rows))
    return (
        f'<div class="scroll"><table class="{look}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def plain(name: str) -> str:
    """A name as matplotlib writes it: a dollar sign would begin a formula."""
    return name.replace("$", r"\$")
