"""The application factory: everything that it depends on is passed in."""

import logging
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from bikecast.config import Settings
from bikecast.serve import cors, logs
from bikecast.serve.around import Around, noted
from bikecast.serve.api import answer, blueprint
from bikecast.serve.clients import Clients
from bikecast.serve.current import CurrentTable
from bikecast.serve.docs import pages
from bikecast.serve.gate import Gate
from bikecast.serve.known import KnownKeys
from bikecast.serve.limits import Limiter
from bikecast.serve.metrics import Metrics
from bikecast.serve.problems import INTERNAL, Problem, from_http

log = logging.getLogger(__name__)


class _Plain(Flask):
    """Flask without what nothing here needs: together a fifth of a look-up's time."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """For finding routes; none leads elsewhere, so the name in `Host` is not looked at."""
        if request is None:
            return None
        scheme, path, method = request.environ["wsgi.url_scheme"], request.path, request.method
        return MapAdapter(self.url_map, "", "/", "", scheme, path, method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """As it is: nothing here is asynchronous."""
        return func


class _NoSessions(SessionInterface):
    """Nobody is remembered from one request to the next."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """The same for all, which takes nothing."""
        return self._none

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """There is nothing to save."""


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
    app = _Plain("bikecast", static_folder=None)
    app.url_map.merge_slashes = False
    app.session_interface = _NoSessions()
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    metrics = Metrics(current, settings.model_name, now)
    watches = [logs.Access(clients).tell] if settings.log_format == "json" else []
    around = Around(app.wsgi_app, settings.max_body, metrics.count, *watches)
    app.wsgi_app = around  # type: ignore[method-assign]
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
        named = request.method, request.path, noted().request_id
        log.error("%s %s failed, request %s", *named, exc_info=error)
        detail = "the service failed on this request; its log says why"
        return refuse(Problem(INTERNAL, detail))

    app.register_error_handler(Problem, refuse)
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(Exception, fail)
    return app
