"""From a timestamp in a request to a civil hour of the system."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from bikecast.serve.problems import AMBIGUOUS_TIMESTAMP, INVALID_TIMESTAMP, Problem

# datetime.fromisoformat takes week dates and times without colons too, which RFC 3339 does not.
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


_REMEMBERED: Final = 4096
"""Moments: a week has 168 hours, which are asked for again and again."""


@lru_cache(_REMEMBERED)
def civil_hour(text: str, zone: ZoneInfo) -> datetime:
    """The civil hour that contains a moment, naive.

    The hour that autumn repeats is one hour of the forecast: both its offsets lead to it.

    :param text: RFC 3339; without an offset it is local time in ``zone``.
    :raises Problem: for what is no such moment, or one that local time has twice.

    >>> civil_hour("2018-07-16T22:59:59Z", ZoneInfo("America/New_York"))
    datetime.datetime(2018, 7, 16, 18, 0)
    """
    moment = _parse(text)
    if moment.tzinfo is None:
        return _hour(_only_once(moment, zone))
    try:
        return _hour(moment.astimezone(zone).replace(tzinfo=None))
    except OverflowError:
        raise _no_such(text, "is at the very end of the calendar") from None


def moment(text: str, zone: ZoneInfo) -> datetime:
    """A moment with its time zone.

    :param text: RFC 3339; without an offset it is local time in ``zone``.
    :raises Problem: for what is no such moment, or one that local time has twice.
    """
    found = _parse(text)
    return found if found.tzinfo else _only_once(found, zone).replace(tzinfo=zone)


def _parse(text: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise _no_such(text, "is not RFC 3339")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise _no_such(text, f"does not exist ({error})") from None


def _only_once(naive: datetime, zone: ZoneInfo) -> datetime:
    first, second = naive.replace(tzinfo=zone), naive.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return naive
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) != naive:
        raise _no_such(naive.isoformat(), f"is skipped by the clocks of {zone.key}")
    raise Problem(
        AMBIGUOUS_TIMESTAMP,
        f"{naive.isoformat()} occurs twice in {zone.key}; "
        f"write {first.isoformat()} or {second.isoformat()}",
    )


def _no_such(text: str, why: str) -> Problem:
    return Problem(
        INVALID_TIMESTAMP, f"timestamp {text!r} {why}; write it as in 2018-07-16T08:00:00-04:00"
    )


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0, fold=0)
