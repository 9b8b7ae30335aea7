"""What the application says where no route does."""

import logging
from typing import NoReturn

import pytest
from flask.testing import FlaskClient


def test_a_path_that_does_not_exist_is_a_problem(client: FlaskClient) -> None:
    """In the form of every other."""
    answer = client.get("/predictions")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.json["type"] == "/problems/not-found"
    assert answer.json["instance"] == "/predictions"


def test_a_method_that_is_not_offered_names_those_that_are(client: FlaskClient) -> None:
    """RFC 9110 wants the header `Allow`."""
    answer = client.get("/predict")
    assert answer.status_code == 405
    assert answer.json["type"] == "/problems/method-not-allowed"
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert answer.headers.getlist("Content-Type") == ["application/problem+json"]


def test_a_failure_of_our_own_is_logged_and_not_told(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """No trace and no message of the exception in the answer."""

    def broken() -> NoReturn:
        raise RuntimeError("a secret")

    client.application.add_url_rule("/broken", view_func=broken)
    with caplog.at_level(logging.ERROR):
        answer = client.get("/broken")
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert answer.json["type"] == "/problems/internal-error"
    assert "a secret" in caplog.text
