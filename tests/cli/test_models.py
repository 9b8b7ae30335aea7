"""What the commands of models ask of the gate, and how they print its answers."""

from dataclasses import replace

import pytest

from bikecast.cli.models import print_verdict, rule
from bikecast.cli.open import Opened
from bikecast.config import Settings
from bikecast.evaluation.gate import Check, Rule
from bikecast.promote import Verdict
from bikecast.records import ModelVersion

VERSION = ModelVersion("7", "glm", "run", "city")


@pytest.mark.parametrize(
    ("setting", "given", "asked"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
def test_a_strict_gate_is_strict_whatever_the_command_says(setting, given, asked):
    """A setting reaches tasks of Airflow, whose words are fixed."""
    here = Opened(Settings(strict_gate=setting), "")
    assert rule(here, given, 4.0) == Rule(asked, 4.0)


def test_station_ids_are_printed_as_they_are(capsys):
    """Also those that look like what rich takes for a style, or for its end."""
    detail = "2 of 3 have no known hour: [red]a, [/b]"
    verdict = Verdict(VERSION, (Check("stations still there", "inconclusive", detail),))
    print_verdict(replace(verdict, kept=True))
    assert f"stations still there: {detail}\n" in capsys.readouterr().out
