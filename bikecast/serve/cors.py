"""Which pages of other origins may call the service from a browser (the Fetch standard's CORS).

This guards no service, only browsers' users: whoever asks without a browser is not held back by it.
"""

import re
from typing import Final

from flask import Flask, Response, request

from bikecast.errors import InputError

ALL: Final = "*"
METHODS: Final = "GET, POST"
SENT: Final = "Authorization, Content-Type, If-None-Match, X-API-Key, X-Request-Id"
TOLD: Final = "ETag, Retry-After, WWW-Authenticate, X-Request-Id"
REMEMBERED: Final = "600"  # seconds that a browser does not ask again


def check_origins(origins: tuple[str, ...]) -> None:
    """See that each could be what a browser says of a page.

    :raises InputError: naming the one that could not.
    """
    for origin in origins:
        if origin != ALL and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]-]+", origin):
            raise InputError(
                f"BIKECAST_CORS_ORIGINS: {origin!r} is no origin",
                hint="write them as in https://app.example.com, without a slash at the end, or *",
            )


def attach(app: Flask, origins: tuple[str, ...]) -> None:
    """Let browsers show an application's answers to pages of these origins, refusals too."""
    if not origins:
        return

    @app.after_request
    def allow(response: Response) -> Response:
        if ALL not in origins:
            # Also where nobody asks from a page: caches keep answers for those who do.
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None or not (ALL in origins or origin in origins):
            return response
        response.headers["Access-Control-Allow-Origin"] = ALL if ALL in origins else origin
        response.headers["Access-Control-Expose-Headers"] = TOLD
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = SENT
            response.headers["Access-Control-Max-Age"] = REMEMBERED
        return response
