"""A few requests that tell whether a release answers as it should."""

import math
from http.server import ThreadingHTTPServer

import pytest
from deployer import Deployer
from http_server import Handler, serving
from local_host import target

from bikecast.errors import Refused
from bikecast.ops import smoke as ops_smoke
from bikecast.ops.preparing import try_out
from bikecast.ops.smoke import asking, smoke

MEANS = {"pickups": {"mean": 1.5}, "returns": {"mean": 0.0}}
GOOD = {
    "/health": (200, {}),
    "/ready": (200, {"status": "ready"}),
    "/version": (200, {"commit": "a" * 40}),
    "/stations": (200, {"stations": [{"station_id": "S1"}]}),
    "/predict": (200, {**MEANS, "model": {"version": "7"}, "as_of": "2026"}),
}


def service(**changes):
    """A service that answers well but for some paths; and what it was asked."""
    answers, asked = GOOD | {f"/{k}": v for k, v in changes.items()}, []

    def ask(method, path, document):
        asked.append((method, path, document))
        found = answers[path]
        if isinstance(found, Exception):
            raise found
        return found

    return ask, asked


def test_a_good_release_is_told_in_one_line():
    """Five requests; the first station is asked for."""
    ask, asked = service()
    assert smoke(ask, "a" * 12) == "S1: model 7, as of 2026, ready"
    assert [path for _, path, _ in asked] == list(GOOD)
    assert asked[-1] == ("POST", "/predict", {"station_id": "S1"})


def test_a_release_that_must_reach_its_database_is_refused_without_it(monkeypatch):
    """Not at once: it may still be connecting. A way back does not ask for that."""
    monkeypatch.setattr(ops_smoke, "REACHED_WITHIN", 0.0)
    gone = {"status": "degraded", "reasons": ["the database does not answer"]}
    ask, _ = service(ready=(200, gone))
    assert smoke(ask, "").endswith("degraded")
    with pytest.raises(Refused, match="database does not answer"):
        smoke(ask, "", reaching=True)
    answers = iter([gone, {"status": "ok", "reasons": []}])
    good, _ = service()

    def connecting(method, path, document):
        return (200, next(answers)) if path == "/ready" else good(method, path, document)

    monkeypatch.setattr(ops_smoke, "REACHED_WITHIN", 60.0)
    assert smoke(connecting, "", reaching=True).endswith("ok")


def test_a_station_may_be_named():
    """Then none is looked for."""
    ask, asked = service(stations=(500, None))
    assert smoke(ask, "", "S9").startswith("S9: ")
    assert asked[-1][2] == {"station_id": "S9"}


@pytest.mark.parametrize("release", ["", "a" * 12, "a" * 12 + "-dirty"])
def test_the_release_is_the_beginning_of_its_commit(release):
    """A tree that had changes is named by the commit below."""
    smoke(service()[0], release)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"health": (503, {"detail": "starting"})}, "GET /health answers 503 starting$"),
        ({"health": (200, [])}, "GET /health answers 200$"),
        ({"health": (502, None)}, "GET /health answers 502$"),
        ({"ready": (503, {"detail": "no table"})}, "GET /ready answers 503 no table"),
        ({"ready": OSError("refused")}, "GET /ready: refused"),
        ({"ready": TimeoutError()}, "GET /ready: TimeoutError"),
        ({"version": ValueError("no JSON")}, "GET /version: no JSON"),
        ({"version": (200, {"commit": "b" * 40})}, "GET /version says commit b+, not aaaaaaaaaaaa"),
        ({"version": (200, {})}, "GET /version says commit unknown, not aaaaaaaaaaaa"),
        ({"version": (200, {"commit": None})}, "says commit unknown"),
        ({"stations": (200, {"stations": []})}, "GET /stations lists none; .*bikecast forecast"),
        ({"stations": (200, {})}, "GET /stations lists none"),
        ({"predict": (500, {"detail": "oops"})}, "POST /predict answers 500 oops"),
        ({"predict": (200, {})}, r"POST /predict for S1 answers \[None, None\] as means"),
        ({"predict": (200, {"pickups": None, "returns": None})}, r"answers \[None, None\]"),
        ({"predict": (200, MEANS | {"returns": {"mean": -1}})}, r"answers \[1.5, -1\] as means"),
        ({"predict": (200, MEANS | {"pickups": {"mean": math.nan}})}, r"answers \[nan, 0.0\]"),
        ({"predict": (200, MEANS | {"pickups": {"mean": math.inf}})}, r"answers \[inf, 0.0\]"),
        ({"predict": (200, MEANS | {"pickups": {"mean": "1"}})}, r"answers \['1', 0.0\]"),
    ],
)
def test_a_wrong_answer_is_refused_by_its_request(changes, says):
    """Exit code 1; nothing else is asked after it."""
    with pytest.raises(Refused, match=says) as error:
        smoke(service(**changes)[0], "a" * 12)
    assert error.value.exit_code == 1


@pytest.mark.parametrize("returns", [None, {"mean": None}, {}])
def test_one_of_the_two_means_is_enough(returns):
    """A system may know its pickups alone."""
    smoke(service(predict=(200, {"pickups": {"mean": 2}, "returns": returns}))[0], "")


def test_a_colour_is_asked_by_a_header(hosts):
    """Without it whatever riders get answers."""
    with hosts[0].tunnel(8000) as port:
        for colour, commit in (("", "b" * 12), ("blue", "a" * 12), ("green", "b" * 12)):
            status, answer = asking(port, None, colour)("GET", "/version", None)
            assert (status, answer) == (200, {"commit": commit})


def test_a_key_goes_with_each_request():
    """Where the service requires one; the line end of its file does not."""
    seen = []

    class Listening(Handler):
        def do_GET(self):
            seen.append(self.headers["X-API-Key"])
            self.answer(200, b"{}")

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Listening)) as server:
        for key in ("a key\n", ""):
            assert asking(server.server_port, None, key=key)("GET", "/model", None) == (200, {})
    assert seen == ["a key", None]


def test_the_host_that_answers_wrongly_is_named(hosts):
    """With what its release said last; also where its proxy does not run."""
    hosts[1].change("bikecast-blue", status="exited")
    deployer = Deployer(hosts)
    site = deployer.site
    one, two = site.fleet.hosts
    with pytest.raises(Refused, match="^two: GET /health answers 502"):
        try_out(site, target("a").release, {one: "blue", two: "blue"})
    assert deployer.said == ["two|   bikecast-blue started"]
    hosts[0].change("bikecast-proxy", status="exited")
    with pytest.raises(Refused, match="^one: nothing answers on its port 8000"):
        try_out(site, target("b").release, {one: ""})
