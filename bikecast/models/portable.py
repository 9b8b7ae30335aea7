"""A fitted model as bytes that hold data only: kept beside its forecasts, read by the service."""

import io

import numpy as np

from bikecast.errors import InputError
from bikecast.models import MODELS
from bikecast.models.base import Arrays, Explainable


def pack(model: Explainable) -> bytes:
    """As a compressed file of NumPy (npz): its arrays, and its entry in MODELS as ``name``.

    The same model gives the same bytes.
    """
    file = io.BytesIO()
    arrays = {"name": np.array(model.name)} | model.portable()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack(packed: bytes) -> Explainable:
    """The inverse of :func:`pack`; runs no code that the bytes may hold.

    :raises InputError: for a model that this release would not make so.
    """
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        arrays: Arrays = dict(file)
    try:
        model = MODELS[str(arrays.pop("name"))]()
        model.restore(arrays)
    except KeyError as error:
        raise _of_another_release(f"it has no {error}") from error
    if more := arrays.keys() - model.portable().keys():
        raise _of_another_release(f"it has {', '.join(sorted(more))}")
    return model


def _of_another_release(detail: str) -> InputError:
    return InputError(
        f"the forecast was issued by a release with other models: {detail}",
        hint="issue it anew: `bikecast forecast`",
    )
