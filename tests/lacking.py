"""What a test needs, and this machine lacks."""

import os
from typing import NoReturn

import pytest


def lacking(why: str) -> NoReturn:
    """Skip the test and say why; in CI, where a skip would pass for a test that held, fail it."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
