"""Which ids and names are one station: decided from all that was ever seen, in no order."""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

SAME_NAME_METRES = 300.0
SAME_ID_METRES = 150.0
EARTH_METRES = 6_371_000.0


@dataclass(frozen=True)
class Alias:
    """An id and a name that trips used, and where and when they did."""

    alias_key: int
    raw_id: str
    name: str
    lat: float | None
    lon: float | None
    trips: int
    last_seen: datetime
    station_key: int | None = None

    @property
    def has_place(self) -> bool:
        """Whether its coordinates are known."""
        return self.lat is not None and self.lon is not None

    @property
    def age(self) -> tuple[datetime, int, str]:
        """Sorts the newest last."""
        return self.last_seen, self.trips, self.raw_id


def name_key(name: str) -> str:
    """A name without what spelling changes: case, white space, punctuation.

    >>> name_key("W 15 St & 7  Ave.")
    'w 15 st 7 ave'
    """
    return " ".join(re.sub(r"\W+", " ", name.casefold()).split())


def grouped(aliases: list[Alias]) -> list[list[Alias]]:
    """Aliases that are one station, each group's newest last.

    Two are one where they share a name within 300 m (an operator gave new ids), or an id within
    150 m (a station was renamed). The same id farther away was given to another place. An alias
    whose place is not known joins the newest that shares its name, else its id, and bridges none.
    """
    parent = {a.alias_key: a.alias_key for a in aliases}

    def root(key: int) -> int:
        while parent[key] != key:
            key = parent[key]
        return key

    oldest_first = sorted(aliases, key=lambda a: a.age)
    named, numbered = _sharing(oldest_first, _name_of), _sharing(oldest_first, _id_of)
    for sharing, metres in ((named, SAME_NAME_METRES), (numbered, SAME_ID_METRES)):
        for group in sharing.values():
            placed = [a for a in group if a.has_place]
            for i, a in enumerate(placed):
                for b in placed[i + 1 :]:
                    if distance(a, b) <= metres:
                        parent[root(a.alias_key)] = root(b.alias_key)
    for alias in (a for a in oldest_first if not a.has_place):
        same = [a for a in named.get(_name_of(alias), []) if a is not alias]
        same = same or [a for a in numbered[_id_of(alias)] if a is not alias]
        if same:
            nearest = max(same, key=lambda a: (a.has_place, a.age))
            parent[root(alias.alias_key)] = root(nearest.alias_key)
    found: dict[int, list[Alias]] = defaultdict(list)
    for alias in oldest_first:
        found[root(alias.alias_key)].append(alias)
    return sorted(found.values(), key=lambda g: g[-1].age)


def _name_of(alias: Alias) -> str:
    return name_key(alias.name)


def _id_of(alias: Alias) -> str:
    return alias.raw_id


def _sharing(aliases: list[Alias], what: Callable[[Alias], str]) -> dict[str, list[Alias]]:
    found: dict[str, list[Alias]] = defaultdict(list)
    for alias in aliases:
        if what(alias):
            found[what(alias)].append(alias)
    return dict(found)


def distance(a: Alias, b: Alias) -> float:
    """Metres between two places on the sphere (haversine); infinite where one is not known."""
    if a.lat is None or a.lon is None or b.lat is None or b.lon is None:
        return math.inf
    lat1, lat2 = math.radians(a.lat), math.radians(b.lat)
    half = math.sin((lat2 - lat1) / 2) ** 2
    half += math.cos(lat1) * math.cos(lat2) * math.sin(math.radians(b.lon - a.lon) / 2) ** 2
    return 2 * EARTH_METRES * math.asin(math.sqrt(half))


def public_ids(groups: list[list[Alias]]) -> list[str]:
    """The id of each group: its newest; where two claim one, the station seen last has it.

    The other one is called ``ID@YYYY-MM``, by the month in which it was last seen.
    """
    taken: set[str] = set()
    ids = [""] * len(groups)
    for i in sorted(range(len(groups)), key=lambda i: groups[i][-1].age, reverse=True):
        newest = groups[i][-1]
        wanted = newest.raw_id
        if wanted in taken:
            wanted = f"{newest.raw_id}@{newest.last_seen:%Y-%m}"
        while wanted in taken:
            wanted += "+"
        taken.add(wanted)
        ids[i] = wanted
    return ids
