"""What is amiss in the hours that a backtest looks at, counted, so that it can be said."""

from datetime import datetime

import numpy as np

from bikecast.features.past import MOST, Past, past_of
from bikecast.history import History


def remarks(history: History, start: datetime, days: int) -> dict[str, int]:
    """Reservations about the data of a window and of what lies before it → how many there are.

    :param start: first day of the window, local midnight.
    """
    first, stop = history.index(start), min(history.index(start) + days * 24, history.known)
    found = {
        **_gaps(history, first, stop),
        **_cleaned(
            past_of(history.uncensored, history.calendar(0, stop + 25), np.array([first, stop]))
        ),
        **_censored(history, stop),
        **_without_weather(history, first, stop),
    }
    return {what: n for what, n in found.items() if n}


def _gaps(history: History, first: int, stop: int) -> dict[str, int]:
    known = np.isfinite(history.flows[:, :stop]).any(axis=2)
    hour = np.arange(stop)
    begin = np.where(known, hour, stop).min(axis=1)
    last = np.where(known, hour, -1).max(axis=1)
    inside = (hour > begin[:, None]) & (hour < last[:, None])
    missing = ~known & inside & history.calendar(0, stop).exists
    return {
        "hours of a station without a row, unknown and not zero": int(missing.sum()),
        "stations that begin inside the window": int(((begin > first) & (begin < stop)).sum()),
        "stations that end inside the window": int(((last >= first) & (last < stop - 1)).sum()),
        "stations without a row before the end of the window": int((last < 0).sum()),
    }


def _cleaned(past: Past) -> dict[str, int]:
    """What :mod:`bikecast.features.past` leaves out or cuts before models look back on it."""
    outage = np.isfinite(past.seen) & (past.known == 0)
    cut = past.seen > past.values
    factor, more = MOST
    return {
        "hours of a station without a bike, taken as an outage": int(outage.any(axis=2).sum()),
        f"counts cut to {factor:.0f} times what was expected and {more:.0f} more": int(cut.sum()),
    }


def _censored(history: History, stop: int) -> dict[str, int]:
    if history.censored is None:
        return {}
    left_out = history.censored[:, :stop] & np.isfinite(history.flows[:, :stop])
    what = "hours of a station without a bike, or a dock, to be had, not learned"
    return {what: int(left_out.any(axis=2).sum())}


def _without_weather(history: History, first: int, stop: int) -> dict[str, int]:
    if history.weather is None:
        return {}
    known = history.weather.at(stop, np.arange(first, stop))
    unknown = int(np.isnan(known).all(axis=1).sum())
    return {"hours of the window without weather": unknown}
