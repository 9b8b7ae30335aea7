"""What stored models take for granted: whoever changes it raises ``FORM``, and these numbers."""

import numpy as np
import pytest
from made_up import small_history, with_weather

from bikecast.errors import OtherRelease
from bikecast.features import NAMES, features, pairs
from bikecast.models import MODELS, learned
from bikecast.models.base import Grid
from bikecast.models.learned import FORM
from bikecast.models.network import inputs
from bikecast.models.statistical import design

STATION = NAMES.index("station")
VALUES = (np.arange(len(NAMES), dtype=np.float32) % 5)[None]
VALUES[:, NAMES.index("workday")] = 1


def told(values):
    """One number that hardly anything leaves as it was."""
    flat = np.nan_to_num(np.asarray(values, float)).ravel()
    return float(flat @ np.sin(np.arange(1, len(flat) + 1)))


def test_the_form_is_that_of_the_features_and_of_what_is_made_of_them():
    """With FORM 2; an older model would read what is new as what it knew."""
    history = with_weather(small_history())
    seen = features(history, *pairs(np.array([40 * 24]), 24))
    found = [
        told(inputs(VALUES, False)),
        told(inputs(VALUES, True)),
        told(design(VALUES)),
        told(seen.values[..., :STATION]),
        told(seen.values[..., STATION + 1 :]),
        told(seen.level),
    ]
    assert (FORM, len(NAMES)) == (2, 77)
    assert found == pytest.approx([-0.9135, -2.5311, -11.0839, -79.637, -227.862, 10.557], rel=1e-3)


def test_a_model_of_another_form_is_refused(monkeypatch):
    """By name, when it is loaded, as it was stored or packed."""
    model = MODELS["glm"]()
    model.fit(small_history(), Grid(24))
    state, packed = vars(model).copy(), model.portable()
    monkeypatch.setattr(learned, "FORM", FORM + 1)
    with pytest.raises(OtherRelease, match="other features"):
        MODELS["glm"]().__setstate__(state)
    with pytest.raises(KeyError, match="inputs of this release"):
        MODELS["glm"]().restore(packed)
    packed.pop("form")
    monkeypatch.undo()
    with pytest.raises(KeyError):
        MODELS["glm"]().restore(packed)
