"""API keys: how one is made and known again; nothing here asks a database.

A key is ``bikecast_ID_SECRET``. The id is public and finds the key; the secret is 256 random bits.
The database keeps SHA-256 of the whole, without salt or stretching: those are for passwords, which
can be guessed. Nobody guesses 256 bits, and a slow hash would only make every request slow.
"""

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

PREFIX: Final = "bikecast"
"""So that whoever finds a key, such as a scanner of repositories, knows what it opens."""
_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; not the key itself.

    :param sha256: of the whole key, 32 bytes.
    """

    key_id: str
    name: str
    sha256: bytes = field(repr=False)
    created_at: datetime
    revoked_at: datetime | None = None


def new_key(name: str) -> tuple[str, ApiKey]:
    """A new key for somebody: the key, to be shown once, and what may be kept of it."""
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return text, ApiKey(key_id, name, fingerprint(text), datetime.now(UTC))


def key_id(text: str) -> str | None:
    """The public part of a key; None for what is no key."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def fingerprint(text: str) -> bytes:
    """The hash by which a secret is compared, 32 bytes."""
    return sha256(text.encode()).digest()
