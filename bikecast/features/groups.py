"""Features by the words in which a forecast is explained."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from bikecast.features import LONGER
from bikecast.features.recent import NET_WINDOWS, STATION_WINDOWS, SYSTEM_NOW, SYSTEM_WINDOWS
from bikecast.features.sky import RELATIVE
from bikecast.history import Floats
from bikecast.records import WEATHER

_HOURS = [w for w in STATION_WINDOWS if w <= 24]
_WEEKS = [w for w in STATION_WINDOWS if w > 24]

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "recent level": (
        *("log_level", "log_week", "log_kind", "log_kind_recent", "log_other_level"),
        *LONGER,
        *("scatter", "last_week"),
        *(f"{who}_{w}h" for who in ("station", "other") for w in _WEEKS),
    ),
    "last hours": (
        *("step", "yesterday", "missed"),
        *(f"{who}_{w}h" for who in ("station", "other") for w in _HOURS),
        *(f"net_{w}h" for w in NET_WINDOWS),
    ),
    "time of day": ("hour",),
    "day": (
        *("weekday", "workday", "workday_before", "workday_after"),
        *("holiday", "holiday_before", "holiday_after"),
    ),
    "time of year": ("yearday",),
    "weather": (*WEATHER, *RELATIVE),
    "whole system": ("share", *(f"system_{w}h" for w in SYSTEM_WINDOWS), *SYSTEM_NOW),
    "station": ("returns", "log_size", "capacity", "station"),
}
"""The words, and the features that each stands for; every feature has one. How many hours ahead it
is belongs to the last hours, which count for less the longer they are ago."""


def membership(names: Iterable[str]) -> Floats:
    """Which group each of some features is in: [names, groups], 1 or 0.

    Contributions [rows, names] times it are contributions of groups.
    """
    places = {name: i for i, group in enumerate(GROUPS.values()) for name in group}
    return np.eye(len(GROUPS), dtype=np.float32)[[places[name] for name in names]]


ALL_IN_LEVEL: Final = membership(["log_level"])[0]
"""Where a model's constant belongs: by how much the level is off on the whole."""
