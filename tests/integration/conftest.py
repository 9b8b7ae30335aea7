"""A store that knows a city, and two months of its rides as files."""

from datetime import datetime

import pytest
from city import CITY, HEADER, LEGACY, old_ride, ride, write


@pytest.fixture(scope="session", autouse=True)
def few_rows():
    """Trainings learn as `train --quick` does: what tests ask of a model needs no more."""
    from bikecast import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "ROWS", train.QUICK_ROWS)
        yield


@pytest.fixture
def city(store):
    """A store that knows the city."""
    store.add_system(CITY)
    return store


@pytest.fixture
def april(tmp_path):
    """A month of rides: two an hour from 8 to 10 every day."""
    rides = [
        ride(f"{day}-{hour}-{i}", datetime(2021, 4, day, hour, 20 * i))
        for day in range(1, 31)
        for hour in (8, 9)
        for i in range(2)
    ]
    return write(tmp_path / "202104.csv", HEADER, rides)


@pytest.fixture
def january(tmp_path):
    """A month before the ids changed."""
    rides = [old_ride(day, datetime(2021, 1, day, 8)) for day in range(1, 32)]
    return write(tmp_path / "202101.csv", LEGACY, rides)
