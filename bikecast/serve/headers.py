"""What answers carry beside their body: a request's name, and what browsers and caches may do."""

import gzip
import re
import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from flask import Flask, Response, g, request

from bikecast.serve.table import ForecastTable

REQUEST_ID: Final = "X-Request-Id"
SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""For answers that no browser should run, frame or take for something else."""
MAX_AGE: Final = 60
"""Seconds that a forecast may be kept before it is asked for again; a new one comes every ten
minutes at most."""
LEAST_COMPRESSED: Final = 1_000  # bytes; less fits in a packet as it is
LEVEL: Final = 1
"""Of compression: the feed of 2,200 stations, 1.7 MB, shrinks to 36 % in 15 ms, at level 6 to 29 %
in 100 ms."""


def attach(app: Flask) -> None:
    """Give every request of an application a name, and every answer its headers."""

    @app.before_request
    def name() -> None:
        given = request.headers.get(REQUEST_ID, "")
        # It goes into logs: whoever asks must not write there what he likes.
        known = re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", given)
        g.request_id = given if known else secrets.token_hex(16)

    @app.after_request
    def complete(response: Response) -> Response:
        response.headers[REQUEST_ID] = g.request_id
        for key, value in SAFE.items():
            response.headers.setdefault(key, value)
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        _compress(response)
        return response


def _compress(response: Response) -> None:
    if "Content-Encoding" in response.headers:
        return
    body = response.get_data()
    if len(body) < LEAST_COMPRESSED:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(body, LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"


class Keeping:
    """Lets caches keep answers that follow from a table; whoever has one already gets no body.

    :param release: all that answers depend on beside the table and whether it is stale.
    :param shared: also caches that serve several clients; not where each needs a key.
    """

    def __init__(self, *release: str, shared: bool = True) -> None:
        self._who = "public" if shared else "private"
        self._release = blake2b(repr(release).encode(), digest_size=8).hexdigest()

    def answer(self, table: ForecastTable, stale: bool, body: Callable[[], Response]) -> Response:
        """The answer, or 304 for who has it.

        The tag is weak: the age of the data, which each answer says, is not worth a new one.

        :param body: makes the answer, where that is needed.
        """
        tag = f"{self._release}-{table.digest}" + "-stale" * stale
        if request.if_none_match.contains_weak(tag):
            response = Response(status=304)
            del response.headers["Content-Type"]
        else:
            response = body()
        response.set_etag(tag, weak=True)
        response.headers["Cache-Control"] = f"{self._who}, max-age={MAX_AGE}"
        return response
