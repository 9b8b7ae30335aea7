"""What the service says on stderr: text for people, or a JSON object a line for machines."""

import json
import logging
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from select import PIPE_BUF
from time import perf_counter, time
from typing import Any, Final

from flask import Request, has_request_context, request

from bikecast.serve.around import Notes, notes_of
from bikecast.serve.clients import Clients

LEVELS: Final = {"text": "warning", "json": "info"}
"""Of each format: people are told what needs them, machines what happens as well."""
PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
"""Asked every second by machines, which would hide the rest; metrics count them."""
LONGEST_PATH: Final = 200  # characters; a station's id has 100 at most
STDERR: Final = 2


def start(form: str, level: str = "") -> str:
    """Let everything that this process and its workers say go to stderr in one format.

    :param form: ``text`` or ``json``.
    :param level: as gunicorn takes it; by default that of the format.
    :returns: the level.
    """
    level = level or LEVELS[form]
    lines = Lines(STDERR)
    lines.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.getLogger().handlers = [lines]
    # gunicorn's would hand nothing on.
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers, gunicorn.propagate = [lines], False
    gunicorn.addFilter(discreet)
    for logger in (gunicorn, logging.getLogger("bikecast")):
        logger.setLevel(level.upper())
    logging.captureWarnings(True)
    return level


def discreet(record: logging.LogRecord) -> bool:
    """Cut what gunicorn repeats of a request: its first line and its headers may hold a key.

    What is wrong with a request is said in the second part, and quoted in the third.
    """
    said = record.getMessage()
    if said.startswith("Invalid request"):
        said = ": ".join(said.split(": ")[:2])
    elif said.startswith("Error handling request"):
        said = said.partition("?")[0]
    record.msg, record.args = said, None
    return True


class Access:
    """Writes a JSON object for each request, but for those of probes.

    Neither its query nor its headers or body, where secrets may stand. Past Python's logging, which
    takes twice as long; so it costs some 20 µs a request.

    :param clients: tells whose a request is.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients, self._lines = clients, Lines(STDERR)

    def tell(self, asked: Request, notes: Notes, status: int) -> None:
        """Write of one request, when its answer starts."""
        rule = asked.url_rule.rule if asked.url_rule else None
        if rule not in PROBES:
            seconds = perf_counter() - notes.began
            client = notes.address or self._clients.of(asked.environ)
            self._lines.write(_answered(asked, client, rule, notes.request_id, status, seconds))


def _answered(
    asked: Request, client: str, rule: str | None, name: str, status: int, seconds: float
) -> str:
    """A line, made by hand in 4 µs; :func:`json.dumps` takes 6."""
    return (
        f'{{"time": "{_when(time())}", "level": "info", "logger": "bikecast.access", '
        f'"pid": {os.getpid()}, "message": "answered", "request_id": {quoted(name)}, '
        f'"method": {quoted(asked.method)}, "route": {quoted(rule) if rule else "null"}, '
        f'"path": {quoted(asked.path[:LONGEST_PATH])}, '
        f'"client": {quoted(client) if client else "null"}, '
        f'"status": {status}, "milliseconds": {seconds * 1000:.3f}}}'
    )


def _when(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03}+00:00"


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Lines(logging.Handler):
    """Writes lines to a descriptor; what cannot be written at once is lost, and nobody waits.

    The engine of a container may stand still, and a disk be full: the service goes on.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = unhurried(descriptor)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self.write(self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write one line that is short enough for a pipe to take it whole."""
        try:
            os.write(self._descriptor, _bytes(line + "\n"))
        except OSError:  # nobody reads, the disk is full: answers go on
            pass


def unhurried(descriptor: int) -> int:
    """A descriptor of the same pipe on which writing never waits; of anything else, the same one.

    A new one, as others may write to the old one, such as the shell.
    """
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # another's pipe, or another system
            pass
    return descriptor


class JsonLines(logging.Formatter):
    """One JSON object, of ASCII characters alone, so that nobody's text ends or fakes a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, and which request it is about where there is one."""
        document: dict[str, Any] = {
            "time": _when(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **_request(),
        }
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return _fitted(json.dumps, document)


def _request() -> dict[str, Any]:
    if not has_request_context():
        return {}
    notes = notes_of(request)
    return {
        "request_id": notes.request_id if notes else None,
        "method": request.method,
        "route": request.url_rule.rule if request.url_rule else None,
        "path": request.path[:LONGEST_PATH],
    }


class TextLines(logging.Formatter):
    """As gunicorn's own, but that nobody's text ends a line; a trace stands behind spaces."""

    def __init__(self) -> None:
        super().__init__()
        self._when = logging.Formatter(datefmt="%Y-%m-%d %H:%M:%S %z")

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line, and its trace below."""
        when = self._when.formatTime(record, self._when.datefmt)
        parts = {"message": record.getMessage().rstrip()}
        if record.exc_info:
            parts["trace"] = self.formatException(record.exc_info)

        def written(parts: dict[str, Any]) -> str:
            said, below = _visible(parts["message"]), parts.get("trace", "").splitlines()
            head = f"[{when}] [{record.process}] [{record.levelname}] {said}"
            return "\n    ".join((head, *map(_visible, below)))

        return _fitted(written, parts)


def _visible(text: str) -> str:
    r"""Without characters that end a line or steer a terminal.

    >>> _visible("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _fitted(write: Callable[[dict[str, Any]], str], parts: dict[str, Any]) -> str:
    """Short enough for a pipe to take it whole: the end of a trace or a message says most."""
    while len(_bytes(text := write(parts))) >= PIPE_BUF:
        longest = max(parts, key=lambda name: len(str(parts[name])))
        value = str(parts[longest])
        parts[longest] = "…" + value[len(value) // 2 + 1 :]
    return text


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
