"""Who is let in, who is told to wait, and who is told why not."""

import threading
from collections.abc import Callable

import pytest
from fakes import FakeSource
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from bikecast.config import Settings
from bikecast.errors import InputError
from bikecast.keys import ApiKey, new_key
from bikecast.serve.app import create_app
from bikecast.serve.current import CurrentTable
from bikecast.serve.gate import check
from bikecast.serve.known import KnownKeys
from bikecast.serve.limits import Limiter

TEXT, KEY = new_key("planner")
OTHER, OTHER_KEY = new_key("app")
TOKEN = "a-token-of-an-admin"  # nosec B105  # pragma: allowlist secret: made up
Ask = Callable[..., TestResponse]


class Service:
    """A service whose clocks stand still, and what it is made of."""

    def __init__(self, source: FakeSource, **settings: object) -> None:
        self.source, self.time = source, 120.0
        self.source.valid = (KEY, OTHER_KEY)
        self.current = CurrentTable(source)
        self.current.refresh()
        self.keys = KnownKeys(source)
        self.keys.refresh()
        limiter = Limiter(now=lambda: self.time)
        app = create_app(
            *(self.current, Settings(**settings)),  # type: ignore[arg-type]
            keys=self.keys,
            limiter=limiter,
        )
        self.client: FlaskClient = app.test_client()

    def ask(
        self, path: str = "/stations", method: str = "GET", peer: str = "", **headers: str
    ) -> TestResponse:
        """The answer to one request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        base = {"REMOTE_ADDR": peer}
        return self.client.open(path, method=method, headers=sent, environ_base=base)


def test_without_a_setting_nobody_needs_a_key(source: FakeSource) -> None:
    """One that is sent must be valid all the same: its owner would not notice otherwise."""
    service = Service(source)
    assert service.ask().status_code == 200
    assert service.ask(Authorization=f"Bearer {TEXT}").status_code == 200
    found = service.ask(Authorization=f"Bearer {new_key('x')[0]}")
    assert (found.status_code, found.json["type"]) == (401, "/problems/key-refused")


@pytest.mark.parametrize("path", ["/stations", "/model", "/stations/B/forecast", "/nowhere", "/"])
def test_where_a_key_is_required_none_is_a_401(source: FakeSource, path: str) -> None:
    """Also where there is nothing: who has no key learns nothing of what there is."""
    found = Service(source, require_key=True).ask(path)
    assert (found.status_code, found.mimetype) == (401, "application/problem+json")
    assert found.json["type"] == "/problems/key-required"
    assert found.headers["WWW-Authenticate"] == 'Bearer realm="bikecast"'
    assert found.headers["X-Request-Id"] and found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/openapi.json", "/metrics"])
def test_what_the_service_is_needs_no_key(source: FakeSource, path: str) -> None:
    """Nor does a wrong one harm."""
    service = Service(source, require_key=True)
    assert service.ask(path).status_code == 200
    assert service.ask(path, X_API_Key=new_key("x")[0]).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TEXT}"},
        {"Authorization": f"bearer  {TEXT} "},
        {"X_API_Key": TEXT},
        {"Authorization": "Basic dTpw", "X_API_Key": TEXT},
        {"Authorization": "Bearer of-another-service", "X_API_Key": TEXT},
    ],
)
def test_a_key_comes_in_either_header(source: FakeSource, headers: dict[str, str]) -> None:
    """A browser's password for a proxy is none of our business."""
    assert Service(source, require_key=True).ask(**headers).status_code == 200


@pytest.mark.parametrize(
    "key",
    ["wrong", TEXT[:-1], TEXT.upper(), f"{TEXT}, {TEXT}", "ÿ" * 50, KEY.sha256.hex()],
    ids=["none", "cut", "capitals", "twice", "no letters", "its hash"],
)
def test_a_wrong_key_is_refused(source: FakeSource, key: str) -> None:
    """In whichever header; the key is not repeated."""
    service = Service(source, require_key=True)
    for headers in ({"Authorization": f"Bearer {key}"}, {"X_API_Key": key}):
        found = service.ask(**headers)
        assert (found.status_code, found.json["type"]) == (401, "/problems/key-refused")
        assert 'error="invalid_token"' in found.headers["WWW-Authenticate"]
        assert key not in found.text


def test_a_revoked_key_is_refused_once_that_is_known(source: FakeSource) -> None:
    """The other keys go on."""
    service = Service(source, require_key=True)
    source.valid = (OTHER_KEY,)
    service.keys.refresh()
    assert service.ask(X_API_Key=TEXT).status_code == 401
    assert service.ask(X_API_Key=OTHER).status_code == 200


