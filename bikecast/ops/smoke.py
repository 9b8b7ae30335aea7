"""A few requests that a release must answer before and after riders reach it."""

import http.client
import json
import math
import ssl
import time
from collections.abc import Callable
from typing import Any

from bikecast.errors import Refused
from bikecast.ops.environment import Tls

ANSWER_WITHIN = 10  # seconds
REACHED_WITHIN = 15.0  # seconds; longer than it waits for a connection

Ask = Callable[[str, str, Any], tuple[int, Any]]


def smoke(ask: Ask, release: str, station: str = "", *, reaching: bool = False) -> str:
    """Ask what riders ask, and what proves that it is this release which answers.

    :param ask: sends a method, a path and a document; returns the status and the answer.
    :param release: the short commit that the service must say it was built from; may be empty.
    :param station: the one to forecast; by default the first of all.
    :param reaching: it must reach its database, too: it could answer from the forecast that another
        release left on the host's disk.
    :returns: what was seen, in one line.
    :raises Refused: naming the request that went wrong and the answer.
    """
    expect(ask, "GET", "/health")
    ready = expect(ask, "GET", "/ready")
    until = time.monotonic() + REACHED_WITHIN
    while reaching and _trouble(ready) and time.monotonic() < until:
        time.sleep(0.5)
        ready = expect(ask, "GET", "/ready")
    if reaching and (trouble := _trouble(ready)):
        raise Refused(
            f"GET /ready says: {trouble}",
            hint="see whether this host reaches the database, with the environment's password",
        )
    version = expect(ask, "GET", "/version")
    built_from = str(version.get("commit") or "")
    if release and not built_from.startswith(release.removesuffix("-dirty")):
        raise Refused(
            f"GET /version says commit {built_from or 'unknown'}, not {release}",
            hint="see with `inv status` what runs",
        )
    if not station:
        stations = expect(ask, "GET", "/stations").get("stations") or []
        if not stations:
            raise Refused("GET /stations lists none", hint="issue a forecast: `bikecast forecast`")
        station = stations[0]["station_id"]
    answer = expect(ask, "POST", "/predict", {"station_id": station})
    # A system that counts its pickups alone answers null for returns.
    means = [(answer.get(flow) or {}).get("mean") for flow in ("pickups", "returns")]
    if not any(_is_rate(m) for m in means) or not all(m is None or _is_rate(m) for m in means):
        raise Refused(f"POST /predict for {station} answers {means} as means")
    model = answer.get("model", {}).get("version", "?")
    return f"{station}: model {model}, as of {answer.get('as_of')}, {ready.get('status')}"


def _trouble(ready: Any) -> str:
    """What it says of its database; that data are stale is no fault of a release."""
    reasons = map(str, ready.get("reasons") or [])
    return "; ".join(reason for reason in reasons if "stale" not in reason)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def expect(ask: Ask, method: str, path: str, document: Any = None) -> Any:
    """The answer to one request, which must be 200 and a JSON object."""
    try:
        status, answer = ask(method, path, document)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Refused(f"{method} {path}: {str(error) or type(error).__name__}") from error
    if status != 200 or not isinstance(answer, dict):
        detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        raise Refused(f"{method} {path} answers {status} {detail}".rstrip())
    return answer


def asking(port: int, tls: Tls | None, colour: str = "", key: str = "") -> Ask:
    """Ask the proxy at a local port.

    :param colour: which of the two is to answer; empty: the one that riders get.
    :param key: an API key, where the service requires one.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["X-API-Key"] = key.strip()  # of a file, its line end
    if colour:
        headers["X-Bikecast-Colour"] = colour

    def ask(method: str, path: str, document: Any) -> tuple[int, Any]:
        connection = _connection(port, tls)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    return ask


def _connection(port: int, tls: Tls | None) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_WITHIN)
    # The proxy must show exactly the certificate that it was given, under whatever name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=tls.certificate)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=ANSWER_WITHIN, context=context)
