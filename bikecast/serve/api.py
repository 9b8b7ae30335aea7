"""The REST blueprint: parse, look up, answer."""

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Request, Response, request
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from bikecast import __version__
from bikecast.config import Settings
from bikecast.records import MAX_HORIZON
from bikecast.serve.around import noted
from bikecast.serve.answers import (
    Context,
    explained,
    explained_forecast,
    imagined,
    invalid,
    model_name,
    place_ahead,
    prediction,
    provenance,
    station_entries,
    station_forecast,
)
from bikecast.serve.current import CurrentTable
from bikecast.serve.explain import Explainer
from bikecast.serve.feed import StationFeed
from bikecast.serve.headers import Keeping, packed
from bikecast.serve.known import KnownKeys
from bikecast.serve.metrics import Metrics
from bikecast.serve.openapi import description
from bikecast.serve.problems import (
    INVALID_REQUEST,
    NO_TABLE,
    OUTSIDE_TABLE,
    TOO_LARGE,
    TOO_MANY,
    Problem,
)
from bikecast.serve.source import KeySource
from bikecast.serve.stock import DEFAULT_AT, StockQuery, station_stock
from bikecast.serve.stored import Stored
from bikecast.serve.table import ForecastTable
from bikecast.serve.types import (
    MAX_WHAT_IFS,
    BatchRequest,
    Prediction,
    PredictRequest,
    Provenance,
)
from bikecast.serve.whatif import WhatIf
from bikecast.store import SCHEMA

DEFAULT_HOURS = 24
OTHERS_WITHIN = 5
"""Seconds in which the other workers have what one was told to look for: each looks by itself."""
NEVER_ISSUED = "this system has no forecast yet; run `bikecast forecast`, then ask again"
NEVER_REACHED = "no forecast could be loaded since the service started; see why in its log"


log = logging.getLogger(__name__)


def answer(document: Any, status: int = 200, mimetype: str = "application/json") -> Response:
    """A document as JSON; a NaN in it is a bug, and never leaves the house."""
    try:
        content = to_json(document)
    except PydanticSerializationError:  # a text that is no Unicode
        content = _strictly(document)
    if b"NaN" in content or b"Infinity" in content:  # a number, or a name with these letters
        content = _strictly(document)
    return packed(content, status, mimetype)


