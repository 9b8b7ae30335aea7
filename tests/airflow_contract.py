"""What `bikecast.ops.airflow` expects of an Airflow: asked of the stand-in and of the real one.

So was an Airflow 2.11, by hand.
"""

import pytest

from bikecast.errors import BikecastError
from bikecast.ops.airflow import Airflow


def starts_a_run_once(airflow: Airflow, name: str) -> None:
    """Under the name given; a second one of that name is refused, and one that is not there."""
    airflow.check()
    airflow.start(name, "a note")
    assert airflow.state(name) in ("queued", "running", "success")
    assert name not in airflow.others(name)
    with pytest.raises(BikecastError, match="answers 409 to POST"):
        airflow.start(name, "again")
    # Airflow 2 says of such a run that it has no tasks.
    for asked in (airflow.state, lambda run: airflow.result(run, "train")):
        with pytest.raises(BikecastError, match="answers 404 to GET"):
            asked("no-such-run")
