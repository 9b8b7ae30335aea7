"""The keys that a worker knows: followed as they change, and kept on disk for a start without them.

Of a key only its hash is in memory and on disk.
"""

import fcntl
import hmac
import json
import logging
import threading
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bikecast.keys import ApiKey, fingerprint, key_id
from bikecast.serve.source import KeySource

POLL_SECONDS: Final = 2.0
"""So that a revoked key is refused within 5 s, and 10 s on a busy machine."""
FIRST_WITHIN: Final = 2.0
"""Seconds that a start waits for the keys; until they are known nobody can be let in by one."""
NAME: Final = "keys-1.json"
"""With the number of its form: releases that share a folder read files of their own form."""
NOBODY: Final = bytes(32)

log = logging.getLogger(__name__)


class KeptKeys:
    """The keys of a database on disk, readable to their owner alone.

    :param folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / NAME

    def load(self) -> tuple[ApiKey, ...] | None:
        """The keys; None where there is no such file.

        :raises ValueError: for a file that something else wrote.
        :raises OSError: for one that cannot be read.
        """
        try:
            said = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return None
        try:
            return tuple(_key(one) for one in said["keys"])
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self._file} holds no keys: {error}") from error

    def keep(self, keys: tuple[ApiKey, ...]) -> None:
        """Put keys in the place of those that are there; whole or not at all.

        Where another worker is at it, nothing is done: it has them from the same database, and
        what it leaves is compared again.

        :raises OSError: where the disk is full, or may not be written.
        """
        said = [_document(key) for key in sorted(keys, key=lambda key: key.key_id)]
        content = json.dumps({"keys": said}).encode()
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "keys.lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if not self._file.exists() or self._file.read_bytes() != content:
                self._replace(content)

    def _replace(self, content: bytes) -> None:
        unfinished = self._file.with_suffix(".new")
        try:
            unfinished.unlink(missing_ok=True)
            unfinished.touch(0o600, exist_ok=False)
            unfinished.write_bytes(content)
            unfinished.replace(self._file)
        finally:
            unfinished.unlink(missing_ok=True)


class KnownKeys:
    """The valid keys, as they were when the database last answered.

    :param kept: where they are left for the next start.
    """

    def __init__(self, source: KeySource, kept: KeptKeys | None = None) -> None:
        self.source = source
        self._kept = kept
        self._keys: dict[str, ApiKey] | None = None
        self._turn = threading.Lock()
        self._complained: set[str] = set()

    @property
    def known(self) -> bool:
        """Whether they could ever be had; before, nobody can say whether a key is valid."""
        return self._keys is not None

    @property
    def trouble(self) -> str | None:
        """What is wrong with them, in words for whoever asks."""
        return "the keys cannot be read" if "source" in self._complained else None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._keys or ())

    def find(self, given: str) -> ApiKey | None:
        """The valid key that was given; takes as long for one that is nearly right."""
        found = (self._keys or {}).get(key_id(given) or "")
        same = hmac.compare_digest(fingerprint(given), found.sha256 if found else NOBODY)
        return found if same else None

    def refresh(self) -> None:
        """Take the keys as they are now; where they cannot be had, those that are known stay."""
        with self._turn:
            try:
                keys = self.source.keys()
            except Exception as error:  # whatever it is, who has a key goes on
                self._complain("source", "the keys cannot be had: %s", error)
                return
            self._complained.discard("source")
            self._keys = {key.key_id: key for key in keys}
            self._keep(keys)

    def _keep(self, keys: tuple[ApiKey, ...]) -> None:
        if self._kept is None:
            return
        try:
            self._kept.keep(keys)
        except OSError as error:
            self._complain(
                "disk", "the keys are in memory alone, a restart would lose them: %s", error
            )
        else:
            self._complained.discard("disk")

    def restore(self) -> None:
        """Take the keys that were kept."""
        try:
            keys = self._kept.load() if self._kept else None
        except (OSError, ValueError) as error:
            log.warning("what was kept of the keys is of no use: %s", error)
            return
        if keys is not None:
            self._keys = {key.key_id: key for key in keys}

    def _complain(self, of: str, message: str, error: Exception) -> None:
        """Once, until it is over."""
        if of not in self._complained:
            log.warning(message, error, exc_info=log.isEnabledFor(logging.DEBUG))
        self._complained.add(of)

    def follow(self, every: float = POLL_SECONDS) -> threading.Event:
        """Take what is kept, then refresh every few seconds in a thread of its own.

        Not in that of the forecasts: while a large one is loaded, revoked keys would go on.

        :returns: set it to end the thread.
        """
        stop, first = threading.Event(), threading.Event()

        def run() -> None:
            self.refresh()
            first.set()
            while not stop.wait(every):
                self.refresh()

        self.restore()
        threading.Thread(target=run, name="follow-keys", daemon=True).start()
        first.wait(FIRST_WITHIN)
        return stop


def _document(key: ApiKey) -> dict[str, str]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "sha256": key.sha256.hex(),
        "created_at": key.created_at.isoformat(),
    }


def _key(said: dict[str, Any]) -> ApiKey:
    created_at = datetime.fromisoformat(said["created_at"])
    return ApiKey(said["key_id"], said["name"], bytes.fromhex(said["sha256"]), created_at)
