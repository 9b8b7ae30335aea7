"""The application factory: everything that it depends on is passed in."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from bikecast.config import Settings
from bikecast.serve import cors, logs
from bikecast.serve.api import answer, blueprint
from bikecast.serve.clients import Clients
from bikecast.serve.current import CurrentTable
from bikecast.serve.docs import pages
from bikecast.serve.gate import Gate
from bikecast.serve.headers import attach
from bikecast.serve.known import KnownKeys
from bikecast.serve.limits import Limiter
from bikecast.serve.metrics import Metrics
from bikecast.serve.problems import INTERNAL, Problem, from_http

log = logging.getLogger(__name__)


def create_app(
    current: CurrentTable,
    settings: Settings,
    now: Callable[[], float] = time.time,
    keys: KnownKeys | None = None,
    limiter: Limiter | None = None,
) -> Flask:
    """The service as a WSGI application.

    :param current: the table in use; whoever calls this also has it refreshed.
    :param now: wall clock, seconds since 1970.
    :param keys: those that are valid; whoever calls this also has them refreshed.
    :param limiter: shared by all workers; by default this application counts alone.
    """
    keys = KnownKeys(current.source) if keys is None else keys
    clients = Clients(settings.trusted_proxies, settings.trusted_hops)
    app = Flask("bikecast", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.after_request(_read_on)
    metrics = Metrics(current, settings.model_name, now)
    # What comes first before a request comes last behind it: the time is that of all the others.
    metrics.attach(app)
    if settings.log_format == "json":
        logs.attach(app, clients)
    attach(app)
    cors.attach(app, settings.cors_origins)
    Gate(settings, keys, limiter or Limiter(), clients).attach(app)
    app.register_blueprint(blueprint(current, settings, now, metrics, keys))
    app.register_blueprint(pages())

    def refuse(problem: Problem) -> Response:
        simulated = current.table is not None and current.table.simulated
        document = problem.document(request.path, simulated)
        response = answer(document, problem.kind.status, "application/problem+json")
        response.headers.extend(problem.headers)
        return response

    def refuse_http(error: HTTPException) -> Response:
        response = refuse(from_http(error, settings.max_body))
        # A 405 must name the methods that are allowed.
        response.headers.extend((k, v) for k, v in error.get_headers() if k == "Allow")
        return response

    def fail(error: Exception) -> Response:
        named = request.method, request.path, g.request_id
        log.error("%s %s failed, request %s", *named, exc_info=error)
        detail = "the service failed on this request; its log says why"
        return refuse(Problem(INTERNAL, detail))

    app.register_error_handler(Problem, refuse)
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(Exception, fail)
    return app


def _read_on(response: Response) -> Response:
    """Read a body that no route has, so that a connection can go on behind it.

    gunicorn reads what is left only after the answer, along with the next request where that is
    there by then, and then waits for that one until the client gives up.
    """
    if "CONTENT_LENGTH" in request.environ or "HTTP_TRANSFER_ENCODING" in request.environ:
        with suppress(Exception):  # whatever is wrong with it: gunicorn hangs up after those
            request.get_data(cache=False)
    return response
