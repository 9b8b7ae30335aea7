"""A server of advisories for the tests of audits."""

import osv
import pytest


@pytest.fixture
def advisories():
    """The URL of its queries, for the time of a test."""
    with osv.serving() as url:
        yield url
