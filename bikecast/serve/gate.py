"""Who may ask what, and how often: each request passes here before any route."""

import hmac
import math
import re
from collections.abc import Mapping
from typing import Final

from flask import Flask, Request, request

from bikecast.config import Settings
from bikecast.errors import InputError
from bikecast.keys import fingerprint
from bikecast.serve.around import noted
from bikecast.serve.clients import Clients
from bikecast.serve.cors import check_origins
from bikecast.serve.known import KnownKeys
from bikecast.serve.limits import WINDOW, Limiter
from bikecast.serve.problems import (
    ADMIN_OFF,
    KEY_REFUSED,
    KEY_REQUIRED,
    KEYS_UNKNOWN,
    TOKEN_REFUSED,
    TOO_MANY,
    Problem,
)

WATCHED: Final = frozenset({"/health", "/ready", "/metrics"})
"""Asked by machines that watch the service, which must not be told that they ask too often."""
OPEN: Final = WATCHED | {"/version", "/openapi.json", "/docs"}
"""For everybody: what the service is, and how it is asked."""
OPEN_BELOW: Final = ("/docs/", "/problems/")
"""What the page there loads, and what refusals mean."""
ADMIN: Final = frozenset({"/model/reload"})
BEARER: Final = "bearer "
CHALLENGE: Final = 'Bearer realm="bikecast"'
SHORTEST_TOKEN: Final = 16
HOW: Final = "send it as `Authorization: Bearer …`"


def is_open(path: str) -> bool:
    """Whether a path is for everybody."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def check(settings: Settings) -> None:
    """See that the settings of this module can be used, before anything starts.

    :raises InputError: naming the one that cannot.
    """
    Clients(settings.trusted_proxies, settings.trusted_hops)
    check_origins(settings.cors_origins)
    for name in ("key_limit", "address_limit"):
        if getattr(settings, name) < 0:
            raise InputError(
                f"BIKECAST_{name.upper()} is {getattr(settings, name)}",
                hint="write the requests of a minute, or 0 for any number",
            )
    for name in ("max_body", "max_batch"):
        if getattr(settings, name) < 1:
            raise InputError(
                f"BIKECAST_{name.upper()} is {getattr(settings, name)}", hint="write 1 or more"
            )
    if settings.admin_token and not re.fullmatch(r"[!-~]+", settings.admin_token):
        raise InputError(
            "BIKECAST_ADMIN_TOKEN has characters that no request can bring",
            hint="write letters and digits, as `openssl rand -hex 32` makes them",
        )
    if 0 < len(settings.admin_token) < SHORTEST_TOKEN:
        raise InputError(
            f"BIKECAST_ADMIN_TOKEN has {len(settings.admin_token)} characters",
            hint=f"write {SHORTEST_TOKEN} or more, as `openssl rand -hex 32` makes them",
        )


class Gate:
    """Lets requests of one application pass, or raises the problem that refuses them."""

    def __init__(
        self, settings: Settings, keys: KnownKeys, limiter: Limiter, clients: Clients
    ) -> None:
        self._settings, self._keys, self._limiter = settings, keys, limiter
        self._clients = clients
        self._token = fingerprint(settings.admin_token) if settings.admin_token else None

    def attach(self, app: Flask) -> None:
        """Guard every path of an application, those without a route too."""
        app.before_request(self._pass)

    def _pass(self) -> None:
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # found once
        path, environ = asked.path, asked.environ
        if path in WATCHED:
            return
        given = _given(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
        admin = path in ADMIN
        key = self._keys.find(given) if given and not admin else None
        if key:
            self._limit(f"key {key.key_id}", self._settings.key_limit, f"the key {key.name!r}")
            return
        if admin or self._settings.address_limit:
            self._limit_address(environ)
        # Browsers ask what they may ask without the key that they will ask with.
        if admin and asked.method != "OPTIONS":
            self._check_token(given)
        elif not (is_open(path) or asked.method == "OPTIONS"):
            self._refuse_without(given)

    def _limit_address(self, environ: Mapping[str, str]) -> None:
        address = noted().address = self._clients.of(environ)
        self._limit(f"address {address}", self._settings.address_limit, address)

    def _limit(self, client: str, limit: int, who: str) -> None:
        wait = self._limiter.admit(client, limit) if limit else None
        if wait is not None:
            seconds = math.floor(wait) + 1  # not a moment too early
            raise Problem(
                TOO_MANY,
                f"{who} has asked {limit} times within {WINDOW:.0f} s; ask again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )

    def _refuse_without(self, given: str) -> None:
        """Refuse a key that is not valid, and none where one is required."""
        required = self._settings.require_key
        if required and not self._keys.known:
            raise Problem(
                KEYS_UNKNOWN,
                "the keys could not be read since the service started; see why in its log",
            )
        if given and self._keys.known:
            detail = "this key is not known, or was revoked; ask the operator for another"
            raise Problem(KEY_REFUSED, detail, headers=_challenge("invalid_token"))
        if required:
            detail = f"every forecast needs an API key; {HOW} or `X-API-Key`"
            raise Problem(KEY_REQUIRED, detail, headers=_challenge())

    def _check_token(self, given: str) -> None:
        if self._token is None:
            raise Problem(
                ADMIN_OFF,
                "no admin token is set, so nobody may ask this; set BIKECAST_ADMIN_TOKEN, or "
                "BIKECAST_ADMIN_TOKEN_FILE, and start the service again",
            )
        if not hmac.compare_digest(fingerprint(given), self._token):
            error = "invalid_token" if given else ""
            detail = f"this needs the admin token, which is no API key; {HOW}"
            raise Problem(TOKEN_REFUSED, detail, headers=_challenge(error))


def _given(authorization: str, key: str) -> str:
    """The key or token that a request came with, or nothing."""
    if key or authorization[: len(BEARER)].lower() != BEARER:
        return key.strip()
    return authorization[len(BEARER) :].strip()


def _challenge(error: str = "") -> dict[str, str]:
    """What every 401 says of how to ask (RFC 6750)."""
    return {"WWW-Authenticate": f'{CHALLENGE}, error="{error}"' if error else CHALLENGE}
