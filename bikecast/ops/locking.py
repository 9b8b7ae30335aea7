"""The lock on every host: taken in a fixed order, kept alive, given back."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bikecast.errors import BikecastError, CommandFailed, Locked, LockLost
from bikecast.ops.commands import (
    LOCK_EXPIRES,
    keep_lock,
    release_lock,
    take_lock,
)
from bikecast.ops.host import Fleet, Host, to_the_end
from bikecast.ops.state import Lock, parse_lock

HEARTBEAT = 5.0  # seconds
ASK_AGAIN = 1.0  # seconds


def machine() -> str:
    """This machine since its last start, where that can be told."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}".strip()


def started(pid: int) -> str:
    """When a process was started, to tell it from a later one of the same number; empty: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def owner_line(who: str, reason: str) -> str:
    """What stands in a lock of ours."""
    return json.dumps(
        {
            "who": who,
            "reason": reason,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "pid": os.getpid(),
            "started": started(os.getpid()),
        }
    )


def has_ended(owner: dict[str, Any]) -> bool:
    """Whether an owner on this very machine is known to be gone."""
    if owner.get("machine") != machine() or not owner.get("started"):
        return False
    return started(int(owner.get("pid", 0))) != str(owner["started"])


def told_owner(lock: Lock) -> str:
    """Who holds a lock, in words."""
    who, reason = lock.owner.get("who", "somebody"), lock.owner.get("reason", "unknown work")
    return f"{who} ({reason}, since {lock.owner.get('since', '?')}, last seen {lock.age} s ago)"


@contextmanager
def locked(
    fleet: Fleet,
    directory: str,
    who: str,
    reason: str,
    hosts: tuple[Host, ...],
    say: Callable[[str], None],
    wait: float = 0,
) -> Iterator[str]:
    """Hold the lock of some hosts for a ``with`` block, which gets its token.

    :param wait: seconds to wait for whoever holds it.
    :raises Locked: naming who holds it.
    """
    token = secrets.token_hex(8)
    taken: list[Host] = []
    stop = threading.Event()
    until = time.monotonic() + wait
    try:
        # Two deployers that took hosts in different orders could each wait for the other.
        for host in sorted(hosts, key=lambda h: h.name):
            # Listed before it is asked: cut off or unheard, it may have been taken all the same.
            taken.append(host)
            try:
                _take(host, directory, token, owner_line(who, reason), until, say)
            except (Locked, CommandFailed):
                taken.remove(host)
                raise
            # Each host has a heart of its own: it waits for no work, and for no other host.
            threading.Thread(
                target=_beat, args=(host, directory, token, stop, say), daemon=True
            ).start()
        yield token
    finally:
        stop.set()
        to_the_end(lambda: _release(fleet, directory, token, tuple(taken), say))


def _take(
    host: Host, directory: str, token: str, owner: str, until: float, say: Callable[[str], None]
) -> None:
    dead, waiting = "", False
    while True:
        answer, _, rest = host.run(take_lock(directory, token, owner, dead)).strip().partition(" ")
        if answer != "held":
            if answer == "over":
                say(f"{host.name}: the lock of {told_owner(parse_lock(rest))} is taken over")
            return
        lock = parse_lock(rest)
        if has_ended(lock.owner):
            dead = lock.text
            continue
        if time.monotonic() > until:
            raise Locked(
                f"{host.name} is locked by {told_owner(lock)}",
                hint=f"wait with --wait; it expires {LOCK_EXPIRES} s after its last sign of life",
            )
        if not waiting:
            say(f"{host.name}: waiting for {told_owner(lock)}")
        waiting = True
        time.sleep(ASK_AGAIN)


def _beat(
    host: Host, directory: str, token: str, stop: threading.Event, say: Callable[[str], None]
) -> None:
    while not stop.wait(HEARTBEAT):
        try:
            host.run(keep_lock(directory, token))
        except LockLost as error:
            if not stop.is_set():
                say(str(error))
            return
        except BikecastError:
            pass  # A host that is gone shows at the next step.


def _release(
    fleet: Fleet,
    directory: str,
    token: str,
    taken: tuple[Host, ...],
    say: Callable[[str], None],
) -> None:
    _, failed = fleet.each(lambda h: h.run(release_lock(directory, token)), taken)
    for host, error in failed.items():
        if not isinstance(error, LockLost):
            say(f"{host.name}: its lock could not be given back and will expire: {error.what}")
