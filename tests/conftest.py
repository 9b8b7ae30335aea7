"""Fixtures of all tests: real data where they are, a real PostgreSQL, a fresh database each."""

import os
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from bikecast.embedded import EmbeddedPostgres
from bikecast.models import boosted, network
from bikecast.store import Store, ensure_database
from bikecast.store.connection import (
    connect,
    create_database,
    fetch,
    parsed,
    session,
    transaction,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all` also runs the cases on real hosts that are marked ``full``."""
    parser.addoption("--all", action="store_true", help="run the tests marked `full` too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadscope` a file's tests stay together, and all that make hosts."""
    if config.getvalue("dist") != "loadscope":
        return None
    # Not groups by mark: pytest 9.2 takes no notice of the suffix that pytest-xdist 3.8 gives ids.
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            hosts = file.startswith("tests/e2e/") and not file.endswith(WITHOUT_HOSTS)
            return "hosts" if hosts else file

    return Groups(config, log)


WITHOUT_HOSTS = ("test_first_run.py", "test_readme.py")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which the project does not contain."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("BIKECAST_SHARED_DATA", default))
    if not folder.exists():
        pytest.skip(f"no real data in {folder}: set BIKECAST_SHARED_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def few_rounds():
    """What tests ask of trees needs no whole forest; how good that is, benches measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosted, "ROUNDS", 60)
        patch.setattr(boosted, "SHORT_ROUNDS", 60)
        patch.setattr(network, "EPOCHS", 2)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a real server: BIKECAST_TEST_DATABASE_URL, or one of this test run's own."""
    given = os.environ.get("BIKECAST_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedPostgres(folder) as server:
        wait_for_no_disk(server.url)
        yield server.url


def wait_for_no_disk(url: str) -> None:
    """What a power cut would cost is nothing here, and each transaction waits for the disk."""
    with closing(connect(parsed(url))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER SYSTEM SET fsync = off")
        cursor.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def template(postgres) -> str:
    """A migrated database that others are copied from."""
    name = f"template_{uuid.uuid4().hex[:8]}"
    Store(ensure_database(postgres, name)).upgrade()
    return name


@pytest.fixture(scope="session")
def hang_up(postgres):
    """Ends all connections to a database: MLflow keeps its own, until a server has no more."""

    def end(name):
        with session(postgres) as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            fetch(connection, query, (name,))

    return end


@pytest.fixture
def database_url(postgres, template, hang_up):
    """The URL of a migrated database that no other test sees."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    create_database(postgres, name, template=template)
    url = parsed(postgres).set(drivername="postgresql+psycopg2", database=name)
    yield url.render_as_string(hide_password=False)
    hang_up(name)


@pytest.fixture
def store(database_url) -> Store:
    """The store on a database of its own."""
    return Store(database_url)


@pytest.fixture
def rows(database_url):
    """Ask the database behind the store's back."""

    def ask(query, *values):
        with transaction(database_url) as connection:
            return fetch(connection, query, values)

    return ask
