"""Packed models of other releases are refused, and nothing that they hold is run."""

import io

import numpy as np
import pytest

from bikecast.errors import InputError
from bikecast.features import NAMES
from bikecast.models.learned import FORM
from bikecast.models.portable import unpack

ALPHA = np.zeros(2, np.float32)
OTHER, SAME = np.array(FORM + 1), np.array(FORM)
KNOWN = {"year": np.array(True), "features": np.array(NAMES)}
OTHERS = {**KNOWN, "features": np.array(NAMES[::-1])}


def packed(**arrays):
    """A file of NumPy, as a model of whatever release would be."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"alpha": ALPHA}, "has no 'name'"),
        ({"name": np.array("prophet"), "alpha": ALPHA}, "has no 'prophet'"),
        ({"name": np.array("glm"), "alpha": ALPHA}, "has no 'year'"),
        ({"name": np.array("glm"), "year": np.array(True)}, "has no 'features'"),
        ({"name": np.array("glm"), **OTHERS}, "has no 'features of this release'"),
        ({"name": np.array("glm"), **KNOWN}, "has no 'form'"),
        ({"name": np.array("glm"), **KNOWN, "form": OTHER}, "has no 'inputs of this release'"),
        ({"name": np.array("glm"), **KNOWN, "form": SAME}, "has no 'without_weather'"),
        ({"name": np.array("naive"), "alpha": ALPHA, "beta": ALPHA}, "has beta"),
    ],
)
def test_a_model_that_this_release_would_not_make_so_is_refused(arrays, says):
    """Its explanations would be another model's."""
    with pytest.raises(InputError, match=f"other models: it {says}; issue it anew"):
        unpack(packed(**arrays))


def test_python_objects_are_not_loaded():
    """Whoever writes to the database runs no code in the service."""
    harmful = np.array([print], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(packed(name=np.array("naive"), alpha=harmful))
