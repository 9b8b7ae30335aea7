"""What is in production, in a real MLflow, and what a real PostgreSQL says of it."""

import json
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg2.errors
import pytest
from postgres import database_gone

from bikecast.errors import BikecastError, InputError, Locked, Refused, Unavailable
from bikecast.history import build_history
from bikecast.models import MODELS
from bikecast.models.base import Grid
from bikecast.production import DONE, NOTICED, PROMOTE, ROLLBACK, UNDONE, Production
from bikecast.promote import Check, Verdict, promote
from bikecast.records import System
from bikecast.registry import CHALLENGER, PRODUCTION, Registry, TrainingRun
from bikecast.store import Store, ensure_database
from bikecast.store.connection import fetch, transaction

pytestmark = pytest.mark.integration

CITY = System("city", timezone="America/New_York")
GOOD = {"mae": 1.0, "rmse": 2.0}
SCORES = {"mean4w": GOOD, "naive": {"mae": 2.0, "rmse": 4.0}, "champion": GOOD}


def fitted():
    """A forecaster of three weeks of a station."""
    hours = [datetime(2018, 5, 1) + timedelta(hours=i) for i in range(24 * 21)]
    flows = {"pickups": [h.hour for h in hours], "returns": [23 - h.hour for h in hours]}
    panel = pl.DataFrame({"station_id": ["a"] * len(hours), "hour": hours, **flows})
    forecaster = MODELS["mean4w"]()
    forecaster.fit(build_history(panel, CITY), Grid(24))
    return forecaster


@pytest.fixture(autouse=True)
def open_gate(monkeypatch):
    """What it says is no subject here, and its answer to three alike would be no."""

    def validate(registry, which, rule, moves):
        return Verdict(registry.get(which), (Check("errs less", "promote", "by far", {"gain": 1}),))

    monkeypatch.setattr("bikecast.promote.validate", validate)


@pytest.fixture
def registry(mlflow_url, tmp_path):
    """A registry of three versions that all pass the gate."""
    registry = Registry(mlflow_url, "bike-demand-forecaster", tmp_path / "models")
    training = TrainingRun(CITY, "mean4w", {}, SCORES, "2018-05-01", "2018-05-22", "abc")
    for _ in range(3):
        registry.register(fitted(), training)
    return registry


def told(production):
    """The book, but for the word that a move came through."""
    return [m for m in production.book.all() if m.kind != DONE]


def moves(production):
    """The book: kind, from and to."""
    return [(m.kind, m.from_version, m.to_version) for m in told(production)]


def test_who_moved_what_and_why_is_written_down_for_good(registry, production, rows):
    """The gate's figures are the reason where none is given; each rollback goes further back."""
    began = datetime.now(UTC)
    promote(production, "1")
    promote(production, "2", why="winter is in the data")
    promote(production, "2")
    promote(production, "3")
    assert production.rollback("off at night").version == "2"
    assert production.rollback().version == "1"
    with pytest.raises(Refused, match="version 1 is the first in production"):
        production.rollback()
    expected = [(PROMOTE, "", "1"), (PROMOTE, "1", "2"), (PROMOTE, "2", "3")]
    assert moves(production) == [*expected, (ROLLBACK, "3", "2"), (ROLLBACK, "2", "1")]
    book = told(production)
    assert {(m.who, m.system_id) for m in book} == {("ann@laptop", "city")}
    assert book[0].why == "errs less by far"
    assert [m.why for m in book[1:2] + book[3:]] == [
        *("winter is in the data", "off at night", "rollback")
    ]
    minute = timedelta(minutes=1)
    assert all(began - minute < m.at < datetime.now(UTC) + minute for m in book)
    for change in (
        "UPDATE promotion SET who = 'nobody'",
        "DELETE FROM promotion",
        "TRUNCATE promotion",
    ):
        with pytest.raises(BikecastError, match="written down for good") as error:
            rows(change)
        assert isinstance(error.value.__cause__, psycopg2.errors.RaiseException)


def test_what_was_trained_meanwhile_stays_challenger(registry, production, monkeypatch):
    """A gate may take minutes, in which a training ends."""
    judged = replace(registry.get("2"), aliases=(CHALLENGER,))
    verdict = Verdict(judged, (Check("errs less", "promote", "by far"),))
    monkeypatch.setattr("bikecast.promote.validate", lambda *_: verdict)
    promote(production, "2")
    assert registry.in_production() == "2" and registry.get(CHALLENGER).version == "3"


def test_each_model_has_a_book_of_its_own(production, store):
    """Several cities share a database."""
    promote(production, "1")
    assert store.promotions("another").all() == ()


