"""What the service counts, for Prometheus; of all workers, whichever is asked."""

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final

from flask import Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from bikecast import __version__
from bikecast.serve.around import Notes
from bikecast.serve.counting import FOLDER
from bikecast.serve.current import CurrentTable
from bikecast.serve.headers import packed

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram: a look-up takes half a millisecond, an explanation ten."""
NO_ROUTE: Final = "none"
TEXT: Final = CONTENT_TYPE_PLAIN_0_0_4.removesuffix("; charset=utf-8")
"""Flask adds that again."""


class Metrics:
    """Counts the requests of one application.

    :param current: the table in use, whose age and model are told.
    :param now: seconds since 1970.
    """

    def __init__(self, current: CurrentTable, model_name: str, now: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._table = _Table(current, model_name, now)
        self._requests = Counter(
            "bikecast_requests",
            "Requests answered, by route, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "bikecast_request_seconds",
            "Time from a request's first line to its answer, by route.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._stale = Counter(
            "bikecast_stale_answers",
            "Forecasts given whose data were older than BIKECAST_STALE_AFTER.",
            registry=self._registry,
        )
        self._what_ifs = Counter(
            "bikecast_what_ifs",
            "Forecasts asked of the model: with other weather, or in the second week; "
            "each of a batch for itself.",
            registry=self._registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def count(self, asked: Request, notes: Notes, status: int) -> None:
        """Count one request, when its answer starts."""
        # By the route as it is written: whoever asks for a thousand paths makes no thousand series.
        rule = asked.url_rule
        route, method = (rule.rule, asked.method) if rule else (NO_ROUTE, NO_ROUTE)
        requests, seconds = self._of(route, method, status)
        requests.inc()
        seconds.observe(perf_counter() - notes.began)
        if notes.stale and status == HTTPStatus.OK:
            self._stale.inc()
        if notes.what_ifs:
            self._what_ifs.inc(notes.what_ifs)

    def _of(self, route: str, method: str, status: int) -> tuple[Any, Any]:
        key = route, method, status
        if key not in self._known:
            labels = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._known[key] = labels
        return self._known[key]

    def answer(self) -> Response:
        """All of it in Prometheus' text format."""
        registry = CollectorRegistry()
        if FOLDER in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            for metric in (self._requests, self._seconds, self._stale, self._what_ifs):
                registry.register(metric)
        registry.register(self._table)
        return packed(generate_latest(registry), mimetype=TEXT)


class _Table(Collector):
    """What is known of the table in use, told by the worker that is asked."""

    def __init__(self, current: CurrentTable, model_name: str, now: Callable[[], float]) -> None:
        self._current, self._model_name, self._now = current, model_name, now

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield InfoMetricFamily("bikecast", "The release.", value={"version": __version__})
        reachable = float(self._current.reachable)
        yield GaugeMetricFamily(
            "bikecast_database_up", "Whether the database answered last time.", value=reachable
        )
        table = self._current.table
        if table is None:
            return
        issue = table.issue
        yield GaugeMetricFamily(
            "bikecast_data_age_seconds",
            "Since the end of the data that the forecast saw.",
            value=max(self._now() - issue.as_of.timestamp(), 0),
        )
        yield GaugeMetricFamily(
            "bikecast_issued_timestamp_seconds",
            "When the forecast was issued.",
            value=issue.issued_at.timestamp(),
        )
        named = {"name": self._model_name, "version": issue.model_version, "kind": issue.model}
        yield InfoMetricFamily("bikecast_model", "The model behind the forecast.", value=named)
