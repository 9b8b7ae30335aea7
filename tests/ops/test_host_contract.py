"""The host in a folder does what a real one does; see tests/e2e/test_host_contract.py."""

import pytest
from host_contract import CONTRACT
from local_host import LocalHost, environment


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda holds: holds.__name__)
def test_a_local_host_keeps_the_contract(make_hosts, tmp_path, holds):
    """One folder for each test."""
    holds(LocalHost("alone", tmp_path / "alone"), environment())
