"""Keys, limits and admins on the real thing: PostgreSQL, gunicorn's workers, nginx."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import APART
from fakes import NEW_YORK, doubling, published, seen
from postgres import database_gone
from proxied import composed, free_port, proxied

from bikecast.collect import import_stations
from bikecast.errors import InputError, UnknownName
from bikecast.keys import new_key
from bikecast.store import Store

pytestmark = pytest.mark.integration

TOKEN = "a-token-of-an-admin"  # nosec B105  # pragma: allowlist secret: made up


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """The made-up city with one forecast."""
    made = published()
    store.add_system(NEW_YORK)
    (tmp_path / "stations.csv").write_text(
        "id,name,lat,lon\nA.10,First,40.7,-74\nB,Second,40.7,-74\n"
    )
    import_stations(store, NEW_YORK.system_id, [tmp_path / "stations.csv"])
    store.save_issue(made.issue, made.frame, seen(made), doubling())
    return store


class Service:
    """`bikecast serve` with settings from the environment."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process, self.url = process, url

    def ask(self, path: str = "/stations", **more: Any) -> httpx.Response:
        """One request on a connection of its own, so that each worker gets some."""
        method = more.pop("method", "GET")
        return APART.request(method, self.url + path, timeout=30, **more)

    def statuses(self, times: int, **more: Any) -> list[int]:
        """Those of several requests."""
        return [self.ask(**more).status_code for _ in range(times)]

    def workers(self) -> list[int]:
        """The processes below the service's own."""
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def start(filled: Store, database_url: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a service; each ends with its block."""

    @contextmanager
    def run(bind: str = "127.0.0.1:0", **settings: str) -> Iterator[Service]:
        given = {
            "BIKECAST_DATABASE_URL": database_url,
            "BIKECAST_DATA_DIR": str(tmp_path / "home"),
            "BIKECAST_SYSTEM": NEW_YORK.system_id,
            "BIKECAST_WORKERS": "3",
            **{f"BIKECAST_{name.upper()}": value for name, value in settings.items()},
        }
        with (tmp_path / "service.log").open("a+") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bikecast", "serve", "--bind", bind],
                env=os.environ | given,
                stderr=log,
                text=True,
            )
            try:
                log.seek(0, os.SEEK_END)
                until(lambda: " on " in last_line(tmp_path / "service.log"))
                service = Service(process, last_line(tmp_path / "service.log").split()[-1])
                if bind.startswith("127"):
                    until(lambda: len(service.workers()) == 3)
                    until(lambda: service.ask("/ready").status_code == 200)
                yield service
            finally:
                process.terminate()
                process.wait(30)
                (tmp_path / "service.log").rename(tmp_path / f"service-{process.pid}.log")

    yield run


def last_line(path: Path) -> str:
    """Of those that say where a service is."""
    lines = [x for x in path.read_text().splitlines() if x.startswith("serving ") and " on " in x]
    return lines[-1] if lines else ""


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def make_key(run: Callable[..., Any], name: str) -> dict[str, str]:
    """A new key as the headers that it is sent in."""
    return {"Authorization": f"Bearer {run('keys', 'create', name).stdout.strip()}"}


def test_keys_are_made_listed_and_revoked(run: Callable[..., Any], rows: Any) -> None:
    """The key is shown once; what admins did stays written down."""
    made = json.loads(run("keys", "create", "planner", "--json").stdout)
    assert made["name"] == "planner" and made["key_id"] in made["key"]
    assert rows("SELECT count(*) FROM api_key WHERE sha256 = sha256(%s::bytea)", made["key"])
    listed = run("keys", "list", "--json").stdout
    assert made["key"] not in listed and json.loads(listed)[0]["revoked_at"] is None
    with pytest.raises(InputError, match="a key named 'planner' already.*keys revoke planner"):
        run("keys", "create", "planner")
    for name in ("", "-x", "a b", "ä", "x" * 64, "a'; DROP TABLE api_key; --"):
        with pytest.raises(InputError, match="no name of a key"):
            run("keys", "create", "--", name)
    revoked = json.loads(run("keys", "revoke", "planner", "--json").stdout)
    assert revoked["key_id"] == made["key_id"] and revoked["revoked_at"]
    with pytest.raises(UnknownName, match="no valid key is named 'planner'"):
        run("keys", "revoke", "planner")
    assert run("keys", "create", "planner").stdout.strip().startswith("bikecast_")
    assert "revoked" in run("keys", "list").stdout and "valid" in run("keys", "list").stdout
    assert "planner" in run("keys", "revoke", "planner").stdout
    acts = rows("SELECT act, subject, who FROM admin_act ORDER BY act_id")
    assert [act for act, _, _ in acts] == ["key created", "key revoked"] * 2
    assert acts[0][1] == f"planner {made['key_id']}" and "@" in acts[0][2]
    for change in ("UPDATE admin_act SET who = 'nobody'", "DELETE FROM admin_act"):
        with pytest.raises(Exception, match="written down for good"):
            rows(change)


def test_what_admins_did_is_read_newest_first(run: Callable[..., Any], store: Store) -> None:
    """As a table and as JSON; names are printed as they are."""
    assert json.loads(run("audit", "--json").stdout) == []
    made = json.loads(run("keys", "create", "planner", "--json").stdout)
    run("keys", "revoke", "planner")
    store.keys.note("admin token from [/192.0.2.1]", "reload")
    first, second, third = json.loads(run("audit", "--json").stdout)
    assert (first["act"], first["who"]) == ("reload", "admin token from [/192.0.2.1]")
    assert (second["act"], third["act"]) == ("key revoked", "key created")
    assert third["subject"] == f"planner {made['key_id']}" and "@" in third["who"]
    assert first["at"] >= second["at"] >= third["at"] and "+" in first["at"]
    assert [a["act"] for a in json.loads(run("audit", "--limit", "1", "--json").stdout)] == [
        "reload"
    ]
    told = run("audit", "--limit", "2").stdout
    assert "admin token from [/192.0.2.1]" in told and "key revoked" in told
    assert "key created" not in told and made["key"] not in run("audit").stdout


def test_a_database_of_an_older_schema_has_no_keys(
    run: Callable[..., Any], store: Store, rows: Any
) -> None:
    """Commands say what to do, and so does whoever reads keys all the same."""
    for table in ("api_key", "admin_act"):
        rows(f"DROP TABLE {table}")
    rows("UPDATE schema_info SET schema = 2")
    with pytest.raises(InputError, match="schema 2, this release needs 4; run `bikecast db upgr"):
        run("keys", "create", "planner")
    with pytest.raises(InputError, match="bikecast db upgrade"):
        run("audit")
    with pytest.raises(InputError, match="bikecast db upgrade"):
        store.keys.valid()


def test_a_required_key_opens_and_a_revoked_one_does_not(
    start: Callable[..., Any], run: Callable[..., Any]
) -> None:
    """In every worker, within seconds of either."""
    first = make_key(run, "first")
    with start(require_key="true") as service:
        assert service.statuses(10) == [401] * 10
        assert service.statuses(10, headers=first) == [200] * 10
        later = make_key(run, "later")
        until(lambda: service.statuses(10, headers=later) == [200] * 10)
        run("keys", "revoke", "first")
        until(lambda: service.statuses(10, headers=first) == [401] * 10, seconds=10)
        assert service.ask("/health").status_code == 200


def test_a_restart_without_the_database_knows_the_keys(
    start: Callable[..., Any], run: Callable[..., Any], database_url: str, tmp_path: Path
) -> None:
    """Those that were valid when it last answered; a new one once it is back."""
    valid, gone = make_key(run, "valid"), make_key(run, "gone")
    run("keys", "revoke", "gone")
    with start(require_key="true") as service:
        assert service.ask(headers=valid).status_code == 200
    (kept,) = (tmp_path / "home").glob("served/*/keys-1.json")
    assert kept.stat().st_mode & 0o777 == 0o600 and "bikecast_" not in kept.read_text()
    with database_gone(database_url):
        with start(require_key="true") as service:
            assert service.statuses(6, headers=valid) == [200] * 6
            assert service.statuses(6, headers=gone) == [401] * 6
            assert service.statuses(6) == [401] * 6


def test_workers_count_together(start: Callable[..., Any], run: Callable[..., Any]) -> None:
    """Also after one was killed, whose counts stay; each key and each address by itself."""
    key = make_key(run, "busy")
    with start(key_limit="30", address_limit="20", trusted_proxies="127.0.0.1") as service:
        told = service.statuses(25, headers=key)
        os.kill(service.workers()[0], signal.SIGKILL)
        told += service.statuses(35, headers=key)
        # Each for itself they would let all 60 pass; a window may end meanwhile.
        assert 30 <= told.count(200) < 50 and set(told) == {200, 429}
        answers = (service.ask(headers=key) for _ in range(60))
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 0 < int(refused.headers["Retry-After"]) <= 120
        for address in ("198.51.100.1", "198.51.100.2"):
            told = service.statuses(30, headers={"X-Forwarded-For": f"192.0.2.1, {address}"})
            assert 20 <= told.count(200) < 28 and set(told) == {200, 429}
        assert service.statuses(5, path="/health") == [200] * 5


def test_an_address_from_nowhere_is_not_believed(start: Callable[..., Any]) -> None:
    """Whatever a client writes in the header, it is one client."""
    with start(address_limit="10") as service:
        told = [
            service.ask(headers={"X-Forwarded-For": f"198.51.100.{i}"}).status_code
            for i in range(15)
        ]
        assert 10 <= told.count(200) < 15


def test_admins_reload_and_are_written_down(
    start: Callable[..., Any], run: Callable[..., Any], rows: Any, database_url: str, tmp_path: Path
) -> None:
    """By a token from a file; without the database the log alone has it."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    admin = {"method": "POST", "path": "/model/reload"}
    with start(admin_token_file=str(tmp_path / "token")) as service:
        assert service.ask(**admin).status_code == 401
        assert service.ask(**admin, headers=make_key(run, "no-admin")).status_code == 401
        token = {"Authorization": f"Bearer {TOKEN}"}
        found = service.ask(**admin, headers=token).json()
        assert (found["keys"], found["audited"], found["trouble"]) == (1, True, None)
        acts = rows("SELECT who, act FROM admin_act WHERE act = 'reload'")
        assert acts == [("admin token from 127.0.0.1", "reload")]
        with database_gone(database_url):
            found = service.ask(**admin, headers=token).json()
            assert found["audited"] is False
            assert service.ask().status_code == 200
        assert "reload by admin token from 127.0.0.1" in (tmp_path / "service.log").read_text()
        assert TOKEN not in (tmp_path / "service.log").read_text()


def from_address(port: int, address: str, path: str, said: str = "", colour: str = "") -> int:
    """The status of a request from an address of this machine, which may say it is another's.

    :param colour: which it asks for; only blue is there.
    """
    headers = {"X-Forwarded-For": said, "X-Bikecast-Colour": colour}
    headers = {name: value for name, value in headers.items() if value}
    asking = HTTPConnection("127.0.0.1", port, 30, source_address=(address, 0))
    with closing(asking):
        asking.request("GET", path, headers=headers)
        return asking.getresponse().status


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx here")
def test_behind_the_proxy_clients_are_told_apart_and_cannot_lie(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """nginx says who asks in the place of what the client says; metrics are for the host."""
    ask = partial(from_address, port := free_port())
    with start(bound(tmp_path), address_limit="10"), proxied(tmp_path, port):
        until(lambda: ask("127.0.0.1", "/ready") == 200)
        lies = [ask("127.0.0.2", "/stations", f"192.0.2.{i}") for i in range(14)]
        assert 10 <= lies.count(200) < 14
        assert ask("127.0.0.3", "/stations", "127.0.0.2") == 200
        assert ask("127.0.0.1", "/metrics") == 200
        for path in ("/metrics", "//metrics", "/./metrics", "/%6detrics", "/x/../metrics"):
            assert ask("127.0.0.2", path) == 404
        assert ask("127.0.0.2", "/metrics", "127.0.0.1") == 404
        assert ask("127.0.0.1", "/ready", colour="green") == 502
        assert ask("127.0.0.2", "/ready", colour="green") == 200


def bound(folder: Path) -> str:
    """Where the blue service listens for the proxy of a folder.

    The proxy ends first: a service that ends waits for the connections that a proxy keeps.
    """
    (folder / "sockets/blue").mkdir(parents=True)
    return f"unix:{folder}/sockets/blue/api.sock"


BALANCERS = "127.0.0.2", "127.0.1.0/24"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx here")
def test_behind_a_balancer_of_a_host_clients_are_those_that_it_names(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """And nobody is the host itself who only says so."""
    ask = partial(from_address, port := free_port())
    with start(bound(tmp_path), address_limit="10"), proxied(tmp_path, port, *BALANCERS):
        until(lambda: ask("127.0.0.1", "/ready") == 200)
        clients_are_those_that_a_balancer_names(ask)
        assert ask("127.0.0.2", "/metrics", "127.0.0.1") == 404
        assert ask("127.0.0.2", "/ready", "127.0.0.1", "green") == 200
        assert ask("127.0.0.1", "/metrics") == 200


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx here")
def test_behind_a_balancer_of_inv_up_clients_are_those_that_it_names(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """As on hosts."""
    ask = partial(from_address, port := free_port())
    with start(address_limit="10", trusted_proxies="127.0.0.1") as service:
        with composed(tmp_path, port, int(service.url.rpartition(":")[2]), *BALANCERS):
            clients_are_those_that_a_balancer_names(ask)


def clients_are_those_that_a_balancer_names(ask: Callable[..., int]) -> None:
    """One that is listed, or several in a row; what stands before is the client's to write."""
    for address, behind in (("198.51.100.1", ""), ("198.51.100.2", ", 127.0.1.9")):
        said = [f"192.0.2.{i}, {address}{behind}" for i in range(14)]
        told = [ask("127.0.0.2", "/stations", words) for words in said]
        assert 10 <= told.count(200) < 14
    unlisted = [ask("127.0.0.3", "/stations", f"192.0.2.{i}") for i in range(14)]
    assert 10 <= unlisted.count(200) < 14


def test_two_releases_on_one_database(store: Store, rows: Any) -> None:
    """What the one before reads is as it was: it may still read and write."""
    assert store.status().min_reader == 1
    key = new_key("a")[1]
    store.keys.add(key, "somebody@here")
    assert store.keys.valid() == store.keys.all() == (key,)
