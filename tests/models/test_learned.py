"""What a learned forecaster was fitted on, and what it may be asked."""

import pickle

import numpy as np
import pytest
from made_up import small_history

from bikecast.errors import InputError
from bikecast.models import MODELS, learned
from bikecast.models.base import Grid

HISTORY = small_history()


def test_a_model_of_a_release_with_other_features_is_refused(monkeypatch):
    """It would take one feature for another; the error says to train anew."""
    model = MODELS["glm"]()
    model.fit(HISTORY, Grid(24, 24))
    stored = pickle.dumps(model)
    monkeypatch.setattr(learned, "NAMES", (*learned.NAMES[1:], learned.NAMES[0]))
    with pytest.raises(InputError, match="glm was trained by a release with other features"):
        pickle.loads(stored).predict(HISTORY, np.array([HISTORY.known]), 24)
