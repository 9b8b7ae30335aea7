"""The gate between a challenger and production: what it looks at, and what it says.

A training leaves :class:`Evidence`, :func:`judge` reads it. Nothing here does any I/O.
"""

from bikecast.evaluation.gate.checks import MARKS, Check, Outcome, Rule, overall
from bikecast.evaluation.gate.evidence import (
    CHALLENGER,
    CHAMPION,
    NAIVE,
    WEEKLY,
    Evidence,
    Facts,
    facts_document,
    facts_from,
    facts_of,
    rain_before,
    side_by_side,
)
from bikecast.evaluation.gate.judging import as_good, beats_naive, judge
from bikecast.evaluation.gate.leakage import leak
from bikecast.evaluation.gate.loading import Loaded, loading
from bikecast.evaluation.gate.report import report_html
from bikecast.evaluation.gate.trial import Trial, trial

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "MARKS",
    "NAIVE",
    "WEEKLY",
    "Check",
    "Evidence",
    "Facts",
    "Loaded",
    "Outcome",
    "Rule",
    "Trial",
    "as_good",
    "beats_naive",
    "facts_document",
    "facts_from",
    "facts_of",
    "judge",
    "leak",
    "loading",
    "overall",
    "rain_before",
    "report_html",
    "side_by_side",
    "trial",
]
