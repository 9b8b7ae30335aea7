"""XGBoost's binary models, read without XGBoost."""

import json

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from bikecast.models.ubjson import read


def booster(rounds=3, depth=4):
    """Trees that learned from noise, some of it unknown."""
    rng = np.random.default_rng(1)
    values = rng.random((400, 5), np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    matrix = xgboost.DMatrix(values, rng.poisson(2, 400), feature_names=list("abcde"), nthread=1)
    words = {"objective": "count:poisson", "max_depth": depth, "nthread": 1}
    return xgboost.train(words, matrix, rounds)


MODEL = booster()
PACKED = bytes(MODEL.save_raw("ubj"))


def plain(value):
    """Arrays as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def same(one, other):
    """Whether two documents are the same; numbers as float32 has them."""
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in other)
    if isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, float):
        return np.float32(one) == np.float32(other)
    return one == other


def test_it_is_what_xgboost_says_in_json():
    """All of it, attributes too."""
    MODEL.set_attr(said="ünïcode", nothing="")
    document = json.loads(bytes(MODEL.save_raw("json")))
    assert same(plain(read(bytes(MODEL.save_raw("ubj")))), document)
    assert document["learner"]["attributes"]["said"] == "ünïcode"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"T", True),
        (b"F", False),
        (b"Z", None),
        (b"i\xff", -1),
        (b"U\xff", 255),
        (b"I\x01\x00", 256),
        (b"D?\xf0\x00\x00\x00\x00\x00\x00", 1.0),
        (b"Si\x02\xc3\xbc", "ü"),
        (b"[i\x01[#U\x02TF]", [1, [True, False]]),
        (b"{i\x01a{}}", {"a": {}}),
    ],
)
def test_each_kind_of_value_is_read(data, value):
    """As the format says."""
    assert read(data) == value


@settings(deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.binary(max_size=3))
def test_what_is_broken_is_an_error_and_nothing_else(at, put):
    """Cut off it is always one; with other bytes in it, it may mean something else."""
    with pytest.raises(ValueError, match="no UBJSON"):
        read(PACKED[:at])
    try:
        read(PACKED[:at] + put + PACKED[at + len(put) :])
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data", [b"", b"?", b"Si\xff", b"SSi\x00", b"[$S#i\x01", b"[#L" + b"\x7f" * 8]
)
def test_what_xgboost_does_not_write_is_refused(data):
    """Also a length below zero, and one beyond the end."""
    with pytest.raises(ValueError, match="no UBJSON"):
        read(data)
