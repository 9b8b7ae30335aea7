"""gunicorn, set up and run from here: no configuration file, nothing read from the environment."""

import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from bikecast.config import Settings
from bikecast.errors import InputError, InUse, Unavailable
from bikecast.serve import logs
from bikecast.serve.app import create_app
from bikecast.serve.counting import counting
from bikecast.serve.current import CurrentTable
from bikecast.serve.gate import check
from bikecast.serve.hurry import PunctualWorker
from bikecast.serve.kept import KeptTable, database_folder, kept_folder
from bikecast.serve.known import KeptKeys, KnownKeys
from bikecast.serve.limits import Limiter
from bikecast.serve.source import Source

# No `max_requests`: in 120,000 requests two workers went from 85.2 to 84.0 MB each (PSS), and a
# worker that starts anew loads model and libraries anew. No `preload_app` either: a model with
# several threads that was loaded before the fork waits for them forever.
THREADS = 4
GRACEFUL_SECONDS = 20
# Longer than a proxy keeps an idle connection (nginx: 60 s), so that it is never we who close one
# just as the next request is sent on it.
KEEPALIVE_SECONDS = 75
UNIX = "unix:"
# Python lets a thread that reckons go on for 5 ms before another one's turn. While a worker takes a
# new table, a request waits for its turn several times: after each read, write and lock. With
# 0.5 ms what-ifs take 5 % more of a worker.
TURN_SECONDS = 0.002
SPARE_COLUMNS = 2  # for workers that begin while those they replace still answer


def serve(
    settings: Settings,
    source: Callable[[], Source],
    *,
    log_level: str = "",
    on_ready: Callable[[str], None] = lambda url: None,
) -> int:
    """Serve until a signal ends it; the number of that signal.

    SIGTERM lets requests end first, SIGINT does not wait for them.

    :param source: called in each worker, after the fork, because connections do not survive one.
    :param log_level: debug, info, warning, error, critical; by default that of the log's format.
    :param on_ready: called with the service's URL once its address is taken.
    :raises InUse: where another process listens on the address.
    :raises Unavailable: where the workers could not start.
    """
    if settings.workers < 1:
        raise InputError(f"{settings.workers} workers", hint="set --workers to 1 or more")
    check(settings)
    listener = listen(settings.bind)
    url = _url(listener)
    master = os.getpid()
    limiter = Limiter(settings.workers + SPARE_COLUMNS)
    options = {
        "bind": f"fd://{listener.detach()}",
        "workers": settings.workers,
        "worker_class": PunctualWorker,
        "threads": THREADS,
        "graceful_timeout": GRACEFUL_SECONDS,
        "keepalive": KEEPALIVE_SECONDS,
        "loglevel": logs.start(settings.log_format, log_level),
        "errorlog": None,  # the handlers are there already
        "proc_name": "bikecast",
        "control_socket_disable": True,
        "when_ready": lambda server: on_ready(url),
    }
    with counting() as places:

        def begin(server: Arbiter, worker: Any) -> None:
            places.after_fork(server, worker)
            limiter.take(worker.place)

        options |= {
            "pre_fork": places.before_fork,
            "post_fork": begin,
            # Not on a disk: a start needs no room on any, and a slow one ends no worker.
            "worker_tmp_dir": str(places.folder),
        }
        program = _Gunicorn(options, lambda: _load(settings, source(), limiter))
        _run(program, settings, master)
    return program.ended_by


def _run(program: "_Gunicorn", settings: Settings, master: int) -> None:
    try:
        program.run()
    except (SystemExit, HaltServer) as stop:  # the latter where several workers fail at once
        code = stop.code if isinstance(stop, SystemExit) else stop.exit_status
        if os.getpid() != master:
            _leave_worker(code)
        if code:
            raise Unavailable(
                f"the service on {settings.bind} could not run", hint="read its log above"
            ) from stop


def listen(bind: str) -> socket.socket:
    """Take an address before anything is forked.

    :param bind: ``host:port``, IPv6 in brackets, port 0 takes a free one; or ``unix:/path``.
    :raises InUse: where another process listens there.
    :raises InputError: for what is no address of this machine.
    """
    if bind.startswith(UNIX):
        return _listen_on_file(bind)
    host, _, port = bind.rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[")
    if not host or bare_ipv6 or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"{bind!r} is no address", hint="write --bind host:port or unix:/path")
    try:
        where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, _, _, address = where[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise InputError(f"no host {host!r}: {error}", hint="set --bind") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _cannot_listen(bind, error) from error
    return listener


def _listen_on_file(bind: str) -> socket.socket:
    path = bind.removeprefix(UNIX)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "")
        # What a process that ended hard has left behind.
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
        os.chmod(path, 0o660)  # nosec B103  # for the proxy, which is of the same group
        listener.listen()
    except OSError as error:
        listener.close()
        raise _cannot_listen(bind, error) from error
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        return asking.connect_ex(path) == 0


def _cannot_listen(bind: str, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InUse(f"{bind} is in use by another process", hint="choose another with --bind")
    return InputError(f"cannot listen on {bind}: {error.strerror}", hint="set --bind")


def _url(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return UNIX + str(listener.getsockname())
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, options: dict[str, Any], load: Callable[[], Flask]) -> None:
        self._options = options
        self._load = load
        self.ended_by = 0
        super().__init__()

    def run(self) -> None:
        """Run the master, and remember which signal ended it."""
        _Master(self).run()

    def load_config(self) -> None:
        """Hand the options over; one that this version of gunicorn does not have is left out."""
        for name, value in self._options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application; called in the worker."""
        return self._load()


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master ends with 0 whatever ended it; ours tells."""

    def handle_int(self) -> None:
        """End now."""
        self.app.ended_by = signal.SIGINT
        super().handle_int()

    def handle_quit(self) -> None:
        """End now."""
        self.app.ended_by = signal.SIGQUIT
        super().handle_quit()

    def handle_term(self) -> None:
        """End when the requests at hand are answered."""
        self.app.ended_by = signal.SIGTERM
        super().handle_term()


def _load(settings: Settings, source: Source, limiter: Limiter) -> Flask:
    current = CurrentTable(
        source, KeptTable(kept_folder(settings.data_dir, source.database, source.system_id))
    )
    keys = KnownKeys(source, KeptKeys(database_folder(settings.data_dir, source.database)))
    keys.follow()
    current.follow()
    app = create_app(current, settings, keys=keys, limiter=limiter)
    _settle()
    return app


def _settle() -> None:
    """Take what is there now for what stays, and let no thread keep requests waiting.

    Else Python looks through all of it for garbage soon after the start, and again after some new
    tables: 0.1 s for which each request of the worker waits.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(TURN_SECONDS)


def _leave_worker(code: object) -> None:
    """End a forked worker without unwinding into whatever its parent had open.

    gunicorn forks below the caller of :func:`serve`: leaving by an exception would run the
    caller's ``with`` blocks and exit handlers a second time, and stop the parent's database.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
