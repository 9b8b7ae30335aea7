"""Problem documents (RFC 9457): what goes back to a client whose request cannot be answered."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from werkzeug.exceptions import HTTPException


@dataclass(frozen=True)
class Kind:
    """A kind of problem; ``slug`` ends its ``type``, which scripts may rely on."""

    slug: str
    title: str
    status: int


INVALID_JSON: Final = Kind("invalid-json", "The body is not JSON", 400)
INVALID_REQUEST: Final = Kind("invalid-request", "The request is not as documented", 400)
INVALID_TIMESTAMP: Final = Kind("invalid-timestamp", "No such moment", 400)
AMBIGUOUS_TIMESTAMP: Final = Kind("ambiguous-timestamp", "The moment occurs twice", 400)
UNKNOWN_STATION: Final = Kind("unknown-station", "No such station", 404)
NO_FORECAST: Final = Kind("no-forecast", "No forecast for this hour", 404)
TOO_LARGE: Final = Kind("too-large", "The request is too large", 413)
NO_CAPACITY: Final = Kind("no-capacity", "The capacity is not known", 422)
OUTSIDE_TABLE: Final = Kind("outside-forecast", "Outside the hours that are forecast", 422)
BIKES_OVER_CAPACITY: Final = Kind("bikes-over-capacity", "More bikes than docks", 422)
WHAT_IF_UNAVAILABLE: Final = Kind("what-if-unavailable", "The model cannot tell that", 422)
INTERNAL: Final = Kind("internal-error", "The service failed", 500)
NO_TABLE: Final = Kind("no-table", "There is no forecast", 503)
WHAT_IF_NOT_NOW: Final = Kind("what-if-not-now", "No what-if at the moment", 503)


class Problem(Exception):
    """Stops the work on one request, or on one item of a batch.

    :param detail: what is wrong with this very request, and the next step.
    :param errors: one entry per field at fault: where it is, and what is wrong with it.
    """

    def __init__(self, kind: Kind, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(kind.slug, detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors or []

    def document(self, instance: str, simulated: bool) -> dict[str, Any]:
        """The document for a client.

        :param instance: the path of the request; in a batch, with a pointer to the item.
        """
        document: dict[str, Any] = {
            "type": f"/problems/{self.kind.slug}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            document["errors"] = self.errors
        if simulated:
            document["simulated"] = True
        return document


def from_http(error: HTTPException) -> Problem:
    """The problem that an HTTP error of the framework is: no such route, method, size."""
    status = HTTPStatus(error.code or 500)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Problem(TOO_LARGE, "the body is over the limit of 1 MB; send it in parts")
    kind = Kind(status.phrase.lower().replace(" ", "-"), status.phrase, status.value)
    return Problem(kind, error.description or status.description)
