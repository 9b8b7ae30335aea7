"""What a model saw of a station: kept as it was, to the last bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_up import small_history, with_weather

from bikecast.features import NAMES, features, pairs, sky_ahead
from bikecast.features.inputs import Inputs, inputs_of, pack, unpack
from bikecast.features.sky import Sky

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=False)


@given(arrays(np.float32, (3, 2, 4), elements=FLOATS))
def test_what_was_packed_comes_out_again(values):
    """Unknown values too."""
    names = ("hour", "ünïcode", "a b", "")
    found = unpack(pack(Inputs(names, values, values[..., 0])))
    assert found.names == names
    assert np.array_equal(found.values, values, equal_nan=True)
    assert np.array_equal(found.level, values[..., 0], equal_nan=True)


@given(arrays(np.float32, (7, 5), elements=FLOATS), st.integers(0, 6))
def test_the_sky_comes_out_again(hourly, first):
    """Where it was kept; a release that knew nothing of it left none."""
    values = np.zeros((3, 2, 4), np.float32)
    above = Sky(hourly, first, hourly[:3, :3])
    found = unpack(pack(Inputs(("a",), values, values[..., 0], above))).sky
    assert found is not None and found.first == first
    assert np.array_equal(found.hourly, hourly, equal_nan=True)
    assert np.array_equal(found.usual, hourly[:3, :3], equal_nan=True)
    assert unpack(pack(Inputs(("a",), values, values[..., 0]))).sky is None


def test_two_weeks_of_a_station_are_small():
    """All features of both targets, in less than half of the bytes that they are in memory."""
    history = with_weather(small_history())
    seen = features(history, *pairs(np.array([history.known]), 336))
    kept = inputs_of(seen, NAMES, 1, sky_ahead(history, history.known, 336))
    assert kept.values.shape == (336, 2, len(NAMES)) and kept.level.shape == (336, 2)
    assert len(pack(kept)) < kept.values.nbytes / 2 < 120_000
