"""The service over a made-up forecast, without a network or a database."""

from collections.abc import Callable

import pytest
from fakes import FakeSource, published
from flask.testing import FlaskClient

from bikecast.config import Settings
from bikecast.serve.app import create_app
from bikecast.serve.current import CurrentTable
from bikecast.serve.known import KnownKeys

HOURS_OLD = 3


@pytest.fixture
def source() -> FakeSource:
    """Holds one forecast from 2018-07-16 00:00 in New York."""
    return FakeSource(published())


@pytest.fixture
def current(source: FakeSource) -> CurrentTable:
    """The table of ``source``, refreshed only by the test."""
    current = CurrentTable(source)
    current.refresh()
    return current


@pytest.fixture
def make_client() -> Callable[..., FlaskClient]:
    """A client of a service whose clock stands some hours behind the end of the data."""

    def make(
        current: CurrentTable,
        hours_old: float = HOURS_OLD,
        keys: KnownKeys | None = None,
        **settings: object,
    ) -> FlaskClient:
        as_of = published().issue.as_of.timestamp()
        app = create_app(
            current,
            Settings(**settings),  # type: ignore[arg-type]
            now=lambda: as_of + hours_old * 3600,
            keys=keys,
        )
        return app.test_client()

    return make


@pytest.fixture
def client(current: CurrentTable, make_client: Callable[..., FlaskClient]) -> FlaskClient:
    """A client of the service over ``current``."""
    return make_client(current)


@pytest.fixture
def asking(
    make_client: Callable[..., FlaskClient],
) -> Callable[[FakeSource], tuple[FlaskClient, CurrentTable]]:
    """Makes a client over a source."""

    def make(source: FakeSource) -> tuple[FlaskClient, CurrentTable]:
        current = CurrentTable(source)
        current.refresh()
        return make_client(current), current

    return make