def test_what_is_moved_in_mlflow_itself_is_noticed(registry, production):
    """By whoever looks next, once; the way back knows of it."""
    registry.put_in_production(registry.get("1"))
    registry.put_in_production(registry.get("2"))
    production.notice()
    assert moves(production) == [(NOTICED, "1", "2")]
    assert "before moves were written down" in told(production)[0].why
    registry.client.set_registered_model_alias(registry.name, PRODUCTION, "3")
    production.notice()
    production.notice()
    assert moves(production)[1:] == [(NOTICED, "2", "3")]
    assert "other means" in told(production)[1].why
    production.rollback()
    registry.client.set_registered_model_alias(registry.name, PRODUCTION, "3")
    production.notice()
    assert moves(production)[2:] == [(ROLLBACK, "3", "2"), (NOTICED, "2", "3")]
    registry.client.delete_registered_model_alias(registry.name, PRODUCTION)
    promote(production, "3")
    assert moves(production)[4:] == [(NOTICED, "3", ""), (PROMOTE, "", "3")]
    assert production.rollback().version == "2"


def test_the_card_tells_who_promoted_it_and_why(registry, production, run, tmp_path, monkeypatch):
    """As a page that stands with its run, renewed with each move; on the terminal and as JSON."""

    def page():
        return registry.client.download_artifacts(version.run_id, "card.html", str(tmp_path))

    version = registry.get("2")
    assert "Never, as far as is written down." in Path(page()).read_text()
    promote(production, "1")
    promote(production, "2", why="winter & snow")
    assert "winter &amp; snow" in Path(page()).read_text()
    monkeypatch.setenv("BIKECAST_MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("BIKECAST_MODEL_NAME", registry.name)
    written = tmp_path / "written.html"
    shown = run("model", "show", "--html", written).stdout
    for words in ("version 2 (production): mean4w of city", "winter & snow", "not validated"):
        assert words in shown
    assert written.read_text() == Path(page()).read_text()
    found = json.loads(run("model", "show", "1", "--json").stdout)
    assert found["scores"] == SCORES and found["data_hash"] == "abc"
    assert [m["to_version"] for m in found["moves"]] == ["1"] and found["gate"] is None
    registry.client.log_dict(
        version.run_id,
        {"outcome": "reject", "checks": [{"name": "n", "outcome": "reject", "detail": "no good"}]},
        "gate/report.json",
    )
    assert "weak spot: the gate on n: reject, no good" in run("model", "show", "2").stdout
    with pytest.raises(InputError, match="cannot be written: No such file"):
        run("model", "show", "--html", tmp_path / "nowhere" / "card.html")


def test_a_move_waits_for_whoever_just_looks(production):
    """As the refresher does again and again."""
    promote(production, "1")
    with ExitStack() as looking:
        looking.enter_context(production.book.turn())
        threading.Timer(3, looking.close).start()
        assert promote(production, "2").version.version == "2"


def test_nobody_moves_it_while_another_does(production, monkeypatch):
    """The second is told, when it has waited; looking goes on."""
    monkeypatch.setattr("bikecast.production.PATIENCE", 0.3)
    promote(production, "1")
    with production.book.turn():
        with pytest.raises(Locked, match="another command moves bike-demand-forecaster"):
            promote(production, "2")
        with pytest.raises(Locked):
            production.rollback()
        production.notice()
    assert promote(production, "2").version.version == "2"


def test_what_was_judged_against_another_champion_is_not_put_in_its_place(registry, production):
    """Two promotions at once: the later one is to be judged anew."""
    promote(production, "1")
    champion = registry.get(PRODUCTION)
    promote(production, "2")
    with pytest.raises(Refused, match="moved meanwhile: it is 2, no longer 1; promote again"):
        production.put(registry.get("3"), "", champion)
    assert moves(production) == [(PROMOTE, "", "1"), (PROMOTE, "1", "2")]


class Dying(Registry):
    """A registry that fails as it is to move the alias."""

    def __init__(self, registry, fail):
        self.__dict__ |= registry.__dict__
        self.fail = fail

    def _point_production(self, version):
        self.fail(super()._point_production, version)


def unheard(point, version):
    """MLflow dies before it moves anything."""
    raise Unavailable("MLflow does not answer")


def unanswered(point, version):
    """MLflow moves it, and dies before it says so."""
    point(version)
    raise Unavailable("MLflow does not answer")


class Killed(BaseException):
    """This process is no more."""


def killed(point, version):
    """The command dies before it moves anything."""
    raise Killed


def killed_after(point, version):
    """The command dies as soon as it is moved."""
    point(version)
    raise Killed


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (unheard, [(PROMOTE, "1", "2"), (UNDONE, "2", "1")]),
        (killed, [(PROMOTE, "1", "2"), (UNDONE, "2", "1")]),
        (unanswered, [(PROMOTE, "1", "2")]),
        (killed_after, [(PROMOTE, "1", "2")]),
    ],
)
def test_alias_and_book_agree_whatever_dies_in_between(registry, production, fail, expected):
    """Who wanted what and why is kept, and whether it came about; the next command goes on."""
    promote(production, "1")
    dying = Production(Dying(registry, fail), production.book, "bob@laptop")
    with pytest.raises((Unavailable, Killed)):
        promote(dying, "2", why="a better one")
    production.notice()
    assert moves(production)[1:] == expected
    assert (told(production)[1].who, told(production)[1].why) == (*("bob@laptop", "a better one"),)
    assert production.book.all()[-1].to_version == registry.in_production()
    assert promote(production, "3").passed
    assert production.rollback().version == expected[-1][2]