def test_as_long_as_no_key_is_known_nobody_is_called_wrong(source: FakeSource) -> None:
    """A database of an older schema, or none since the first start: 503 says so."""
    service = Service(source, require_key=True)
    service.keys._keys = None
    for headers in ({}, {"X_API_Key": TEXT}):
        found = service.ask(**headers)
        assert (found.status_code, found.json["type"]) == (503, "/problems/keys-unknown")
    assert service.ask("/health").status_code == 200


def test_keys_and_addresses_have_limits_of_their_own(source: FakeSource) -> None:
    """Who has a key is not held back by others behind the same address."""
    service = Service(source, key_limit=3, address_limit=2)
    key = {"X_API_Key": TEXT}
    told = [service.ask(peer="192.0.2.1").status_code for _ in range(3)]
    told += [service.ask(peer="192.0.2.2").status_code]
    told += [service.ask(peer="192.0.2.1", **key).status_code for _ in range(3)]
    told += [service.ask(peer="192.0.2.9", **key).status_code]
    told += [service.ask(peer="192.0.2.1", X_API_Key=OTHER).status_code]
    assert told == [200, 200, 429, 200, 200, 200, 200, 429, 200]


def test_a_refusal_says_when_to_ask_again(source: FakeSource) -> None:
    """And then it is answered."""
    service = Service(source, address_limit=1)
    service.ask(peer="192.0.2.1")
    found = service.ask(peer="192.0.2.1")
    assert (found.status_code, found.json["type"]) == (429, "/problems/too-many-requests")
    seconds = int(found.headers["Retry-After"])
    assert f"ask again in {seconds} s" in found.json["detail"]
    service.time += seconds
    assert service.ask(peer="192.0.2.1").status_code == 200


def test_who_has_no_valid_key_counts_by_address(source: FakeSource) -> None:
    """So that nobody can try one key after the other."""
    service = Service(source, require_key=True, address_limit=2)
    told = [service.ask(X_API_Key=new_key("x")[0], peer="192.0.2.1") for _ in range(3)]
    assert [found.status_code for found in told] == [401, 401, 429]


def test_who_watches_is_never_told_to_wait(source: FakeSource) -> None:
    """A health check that failed for being asked too often would end the service."""
    service = Service(source, address_limit=1)
    for path in ("/health", "/ready", "/metrics"):
        assert [service.ask(path).status_code for _ in range(3)] == [200] * 3
    assert [service.ask("/version").status_code for _ in range(2)] == [200, 429]


def test_an_address_that_a_client_makes_up_is_not_believed(source: FakeSource) -> None:
    """Only that which a trusted proxy saw."""
    service = Service(source, address_limit=1, trusted_proxies=("10.0.0.1",))
    direct = {"peer": "192.0.2.1"}
    told = [service.ask(X_Forwarded_For=f"198.51.100.{i}", **direct).status_code for i in (1, 2)]
    assert told == [200, 429]
    proxied = {"peer": "10.0.0.1"}
    told = [
        service.ask(X_Forwarded_For=f"192.0.2.{i}, 198.51.100.7", **proxied).status_code
        for i in (1, 2)
    ]
    assert told == [200, 429]
    assert service.ask(X_Forwarded_For="198.51.100.8", **proxied).status_code == 200


def test_answers_for_who_has_a_key_are_for_him_alone(source: FakeSource) -> None:
    """A shared cache must not hand them to somebody without one."""
    for required, who in ((True, "private"), (False, "public")):
        found = Service(source, require_key=required).ask(X_API_Key=TEXT)
        assert found.headers["Cache-Control"].startswith(who)


def test_admins_make_it_look_at_once(source: FakeSource) -> None:
    """For a newer forecast and for keys; who asked is written down."""
    service = Service(source, admin_token=TOKEN, require_key=True)
    source.publish()
    source.valid = (KEY,)
    admin = {"Authorization": f"Bearer {TOKEN}", "peer": "192.0.2.1"}
    found = service.ask("/model/reload", "POST", **admin)
    assert found.json == {
        "issue_id": 2,
        "newer": True,
        "trouble": None,
        "keys": 1,
        "others_within_seconds": 5,
        "audited": True,
    }
    assert source.notes == [("admin token from 192.0.2.1", "reload", "")]
    assert service.ask(X_API_Key=OTHER).status_code == 401
    assert service.ask("/model/reload", "POST", **admin).json["newer"] is False


