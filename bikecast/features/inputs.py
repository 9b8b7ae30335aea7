"""What a model saw of one station, in a form that can be kept beside its forecasts."""

import io
from dataclasses import dataclass

import numpy as np

from bikecast.features import Features
from bikecast.history import Floats


@dataclass(frozen=True, eq=False)
class Inputs:
    """The features and levels of one station's coming hours, the first at the origin.

    :param names: of the features, as the release knew them that wrote this.
    :param values: [hours, targets, features], NaN where unknown.
    :param level: bikes per hour, [hours, targets].
    """

    names: tuple[str, ...]
    values: Floats
    level: Floats


def inputs_of(seen: Features, names: tuple[str, ...], station: int) -> Inputs:
    """One station's part of the features of one origin."""
    return Inputs(names, seen.values[:, station], seen.level[:, station])


def pack(inputs: Inputs) -> bytes:
    """As a compressed file of NumPy (npz).

    float32, because half of that moves some rows to another branch of a tree. Feature by feature,
    which takes 22 kB for a week where hour by hour takes 26 kB (two targets, 52 features, New
    York).
    """
    file = io.BytesIO()
    values = np.ascontiguousarray(inputs.values.transpose(2, 1, 0))
    np.savez_compressed(file, names=np.array(inputs.names), values=values, level=inputs.level)
    return file.getvalue()


def unpack(packed: bytes) -> Inputs:
    """The inverse of :func:`pack`; runs no code that the bytes may hold."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        names, values = tuple(file["names"].tolist()), file["values"].transpose(2, 1, 0)
        return Inputs(names, values, file["level"])
