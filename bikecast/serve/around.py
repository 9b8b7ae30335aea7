"""What stands around each request: its name, the headers of every answer, and who notes it.

A layer of WSGI around Flask, and none of its hooks: each of those takes some 5 µs, and headers set
one by one take more than a look-up in the table does.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast

from flask import Request, request
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REQUEST_ID: Final = "X-Request-Id"
EVERY: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""Of answers that say nothing else: no browser should run, frame, keep or mistake them."""
_NOTES: Final = "bikecast.notes"

log = logging.getLogger(__name__)
_WHOSE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(slots=True)
class Notes:
    """What is noted of a request while it is answered.

    :param began: seconds, by ``perf_counter``.
    :param address: whose limit it counted for, where it counted for an address.
    :param read: its body was read to the end.
    :param stale: it was answered from data that are too old.
    :param what_ifs: forecasts that it asked of the model, with other weather or of the second week.
    """

    request_id: str
    began: float
    address: str = ""
    read: bool = False
    stale: bool = False
    what_ifs: int = 0


Watch = Callable[[Request, Notes, int], None]
"""Told of each request when its answer starts, with the status."""


def noted() -> Notes:
    """The notes of the request that is being answered."""
    return cast("Notes", request.environ[_NOTES])


def notes_of(asked: Request) -> Notes | None:
    """The notes of a request; None for one that did not come through :class:`Around`."""
    return asked.environ.get(_NOTES)


class Around:
    """An application of Flask in which each request has notes, and each answer its headers.

    :param max_body: bytes that are read of a body that no route reads.
    :param watches: told of every request, those without a route too.
    """

    def __init__(self, app: "WSGIApplication", max_body: int, *watches: Watch) -> None:
        self._app, self._max_body, self._watches = app, max_body, watches
        self._prefix, self._count = secrets.token_hex(12), count()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request."""
        notes = Notes(self._name(environ.get("HTTP_X_REQUEST_ID", "")), perf_counter())
        environ[_NOTES] = notes

        def start(status: str, headers: list[tuple[str, str]], *raised: object) -> object:
            there = [name for name, _ in headers]
            headers += [one for one in EVERY if one[0] not in there]
            headers.append((REQUEST_ID, notes.request_id))
            asked, code = environ["werkzeug.request"], int(status[:3])
            for watch in self._watches:
                try:
                    watch(asked, notes, code)
                except Exception as error:  # whatever it is, the answer is good
                    log.error("a request could not be noted: %s", error, exc_info=error)
            return start_response(status, headers, *raised)  # type: ignore[arg-type]

        answer = self._app(environ, cast("StartResponse", start))
        if not notes.read:
            self._read_on(environ)
        return answer

    def _read_on(self, environ: "WSGIEnvironment") -> None:
        """Read a body that no route has, so that a connection can go on behind it.

        gunicorn reads what is left only after the answer, along with the next request where that
        is there by then, and then waits for that one until the client gives up.
        """
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            with suppress(Exception):  # whatever is wrong with it: gunicorn hangs up after those
                get_input_stream(environ, max_content_length=self._max_body).read()

    def _name(self, given: str) -> str:
        """What a request is called: as whoever asks says, or one that no other has.

        It goes into logs: whoever asks must not write there what he likes.
        """
        if given and _WHOSE.fullmatch(given):
            return given
        return f"{self._prefix}{next(self._count):08x}"
