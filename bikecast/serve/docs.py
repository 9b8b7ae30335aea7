"""Pages for people: the documentation that can be tried out, and what each problem is.

Swagger UI comes in a package as the other libraries do; a browser is sent to nobody else.
"""

import gzip
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from flask import Blueprint, Response, request

from bikecast.serve.api import answer
from bikecast.serve.openapi import ASSETS, KINDS, OPERATIONS, refusals
from bikecast.serve.problems import NOT_FOUND, Problem

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Of the page alone. Swagger UI sets styles, and draws its signs from data in them."""
OURS: Final = "bikecast.serve"
SWAGGER: Final = "flask_swagger_ui"


def pages() -> Blueprint:
    """The routes."""
    docs = Blueprint("docs", __name__)

    @docs.get("/docs")
    def page() -> Response:
        """Interactive documentation."""
        response = _file("docs.html", "text/html")
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @docs.get("/docs/<file>")
    def asset(file: str) -> Response:
        """What that page is made of."""
        if file not in ASSETS:
            raise Problem(NOT_FOUND, f"no file {file!r} here; GET /docs is the page")
        return _file(file, ASSETS[file])

    @docs.get("/problems/<slug>")
    def problem(slug: str) -> Response:
        """What a problem's `type` leads to."""
        if slug not in KINDS:
            raise Problem(NOT_FOUND, f"no problem {slug!r}; there are {', '.join(sorted(KINDS))}")
        kind = KINDS[slug]
        routes = [f"{o.method.upper()} {o.path}" for o in OPERATIONS if kind in refusals(o)]
        return answer(
            {"type": kind.type, "title": kind.title, "status": kind.status, "routes": routes}
        )

    return docs


def _file(name: str, mimetype: str) -> Response:
    """A file of a package, which may be kept as long as it is asked whether it is still the one."""
    content, packed, tag = _content(name)
    small = request.accept_encodings["gzip"] > 0
    response = Response(packed if small else content, mimetype=mimetype)
    if small:
        response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    response.set_etag(tag, weak=True)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@cache
def _content(name: str) -> tuple[bytes, bytes, str]:
    """A file, the same compressed, and its tag: made once, as that takes 40 ms."""
    ours = files(OURS) / "pages" / name
    content = (ours if ours.is_file() else files(SWAGGER) / "dist" / name).read_bytes()
    return content, gzip.compress(content, mtime=0), blake2b(content, digest_size=8).hexdigest()
