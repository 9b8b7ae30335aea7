"""API keys as the database knows them, and what admins did."""

from datetime import datetime

from bikecast.errors import InputError, UnknownName
from bikecast.keys import ApiKey
from bikecast.records import AdminAct
from bikecast.store.connection import fetch, transaction

COLUMNS = "key_id, name, sha256, created_at, revoked_at"
ADD = """
INSERT INTO api_key (key_id, name, sha256, created_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING key_id
"""
REVOKE = f"""
UPDATE api_key SET revoked_at = greatest(now(), created_at)
WHERE name = %s AND revoked_at IS NULL RETURNING {COLUMNS}
"""  # nosec B608  # of words above alone
ALL = f"SELECT {COLUMNS} FROM api_key ORDER BY created_at, key_id"  # nosec B608  # as above
VALID = f"SELECT {COLUMNS} FROM api_key WHERE revoked_at IS NULL"  # nosec B608  # as above
NOTE = "INSERT INTO admin_act (who, act, subject) VALUES (%s, %s, %s)"
ACTS = "SELECT at, who, act, subject FROM admin_act ORDER BY act_id DESC LIMIT %s"


class KeyBook:
    """The keys of one database, by its URL; every call is a transaction of its own.

    Each change is written down with who made it, in the same transaction: both, or neither.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def add(self, key: ApiKey, who: str) -> None:
        """Make a key valid.

        :raises InputError: where the name has one already.
        """
        values = (key.key_id, key.name, key.sha256, key.created_at)
        with transaction(self._url) as connection:
            if not fetch(connection, ADD, values):
                raise InputError(
                    f"there is a key named {key.name!r} already",
                    hint=f"choose another name, or `bikecast keys revoke {key.name}` first",
                )
            fetch(connection, NOTE, (who, "key created", f"{key.name} {key.key_id}"))

    def revoke(self, name: str, who: str) -> ApiKey:
        """Make a key invalid for good.

        :raises UnknownName: where no valid key has that name.
        """
        with transaction(self._url) as connection:
            rows = fetch(connection, REVOKE, (name,))
            if not rows:
                raise UnknownName(
                    f"no valid key is named {name!r}", hint="`bikecast keys list` shows them all"
                )
            key = _key(*rows[0])
            fetch(connection, NOTE, (who, "key revoked", f"{key.name} {key.key_id}"))
        return key

    def all(self) -> tuple[ApiKey, ...]:
        """Every key there ever was, the oldest first."""
        return self._keys(ALL)

    def valid(self) -> tuple[ApiKey, ...]:
        """The keys that are not revoked, in any order."""
        return self._keys(VALID)

    def note(self, who: str, act: str, subject: str = "") -> None:
        """Write down what an admin did."""
        with transaction(self._url) as connection:
            fetch(connection, NOTE, (who, act, subject))

    def acts(self, limit: int) -> tuple[AdminAct, ...]:
        """What admins did last, the newest first."""
        with transaction(self._url) as connection:
            return tuple(AdminAct(*row) for row in fetch(connection, ACTS, (limit,)))

    def _keys(self, query: str) -> tuple[ApiKey, ...]:
        with transaction(self._url) as connection:
            return tuple(_key(*row) for row in fetch(connection, query))


def _key(
    key_id: str, name: str, sha256: memoryview, created_at: datetime, revoked_at: datetime | None
) -> ApiKey:
    return ApiKey(key_id, name, bytes(sha256), created_at, revoked_at)
