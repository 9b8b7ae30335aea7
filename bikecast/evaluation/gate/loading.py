"""What a version was like where nothing but the registry is known: its signature, size, speed."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from bikecast.evaluation.gate.checks import Check, at_most
from bikecast.records import QUANTILE_COLUMNS

HOURS: Final = 24
MAX_BYTES: Final = 500_000_000
"""The forecast table keeps the model in PostgreSQL, whose fields end at 1 GB."""
MAX_SECONDS: Final = 60.0
"""Of a core: what a busy machine makes wait is not the model's fault. A table may be due every few
minutes."""
INPUTS: Final = {"station_id", "hour", "pickups", "returns"}
OUTPUTS: Final = {"station_id", "hour", "target", "mean", *QUANTILE_COLUMNS}


@dataclass(frozen=True)
class Loaded:
    """A real load in a process of its own, and a forecast of ``HOURS`` hours of a small panel.

    :param nbytes: of all its files.
    :param load_seconds: of a core, with all imports; ``forecast_seconds`` likewise.
    :param rows: that it forecast, of ``asked``; ``good`` of them are finite and not negative.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nbytes: int
    load_seconds: float
    forecast_seconds: float
    asked: int
    rows: int
    good: int


def loading(found: Loaded) -> tuple[Check, ...]:
    """The gate's answers to a load that has come to its end."""
    lacking = sorted((INPUTS - {*found.inputs}) | (OUTPUTS - {*found.outputs}))
    whole = found.rows == found.good == found.asked
    figures: dict[str, Any] = asdict(found)
    return (
        Check(
            "signature",
            "reject" if lacking else "promote",
            f"lacks {', '.join(lacking)}" if lacking else "a panel in, a forecast out",
            figures,
        ),
        Check(
            "forecasts where it is loaded alone",
            "promote" if whole else "reject",
            f"{found.good} numbers in {found.rows} rows of {found.asked} asked",
        ),
        at_most("bytes", found.nbytes, MAX_BYTES),
        at_most("seconds to load", found.load_seconds, MAX_SECONDS),
        at_most(f"seconds to forecast {HOURS} h", found.forecast_seconds, MAX_SECONDS),
    )
