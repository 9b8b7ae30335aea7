"""A host, what its answers mean, a dry run of it, and several of them at once."""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from bikecast.errors import BikecastError, CommandFailed, HostGone, LockLost
from bikecast.ops.commands import LOST, Command

T = TypeVar("T")
NO_CODE = -1  # of a command that a signal ended, or whose connection was closed
# What `timeout` ends with: it ended the command, or had to kill it, and mostly itself with it.
OUT_OF_TIME = (124, 137, NO_CODE)
LEFT_BEHIND = 5.0  # seconds that an interrupted fleet waits for what is under way


class Host(Protocol):
    """Where commands are run."""

    name: str

    def run(self, command: Command) -> str:
        """Run a command to its end; what it printed on stdout.

        :raises CommandFailed: with what it said, where its exit code is not 0.
        :raises LockLost: where the host says that the lock is somebody else's.
        :raises HostGone: where the host does not answer in time.
        """

    def tunnel(self, port: int) -> Any:
        """A context manager: a local port that leads to this port of the host itself."""

    def close(self) -> None:
        """Hang up."""


def printed(host: str, command: Command, code: int, out: str, said: str) -> str:
    """What a command printed on stdout, or the error that its exit code stands for."""
    if code == LOST:
        raise LockLost(
            f"{host}: the lock is not ours any more; nothing was changed",
            hint="see who has it with `inv status`",
        )
    if code:
        raise CommandFailed(host, str(command), code, said, out)
    return out


def in_time(host: str, command: Command, seconds: float, code: int, took: float) -> None:
    """See that a command was not ended by its limit.

    :param seconds: the limit of commands that have none of their own.
    :raises HostGone: where it was; whether it had its effect is not known.
    """
    limit = command.limit(seconds)
    if code in OUT_OF_TIME and took >= limit:
        raise HostGone(
            f"{host}: {command} did not end within {limit} s",
            hint="see whether the host is busy or its Docker hangs"
            + ("" if command.timeout else "; hosts.command_timeout is the limit"),
        )


class DryHost:
    """Prints what it would run; what only looks may still be run on the host behind it.

    :param seconds: the limit of commands that have none of their own.
    """

    def __init__(self, host: Host, say: Callable[[str], None], seconds: float) -> None:
        self.name = host.name
        self._host = host
        self._say = say
        self._seconds = seconds

    def run(self, command: Command) -> str:
        """See :class:`Host`."""
        text = command.limited(self._seconds)
        self._say(f"{self.name}$ {text}" + (" < (not shown)" if command.stdin else ""))
        return self._host.run(command) if command.reads else command.pretend

    def tunnel(self, port: int) -> Any:
        """See :class:`Host`; who asks changes nothing."""
        return self._host.tunnel(port)

    def close(self) -> None:
        """See :class:`Host`."""
        self._host.close()


class Fleet:
    """All hosts of an environment.

    :param concurrency: how many are worked on at a time.
    """

    def __init__(self, hosts: tuple[Host, ...], concurrency: int) -> None:
        self.hosts = hosts
        self._places = threading.Semaphore(concurrency)

    def each(
        self, do: Callable[[Host], T], hosts: tuple[Host, ...] | None = None
    ) -> tuple[dict[Host, T], dict[Host, BikecastError]]:
        """Do something on several hosts at once: what came of it, and where it failed.

        Not from within itself: all places may be taken by those who then wait for one.
        Interrupted, it waits a moment for what is under way and leaves the rest.
        """
        done: dict[Host, T] = {}
        failed: dict[Host, BikecastError] = {}
        crashed: list[Exception] = []

        def one(host: Host) -> None:
            with self._places:
                try:
                    done[host] = do(host)
                except BikecastError as error:
                    failed[host] = error
                except Exception as error:
                    crashed.append(error)

        chosen = self.hosts if hosts is None else hosts
        threads = [threading.Thread(target=one, args=(h,), daemon=True) for h in chosen]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            until = time.monotonic() + LEFT_BEHIND
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(until - time.monotonic(), 0))
            raise
        if crashed:
            raise crashed[0]
        order = {host: i for i, host in enumerate(chosen)}
        return (
            dict(sorted(done.items(), key=lambda item: order[item[0]])),
            dict(sorted(failed.items(), key=lambda item: order[item[0]])),
        )

    def all(self, do: Callable[[Host], T], hosts: tuple[Host, ...] | None = None) -> dict[Host, T]:
        """The same, where one failure makes it fail as a whole.

        :raises BikecastError: the first failure, naming the others.
        """
        done, failed = self.each(do, hosts)
        if failed:
            raise together(failed)
        return done

    def close(self) -> None:
        """Hang up everywhere."""
        for host in self.hosts:
            host.close()


def to_the_end(do: Callable[[], T]) -> T:
    """Do what must not stay half done: once more from its beginning where a signal cut it off.

    It must not hurt when it is done twice. Later signals cut nothing off, see `told` of the tasks.
    """
    try:
        return do()
    except Exception:
        raise
    except BaseException:
        do()
        raise


def together(failed: dict[Host, BikecastError]) -> BikecastError:
    """One error for what failed on several hosts: the first in full, the others by their name."""
    first = next(iter(failed.values()))
    others = [h.name for h in list(failed)[1:]]
    if others:
        first.what += f" (also failed: {', '.join(others)})"
    return first
