"""What answers carry beside their body: a request's name, and what browsers and caches may do."""

import gzip
import re
import secrets
from typing import Final

from flask import Flask, Response, g, request

from bikecast import __version__
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
            response.headers[key] = value
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        _compress(response)
        return response


def _compress(response: Response) -> None:
    body = response.get_data()
    if len(body) < LEAST_COMPRESSED:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(body, LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"


def may_be_kept(response: Response, table: ForecastTable, stale: bool) -> Response:
    """Let caches keep an answer of a table; with no body for who has it already.

    The tag is weak: the age of the data, which each answer says, is not worth a new one.
    """
    issue = table.issue
    said = f"{__version__}-{issue.issue_id}-{issue.issued_at.timestamp():.6f}"
    response.set_etag(f"{said}-stale" if stale else said, weak=True)
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE}"
    response.make_conditional(request)
    return response
