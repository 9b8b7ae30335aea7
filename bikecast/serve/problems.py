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

    @property
    def type(self) -> str:
        """Its address, where the service tells more."""
        return f"/problems/{self.slug}"


INVALID_JSON: Final = Kind("invalid-json", "The body is not JSON", 400)
INVALID_REQUEST: Final = Kind("invalid-request", "The request is not as documented", 400)
INVALID_TIMESTAMP: Final = Kind("invalid-timestamp", "No such moment", 400)
AMBIGUOUS_TIMESTAMP: Final = Kind("ambiguous-timestamp", "The moment occurs twice", 400)
KEY_REQUIRED: Final = Kind("key-required", "An API key is required", 401)
KEY_REFUSED: Final = Kind("key-refused", "The API key is not valid", 401)
TOKEN_REFUSED: Final = Kind("token-refused", "The admin token is missing or wrong", 401)
ADMIN_OFF: Final = Kind("admin-off", "Nobody may ask this here", 403)
UNKNOWN_STATION: Final = Kind("unknown-station", "No such station", 404)
NOT_FOUND: Final = Kind("not-found", "Nothing is at this address", 404)
NO_FORECAST: Final = Kind("no-forecast", "No forecast for this hour", 404)
METHOD_NOT_ALLOWED: Final = Kind("method-not-allowed", "Not with this method", 405)
TOO_LARGE: Final = Kind("too-large", "The request is too large", 413)
NO_CAPACITY: Final = Kind("no-capacity", "The capacity is not known", 422)
OUTSIDE_TABLE: Final = Kind("outside-forecast", "Outside the hours that are forecast", 422)
BIKES_OVER_CAPACITY: Final = Kind("bikes-over-capacity", "More bikes than docks", 422)
WHAT_IF_UNAVAILABLE: Final = Kind("what-if-unavailable", "The model cannot tell that", 422)
TOO_MANY: Final = Kind("too-many-requests", "Too many requests", 429)
INTERNAL: Final = Kind("internal-error", "The service failed", 500)
NO_TABLE: Final = Kind("no-table", "There is no forecast", 503)
KEYS_UNKNOWN: Final = Kind("keys-unknown", "The keys are not known", 503)
WHAT_IF_NOT_NOW: Final = Kind("what-if-not-now", "The model cannot be asked now", 503)


class Problem(Exception):
    """Stops the work on one request, or on one item of a batch.

    :param detail: what is wrong with this very request, and the next step.
    :param errors: one entry per field at fault: where it is, and what is wrong with it.
    :param headers: of the answer, beside those that each has.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(kind.slug, detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}

    def document(self, instance: str, simulated: bool) -> dict[str, Any]:
        """The document for a client.

        :param instance: the path of the request; in a batch, with a pointer to the item.
        """
        document: dict[str, Any] = {
            "type": self.kind.type,
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


_OF_FRAMEWORK: Final = {kind.status: kind for kind in (NOT_FOUND, METHOD_NOT_ALLOWED)}


def from_http(error: HTTPException, max_body: int) -> Problem:
    """The problem that an HTTP error of the framework is: no such route, method, size.

    :param max_body: bytes that a body may have.
    """
    status = HTTPStatus(error.code or 500)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Problem(
            TOO_LARGE, f"the body is over the limit of {max_body:,} bytes; send it in parts"
        )
    kind = _OF_FRAMEWORK.get(status) or Kind(
        status.phrase.lower().replace(" ", "-"), status.phrase, status.value
    )
    return Problem(kind, error.description or status.description)
