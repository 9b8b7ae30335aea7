"""What a real load of a version is held against."""

from dataclasses import replace

import pytest

from bikecast.evaluation.gate.loading import INPUTS, OUTPUTS, Loaded, loading

GOOD = Loaded(tuple(INPUTS), tuple(OUTPUTS), 1_000_000, 5.0, 0.5, 96, 96, 96)


@pytest.mark.parametrize(
    ("found", "no"),
    [
        (GOOD, []),
        (replace(GOOD, inputs=()), ["signature"]),
        (replace(GOOD, outputs=("mean",)), ["signature"]),
        (replace(GOOD, good=95), ["forecasts where it is loaded alone"]),
        (replace(GOOD, rows=95), ["forecasts where it is loaded alone"]),
        (replace(GOOD, nbytes=600_000_000), ["bytes"]),
        (replace(GOOD, load_seconds=61.0), ["seconds to load"]),
        (replace(GOOD, forecast_seconds=61.0), ["seconds to forecast 24 h"]),
    ],
)
def test_each_limit_is_one_of_its_own(found, no):
    """Signature, numbers, size, and seconds."""
    assert [c.name for c in loading(found) if not c.passed] == no
