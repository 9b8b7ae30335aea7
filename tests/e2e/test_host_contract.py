"""A real host over SSH does what the host of the unit tests does."""

from collections.abc import Iterator

import pytest
from fleet.hosts import Fleet
from fleet.hosts import Host as Machine
from fleet.registry import Registry
from host_contract import CONTRACT

from bikecast.ops.environment import Environment, parse_environment
from bikecast.ops.ssh import SshHost

pytestmark = pytest.mark.e2e

TEXT = """
[registry]
image = "{registry}/bikecast"
username = "{username}"
password = {{env = "PASSWORD"}}
[hosts]
addresses = ["{address}"]
key = {{env = "KEY"}}
known_hosts = {{env = "KNOWN"}}
connect_timeout = 5
command_timeout = 60
[proxy]
image = "{nginx}"
[service]
system = "made-up"
database_url = "postgresql://nobody@db.invalid/none"
"""


@pytest.fixture
def machine(hosts: list[Machine]) -> Iterator[Machine]:
    """A host as it was made."""
    hosts[0].wipe()
    yield hosts[0]
    hosts[0].wipe()


@pytest.fixture
def env(machine: Machine, fleet: Fleet, registry: Registry, nginx: str) -> Environment:
    """An environment of that host alone."""
    text = TEXT.format(
        registry=registry.address,
        username=registry.username,
        address=machine.address,
        nginx=nginx,
    )
    values = {"PASSWORD": registry.password, "KEY": fleet.key, "KNOWN": fleet.known_hosts}
    return parse_environment(text, "staging.toml", "staging", {"env": values.__getitem__})


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda holds: holds.__name__)
def test_a_real_host_keeps_the_contract(machine, env, holds):
    """Over SSH, with its own Docker engine."""
    host = SshHost(env.hosts.addresses[0], env.hosts)
    try:
        holds(host, env)
    finally:
        host.close()