def _strictly(document: Any) -> bytes:
    """Half as fast; a number that is none is refused."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def blueprint(
    current: CurrentTable,
    settings: Settings,
    now: Callable[[], float],
    metrics: Metrics,
    keys: KnownKeys,
) -> Blueprint:
    """The routes, answering from whatever table is current when a request comes in."""
    api = Blueprint("api", __name__)
    reloading = threading.Lock()
    stored, station_feed = Stored(current), StationFeed()
    explainer, what_if = Explainer(stored), WhatIf(stored)
    release = (__version__, settings.commit, settings.model_name)
    keep = Keeping(*release, shared=not settings.require_key).answer

    def context() -> Context:
        return Context(settings.model_name, settings.stale_after, now())

    def where_from(asked: ForecastTable) -> Provenance:
        known = provenance(asked, context())
        noted().stale = known["stale"]
        return known

    def table() -> ForecastTable:
        if current.table is None:
            raise Problem(NO_TABLE, NEVER_ISSUED if current.reachable else NEVER_REACHED)
        return current.table

    @api.get("/health")
    def health() -> Response:
        """The process is alive; says nothing of forecasts."""
        return answer({"status": "ok", **_simulated(current.table)})

    @api.get("/ready")
    def ready() -> Response:
        """Whether forecasts can be answered, and what is wrong with them if so."""
        _query()
        known = provenance(table(), context())
        reasons = ["the data are stale"] if known["stale"] else []
        reasons += [current.trouble] if current.trouble else []
        if settings.require_key and keys.trouble:
            reasons.append(keys.trouble)
        return answer({"status": "degraded" if reasons else "ok", "reasons": reasons, **known})

    @api.get("/openapi.json")
    def described() -> Response:
        """The service's own description."""
        return answer(description(settings.require_key))

    @api.get("/metrics")
    def told() -> Response:
        """What the workers counted, for Prometheus."""
        return metrics.answer()

    @api.get("/version")
    def version() -> Response:
        """What runs here: package, commit, image, model, schema."""
        model = model_name(current.table, context()) if current.table else None
        return answer(
            {
                "version": __version__,
                "commit": settings.commit or None,
                "image": settings.image_digest or None,
                "model": model,
                "schema": {**current.schema, "release": SCHEMA},
                **_simulated(current.table),
            }
        )

    @api.get("/model")
    def model() -> Response:
        """The model in production and the table it made."""
        _query()
        asked = table()
        known = where_from(asked)
        return keep(asked, known["stale"], lambda: answer(_model(asked, known)))

    @api.post("/model/reload")
    def reload() -> Response:
        """Look for a newer forecast and for the keys at once, in this worker."""
        _query()
        # While the database hangs, each would hold one of the worker's few threads.
        if not reloading.acquire(blocking=False):
            detail = "another reload is under way here; ask again when it has ended"
            raise Problem(TOO_MANY, detail, headers={"Retry-After": str(OTHERS_WITHIN)})
        try:
            before = current.table
            audited = _noted(keys.source, f"admin token from {noted().address}", "reload")
            current.refresh()
            keys.refresh()
            found = current.table
        finally:
            reloading.release()
        return answer(
            {
                "issue_id": found.issue.issue_id if found else None,
                "newer": found is not before,
                "trouble": current.trouble,
                "keys": keys.count,
                "others_within_seconds": OTHERS_WITHIN,
                "audited": audited,
                **_simulated(found),
            }
        )

    @api.get("/stations")
    def stations() -> Response:
        """The stations that can be asked for."""
        _query()
        asked = table()
        known = where_from(asked)
        document = {
            "system_id": asked.system.system_id,
            "timezone": asked.system.timezone,
            "stations": station_entries(asked),
            **known,
        }
        return keep(asked, known["stale"], lambda: answer(document))

    @api.get("/station_forecast.json")
    def feed() -> Response:
        """The coming day of all stations, in the manner of GBFS."""
        _query()
        asked = table()
        known = where_from(asked)

        def body() -> Response:
            return packed(station_feed.text(asked, known).encode())

        return keep(asked, known["stale"], body)

    @api.get("/stations/<path:station_id>/forecast")
    def forecast(station_id: str) -> Response:
        """The coming hours of one station."""
        query = _query("hours", "explain")
        asked = table()
        known = where_from(asked)
        hours, why = _hours(query), _asks_why(query)
        found = station_forecast(asked, station_id, hours, known)
        if why:  # an explanation may be missing for a moment
            return answer(explained_forecast(asked, found, explainer.explain))
        return keep(asked, known["stale"], lambda: answer(found))

    @api.get("/stations/<path:station_id>/stock")
    def stock(station_id: str) -> Response:
        """What one station should hold at an hour."""
        query = _query("at", "hours", "bikes")
        asked = table()
        question = StockQuery(query.get("at", DEFAULT_AT), _hours(query), _bikes(query))
        known = where_from(asked)
        return answer(station_stock(asked, station_id, question, known))

    @api.post("/predict")
    def predict() -> Response:
        """One station and hour."""
        query = _query("explain")
        asked = table()
        try:
            question = PredictRequest.model_validate_json(_body(settings.max_body))
        except ValidationError as error:
            raise invalid(error) from None
        why = _asks_why(query)
        if why and question.weather is not None:
            raise Problem(
                INVALID_REQUEST, "a what-if is not explained; leave `explain` or `weather` out"
            )
        found = predicted(asked, question, where_from(asked))
        return answer(explained(asked, found, explainer.explain) if why else found)

    @api.post("/predict/batch")
    def batch() -> Response:
        """Several questions; each is answered or refused on its own."""
        _query()
        asked = table()
        try:
            body = BatchRequest.model_validate_json(_body(settings.max_body))
        except ValidationError as error:
            raise invalid(error) from None
        if len(body.predictions) > settings.max_batch:
            raise Problem(
                TOO_LARGE,
                f"{len(body.predictions)} predictions asked for at once; "
                f"send up to {settings.max_batch} at a time",
            )
        known = where_from(asked)
        answers = [item(asked, known, i, each) for i, each in enumerate(body.predictions)]
        return answer({"predictions": answers, **_simulated(asked)})

    def predicted(asked: ForecastTable, question: PredictRequest, known: Provenance) -> Prediction:
        if question.weather is None:
            try:
                return prediction(asked, question, known)
            except Problem as problem:
                if problem.kind is not OUTSIDE_TABLE:
                    raise
        place, notes = place_ahead(asked, question), noted()
        if notes.what_ifs >= MAX_WHAT_IFS:
            raise Problem(
                TOO_LARGE,
                f"more than {MAX_WHAT_IFS} what-ifs and hours of the second week at once; "
                "send the others apart",
            )
        notes.what_ifs += 1
        return imagined(asked, place, question, known, what_if.ask)

    def item(asked: ForecastTable, known: Provenance, index: int, each: object) -> Any:
        try:
            return predicted(asked, PredictRequest.model_validate(each), known)
        except ValidationError as error:
            problem = invalid(error)
        except Problem as error:
            problem = error
        return problem.document(f"{request.path}#/predictions/{index}", asked.simulated)

    return api


