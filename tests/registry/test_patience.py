"""How long MLflow's client waits; what it then does is tested in tests/integration."""

import os
import socket

import pytest

from bikecast import registry
from bikecast.errors import Unavailable
from bikecast.registry import Registry, fail_soon

SET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"}


@pytest.fixture
def nothing_set(monkeypatch):
    """Neither is set; what the test sets is gone after it."""
    for name in SET:
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


@pytest.fixture
def silent():
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_says_nothing_does_not_answer(silent, nothing_set, monkeypatch):
    """It is waited for as long as a refresher can, not for two minutes a try."""
    monkeypatch.setattr(registry, "NO_ANSWER_AFTER", "1")
    monkeypatch.setattr(registry, "TRIES_AGAIN", "0")
    fail_soon()
    with pytest.raises(Unavailable, match=r"MLflow does not answer.*read timeout=1\)"):
        Registry(silent, "m").get("production")


def test_what_is_set_stays(nothing_set, monkeypatch):
    """Who has a slow server says so."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    fail_soon()
    found = {name: os.environ[name] for name in SET}
    assert found == {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}