def test_without_the_database_nothing_is_moved(registry, production, store):
    """What cannot be written down does not happen."""
    promote(production, "1")
    with database_gone(store.url):
        for move in (lambda: promote(production, "2"), production.rollback):
            with pytest.raises(BikecastError):
                move()
    assert registry.in_production() == "1" and moves(production) == [(PROMOTE, "", "1")]


def test_a_database_that_dies_after_the_book_was_written_loses_nothing(registry, server, tmp_path):
    """The alias is moved all the same, as the book says."""
    store = Store(ensure_database(server.url, f"book_{tmp_path.name.lower()[:40]}"))
    store.upgrade()
    book = store.promotions(registry.name)

    def die(point, version):
        server.kill()
        point(version)

    promote(Production(Dying(registry, die), book, "ann@laptop"), "1")
    server.start()
    production = Production(registry, book, "ann@laptop")
    production.notice()
    assert registry.in_production() == "1" and moves(production) == [(PROMOTE, "", "1")]


def test_without_mlflow_the_book_is_read_all_the_same(run, registry, production, monkeypatch):
    """What was in production is asked when something is wrong; what is not in it yet is said."""
    promote(production, "1")
    monkeypatch.setenv("BIKECAST_MODEL_NAME", registry.name)
    monkeypatch.setenv("BIKECAST_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = run("model", "history", "--json")
    assert [m["to_version"] for m in json.loads(found.stdout)] == ["1"]
    assert "what was moved in MLflow itself may be lacking: MLflow does not" in found.stderr


def test_a_database_of_the_release_before_gets_the_book(postgres, tmp_path):
    """And the release before goes on reading it."""
    store = Store(ensure_database(postgres, f"before_{tmp_path.name.lower()[:40]}"))
    store.upgrade()
    with transaction(store.url) as connection:
        fetch(connection, "DROP TABLE promotion; DROP FUNCTION promotion_stays")
        fetch(connection, "UPDATE schema_info SET schema = 3")
        fetch(connection, "UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(InputError, match="bikecast db upgrade"):
        store.promotions("m").all()
    store.upgrade()
    assert store.promotions("m").all() == () and store.status().min_reader == 1


def test_the_commands_tell_what_was_in_production_when(run, registry, production, monkeypatch):
    """As a table, as JSON and at a moment, local or with an offset."""
    monkeypatch.setenv("BIKECAST_MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("BIKECAST_MODEL_NAME", registry.name)
    monkeypatch.setenv("BIKECAST_WHO", "eve@desk")
    assert json.loads(run("model", "history", "--json").stdout) == []
    run("model", "promote", "1", "--why", "the [first]")
    run("model", "promote", "2")
    assert json.loads(run("model", "rollback", "--why", "off", "--json").stdout)["version"] == "1"
    found = json.loads(run("model", "history", "--json").stdout)
    assert [(m["kind"], m["to_version"], m["who"]) for m in found] == [
        (kind, to, "eve@desk") for kind, to in ((PROMOTE, "1"), (PROMOTE, "2"), (ROLLBACK, "1"))
    ]
    table = run("model", "history").stdout
    assert "the [first]" in table and "rollback" in table and "eve@desk" in table
    second = found[1]["at"]
    at = json.loads(run("model", "history", "--at", second, "--json").stdout)
    assert (at["version"], at["since"], at["move"]["kind"]) == ("2", second, PROMOTE)
    assert f"version 2, since {second[:10]}" in run("model", "history", "--at", second).stdout
    assert "no version is known" in run("model", "history", "--at", "2001-01-01T00:00").stdout
    before = json.loads(run("model", "history", "--at", "2001-01-01T00:00", "--json").stdout)
    assert before == {
        "at": "2001-01-01T00:00:00+00:00",
        "version": None,
        "since": None,
        "move": None,
    }
    with pytest.raises(InputError, match="--at: timestamp 'yesterday' is not RFC 3339"):
        run("model", "history", "--at", "yesterday")