def _noted(source: KeySource, who: str, act: str) -> bool:
    """Write down what an admin does; whether the database took it, or only the log."""
    try:
        source.note(who, act, "")
    except Exception as error:  # whatever it is, he goes on
        log.warning("not in the database's admin_act, %s: %s by %s", error, act, who)
        return False
    return True


def _body(limit: int) -> bytes:
    """The body, whole.

    Of known length it is read as it comes, as werkzeug takes 20 µs to do that. One that came in
    chunks is cut off at the limit by werkzeug, without a word.

    :param limit: bytes.
    :raises RequestEntityTooLarge: for more.
    :raises ClientDisconnected: where the client went before its end.
    """
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # found once
    length = asked.content_length
    if length is None:
        body = asked.get_data(cache=False)
        if len(body) >= limit:
            raise RequestEntityTooLarge
    elif length > limit:
        raise RequestEntityTooLarge
    else:
        try:
            body = asked.environ["wsgi.input"].read(length)
        except (OSError, ValueError):  # he hung up
            body = b""
        if len(body) < length:
            raise ClientDisconnected
    noted().read = True
    return body


def _model(table: ForecastTable, known: Provenance) -> dict[str, Any]:
    return {
        **known["model"],
        "alias": "production",
        "algorithm": table.issue.model,
        **{key: value for key, value in known.items() if key != "model"},
        "table": {
            "issue_id": table.issue.issue_id,
            "stations": len(table.stations),
            "hours": len(table.timestamps),
            "first": table.timestamps[0],
            "last": table.timestamps[-1],
        },
    }


def _query(*known: str) -> Mapping[str, str]:
    """The query's parameters; one that is not known is refused, for it may be a misspelt one."""
    if not request.query_string:
        return {}
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        there = f"there is only {', '.join(f'`{k}`' for k in known)}" if known else "leave it out"
        raise Problem(INVALID_REQUEST, f"no query parameter {unknown[0]!r} here; {there}")
    return request.args


def _hours(query: Mapping[str, str]) -> int:
    """The query's ``hours``."""
    text = query.get("hours", str(DEFAULT_HOURS))
    if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MAX_HORIZON:
        return int(text)
    raise Problem(
        INVALID_REQUEST, f"hours is {text!r}; write a whole number from 1 to {MAX_HORIZON}"
    )


def _bikes(query: Mapping[str, str]) -> int | None:
    """The query's ``bikes``."""
    text = query.get("bikes")
    if text is None or re.fullmatch("[0-9]{1,6}", text):
        return None if text is None else int(text)
    raise Problem(INVALID_REQUEST, f"bikes is {text!r}; write a whole number from 0 on")


def _asks_why(query: Mapping[str, str]) -> bool:
    """The query's ``explain``."""
    text = query.get("explain", "false")
    if text not in ("true", "false"):
        raise Problem(INVALID_REQUEST, f"explain is {text!r}; write true or false")
    return text == "true"


def _simulated(table: ForecastTable | None) -> dict[str, bool]:
    return {"simulated": True} if table and table.simulated else {}
