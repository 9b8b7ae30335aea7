"""Which version of a model was in production: written down for good."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection as Connection

from bikecast.errors import Locked
from bikecast.records import Promotion
from bikecast.store.connection import fetch, parsed, session, translated

COLUMNS = "at, kind, from_version, to_version, who, why, system_id"
ALL = f"""
SELECT {COLUMNS} FROM promotion WHERE model_name = %s ORDER BY promotion_id
"""  # nosec B608  # of words above alone
ADD = f"""
INSERT INTO promotion (model_name, kind, from_version, to_version, who, why, system_id)
VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {COLUMNS}
"""  # nosec B608  # as above
PAUSE = 0.2  # seconds between two tries
TURN = "SELECT pg_try_advisory_lock(hashtext(%s))"


class PromotionBook:
    """The moves of one registered model in one database, by its URL.

    :param model_name: as the registry has it.
    """

    def __init__(self, url: str, model_name: str) -> None:
        self._url = url
        self._model_name = model_name

    def all(self) -> tuple[Promotion, ...]:
        """Every move, the oldest first."""
        with session(self._url) as connection:
            return _all(connection, self._model_name)

    @contextmanager
    def turn(self, patience: float = 0.0) -> Iterator["Turn"]:
        """The only one who moves this model meanwhile.

        :param patience: seconds to wait for whoever is at it.
        :raises Locked: where somebody still is.
        """
        until = time.monotonic() + patience
        with session(self._url) as connection:
            while not fetch(connection, TURN, (f"promotion of {self._model_name}",))[0][0]:
                if time.monotonic() >= until:
                    raise Locked(
                        f"another command moves {self._model_name} in production",
                        hint="wait for its end, then try again",
                    )
                time.sleep(PAUSE)
            yield Turn(connection, self._model_name, self._url)


class Turn:
    """Whose turn it is may read and write; each line is kept as soon as it is written."""

    def __init__(self, connection: Connection, model_name: str, url: str) -> None:
        self._connection = connection
        self._model_name = model_name
        self._url = parsed(url)

    def all(self) -> tuple[Promotion, ...]:
        """Every move, the oldest first."""
        with translated(self._url):
            return _all(self._connection, self._model_name)

    def add(
        self, kind: str, before: str, after: str, *, who: str, why: str, system_id: str
    ) -> Promotion:
        """Write a move down; when, says the database."""
        values = (self._model_name, kind, before, after, who, why, system_id)
        with translated(self._url):
            return Promotion(*fetch(self._connection, ADD, values)[0])


def _all(connection: Connection, model_name: str) -> tuple[Promotion, ...]:
    return tuple(Promotion(*row) for row in fetch(connection, ALL, (model_name,)))
