"""Whether the data that a challenger learned from are as fresh and as many as usual."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from bikecast.evaluation.gate.checks import Check, Outcome
from bikecast.evaluation.gate.evidence import Facts

USUAL_SHARE: Final = 0.5
"""Of the median of up to eight weeks before. The lowest 2 % of New York's fortnights have less
than 45 % (2017 to 2018-07-15; 25 % with the blizzard after the holidays), and so have Jersey City's
in spring 2020. It is for people to say what became of the others."""
KNOWN_SHARE: Final = 0.5
"""Of the share of hours before a window whose rain is known."""
BEHIND: Final = timedelta(days=7)
"""What archives of weather may be behind: the last days of a window are not asked for."""
RECENT_WEEKS: Final = 2
LEAST_WEEKS: Final = 4
MOST_VANISHED: Final = 0.2
"""Of the bikes of the weeks before. In no week of the panels of New York and Jersey City was a
station lost: many at once are a file that was not imported. Their number would not do: of the 92
stations where Jersey City's riders of spring 2021 began or ended, 19 across the Hudson had hardly a
ride, and none in the last week."""


def freshness(facts: Facts, *, newer: bool) -> Check:
    """Whether the data end after the champion's did.

    :param newer: the same end is not enough, but for a champion that cannot be asked any more.
    """
    name = "data newer than the champion's" if newer else "data no older than the champion's"
    text = f"until {facts.data_until}, the champion's until {facts.champion_until}"
    if not facts.champion_until or not facts.data_until:
        return Check(name, "inconclusive", "the end of one's data is not known")
    own, other = (datetime.fromisoformat(t) for t in (facts.data_until, facts.champion_until))
    enough = own > other or (own == other and not (newer and facts.champion_answers))
    if own == other and enough and newer:
        text += ", which this release cannot ask"
    return Check(name, "promote" if enough else "reject", text)


def volume(facts: Facts) -> tuple[Check, ...]:
    """Rides of the last weeks beside what was usual, and stations that have fallen silent."""
    return (_rides(facts), _stations(facts))


def _rides(facts: Facts) -> Check:
    name, weeks = "as many rides as usual", facts.weekly_rides
    if len(weeks) < LEAST_WEEKS:
        return Check(name, "inconclusive", f"{len(weeks)} weeks of data, {LEAST_WEEKS} are needed")
    recent, usual = float(np.mean(weeks[-RECENT_WEEKS:])), float(np.median(weeks[:-RECENT_WEEKS]))
    outcome: Outcome = "promote" if recent > USUAL_SHARE * usual else "inconclusive"
    text = f"{recent:,.0f} bikes a week in the last {RECENT_WEEKS}, usually {usual:,.0f}"
    return Check(name, outcome, text, {"recent": recent, "usual": usual})


def _stations(facts: Facts) -> Check:
    name, gone = "stations still there", facts.vanished
    if not facts.stations:
        return Check(name, "inconclusive", "no station was known in the weeks before the last")
    outcome: Outcome = "promote" if facts.vanished_share <= MOST_VANISHED else "inconclusive"
    text = f"{len(gone)} of {facts.stations} have no known hour in the last week"
    if gone:
        text += f", and had {facts.vanished_share:.1%} of the bikes before"
    named = f": {', '.join(gone[:5])}" if gone else ""
    return Check(name, outcome, text + named, {"vanished": gone, "stations": facts.stations})


def rain(facts: Facts, rows: pl.DataFrame) -> tuple[Check, ...]:
    """Whether the rain of the window is known where it was before; else slices by it say little.

    :param rows: ``hour`` and ``rain`` of what was forecast.
    """
    end = datetime.fromisoformat(facts.start) + timedelta(days=facts.days)
    asked = rows.filter(pl.col("hour") < end - BEHIND)["rain"]
    if not facts.rain_before or asked.is_empty():  # a city without weather, or too young a one
        return ()
    known = 1 - asked.null_count() / len(asked)
    outcome: Outcome = "inconclusive"
    if known > KNOWN_SHARE * facts.rain_before:
        outcome = "promote"
    text = f"that of {known:.0%} of the hours, of {facts.rain_before:.0%} in the year before"
    figures = {"known": known, "before": facts.rain_before}
    return (Check("rain known as usual", outcome, text, figures),)
