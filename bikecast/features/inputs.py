"""What a model saw of one station, in a form that can be kept beside its forecasts."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bikecast.features import Features
from bikecast.features.sky import Sky
from bikecast.history import Floats


@dataclass(frozen=True, eq=False)
class Inputs:
    """The features and levels of one station's coming hours, the first at the origin.

    Releases keep those of two weeks; before, they kept the first week alone.

    :param names: of the features, as the release knew them that wrote this.
    :param values: [hours, targets, features], NaN where unknown.
    :param level: bikes per hour, [hours, targets].
    :param sky: of what the features of the weather are made; None where a release wrote this that
        did not keep it.
    """

    names: tuple[str, ...]
    values: Floats
    level: Floats
    sky: Sky | None = None


def inputs_of(seen: Features, names: tuple[str, ...], station: int, sky: Sky) -> Inputs:
    """One station's part of the features of one origin."""
    return Inputs(names, seen.values[:, station], seen.level[:, station], sky)


def pack(inputs: Inputs) -> bytes:
    """As a compressed file of NumPy (npz).

    float32, because half of that moves some rows to another branch of a tree. Feature by feature,
    which takes 22 kB for a week where hour by hour takes 26 kB (two targets, 52 features, New
    York).

    Releases that know nothing of the sky read all the rest.
    """
    file = io.BytesIO()
    arrays = {"names": np.array(inputs.names), "level": inputs.level}
    arrays["values"] = np.ascontiguousarray(inputs.values.transpose(2, 1, 0))
    if inputs.sky is not None:
        first, hourly = np.array(inputs.sky.first), np.ascontiguousarray(inputs.sky.hourly.T)
        arrays |= {"sky_first": first, "sky_hourly": hourly, "sky_usual": inputs.sky.usual}
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack(packed: bytes) -> Inputs:
    """The inverse of :func:`pack`; runs no code that the bytes may hold."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        names, values = tuple(file["names"].tolist()), file["values"].transpose(2, 1, 0)
        return Inputs(names, values, file["level"], _sky(file))


def _sky(file: Mapping[str, NDArray[Any]]) -> Sky | None:
    if "sky_first" not in file:
        return None
    hourly = np.ascontiguousarray(file["sky_hourly"].T)
    return Sky(hourly, int(file["sky_first"]), file["sky_usual"])
