"""What is kept of a model beside its table; the verb itself is tested in tests/integration."""

from bikecast.forecast import packed
from bikecast.models import MODELS
from bikecast.models.portable import pack


def test_a_model_of_an_older_release_still_forecasts(caplog):
    """What it cannot be explained with is not stored, which is said."""
    model = MODELS["mean4w"]()
    assert packed(model) == pack(model) and not caplog.records
    del model.alpha
    assert packed(model) is None and "until the next training" in caplog.text