def test_reloads_wait_for_no_other(source: FakeSource) -> None:
    """While the database hangs each of them would hold a thread."""
    service = Service(source, admin_token=TOKEN)
    asked, goes_on = threading.Event(), threading.Event()
    keys = source.keys

    def hanging() -> tuple[ApiKey, ...]:
        asked.set()
        assert goes_on.wait(30)
        return keys()

    source.keys = hanging  # type: ignore[method-assign]
    admin = {"Authorization": f"Bearer {TOKEN}"}
    first: list[TestResponse] = []
    asking = threading.Thread(
        target=lambda: first.append(service.ask("/model/reload", "POST", **admin))
    )
    asking.start()
    assert asked.wait(30)
    found = service.ask("/model/reload", "POST", **admin)
    assert (found.status_code, found.headers["Retry-After"]) == (429, "5")
    goes_on.set()
    asking.join(30)
    assert first[0].status_code == 200
    assert service.ask("/model/reload", "POST", **admin).status_code == 200


def test_keys_that_cannot_be_read_are_said_where_they_are_required(source: FakeSource) -> None:
    """The service answers who had one; a revoked one would go on."""
    service = Service(source, require_key=True)
    assert service.ask("/ready").json["reasons"] == ["the data are stale"]

    def refused() -> tuple[ApiKey, ...]:
        raise PermissionError("permission denied for table api_key")

    source.keys = refused  # type: ignore[method-assign]
    service.keys.refresh()
    told = service.ask("/ready").json
    assert (told["status"], told["reasons"][1:]) == ("degraded", ["the keys cannot be read"])
    assert Service(source).ask("/ready").json["reasons"] == ["the data are stale"]


def test_without_the_database_an_admin_is_told_and_the_log_knows(
    source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost by asking."""
    service = Service(source, admin_token=TOKEN)
    source.broken = True
    found = service.ask("/model/reload", "POST", Authorization=f"Bearer {TOKEN}")
    assert found.status_code == 200
    assert (found.json["audited"], found.json["keys"]) == (False, 2)
    assert found.json["trouble"] == "the database does not answer"
    assert "reload by admin token from unix" in caplog.text


@pytest.mark.parametrize("headers", [{}, {"X_API_Key": TEXT}, {"Authorization": f"Bearer {TEXT}"}])
def test_a_key_opens_nothing_that_admins_may(source: FakeSource, headers: dict[str, str]) -> None:
    """Nor does no token, where one is set or not."""
    found = Service(source, admin_token=TOKEN).ask("/model/reload", "POST", **headers)
    assert (found.status_code, found.json["type"]) == (401, "/problems/token-refused")
    assert found.headers["WWW-Authenticate"].startswith("Bearer")
    found = Service(source).ask("/model/reload", "POST", **headers)
    assert (found.status_code, found.json["type"]) == (403, "/problems/admin-off")
    assert "BIKECAST_ADMIN_TOKEN" in found.json["detail"]
    assert source.notes == []


def test_the_token_opens_nothing_else(source: FakeSource) -> None:
    """It is no key."""
    service = Service(source, admin_token=TOKEN, require_key=True)
    assert service.ask(Authorization=f"Bearer {TOKEN}").status_code == 401


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"admin_token": "short"}, "BIKECAST_ADMIN_TOKEN has 5 characters"),
        ({"admin_token": "pässwort-des-admins"}, "characters that no request can bring"),
        ({"admin_token": "a token of an admin "}, "characters that no request can bring"),
        ({"key_limit": -1}, "BIKECAST_KEY_LIMIT is -1"),
        ({"address_limit": -1}, "BIKECAST_ADDRESS_LIMIT is -1"),
        ({"max_body": 0}, "BIKECAST_MAX_BODY is 0"),
        ({"max_batch": 0}, "BIKECAST_MAX_BATCH is 0"),
        ({"trusted_proxies": ("nginx",)}, "BIKECAST_TRUSTED_PROXIES: 'nginx'"),
        ({"cors_origins": ("app.example.com",)}, "BIKECAST_CORS_ORIGINS: 'app.example.com'"),
        ({"cors_origins": ("https://a.example/",)}, "BIKECAST_CORS_ORIGINS: 'https://a.example/'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_a_start(
    settings: dict[str, object], says: str
) -> None:
    """Naming the one; the token itself is not repeated."""
    with pytest.raises(InputError, match=says) as caught:
        check(Settings(**settings))  # type: ignore[arg-type]
    assert "short" not in str(caught.value)


def test_bodies_and_batches_have_limits_by_setting(source: FakeSource) -> None:
    """Told with what they are."""
    client = Service(source, max_body=100, max_batch=2).client
    found = client.post("/predict", data=b" " * 101)
    assert (found.status_code, found.json["type"]) == (413, "/problems/too-large")
    assert "100 bytes" in found.json["detail"]
    found = client.post("/predict/batch", json={"predictions": [1, 2, 3]})
    assert found.status_code == 413 and "up to 2 at a time" in found.json["detail"]
    assert client.post("/predict/batch", json={"predictions": [1, 2]}).status_code == 200
