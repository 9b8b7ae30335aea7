"""What `inv status` and `inv releases` show, and what they advise."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bikecast.ops.reports import Row, advice, merged, row_of
from bikecast.ops.state import Entry, Lock


@pytest.fixture
def state(hosts):
    """The state of a host in order: b is live in green, a is warm in blue."""
    return hosts[0].state()


def changed(state, name, **fields):
    """The state with another container of that name."""
    containers = tuple(replace(c, **fields) if c.name == name else c for c in state.containers)
    return replace(state, containers=containers)


def test_a_host_is_told_in_a_row(state):
    """Colour, release, health, how long, what else there is."""
    started = state.service("green").started
    row = row_of("one", state, "bikes 7", started + timedelta(hours=3, minutes=7))
    assert row == Row(
        *("one", "green", "b" * 12, "b" * 12, "healthy", "3h 7m", "100 %", "bikes 7"),
        *("aaaaaaaaaaaa (running)", "running", ""),
    )
    assert row.cells()[-1] == "–" and len(row.cells()) == 11
    days = row_of("one", state, "", started + timedelta(days=2, hours=5))
    assert days.uptime == "2d 5h"


def test_a_host_without_a_release_has_an_empty_row(fresh):
    """And one that does not answer says why."""
    row = row_of("one", fresh[0].state(), "")
    assert row == Row("one") and set(row.cells()[1:]) == {"–"}
    assert Row("two", error="gone").cells() == ["two", "gone"]


def test_who_holds_the_lock_is_told(state):
    """By name, where that is known."""
    lock = Lock(1, {"who": "ann"}, "")
    assert row_of("one", replace(state, lock=lock), "").lock == "ann"
    assert row_of("one", replace(state, lock=Lock(1, {}, "")), "").lock == "somebody"


def told(*states, errors=()):
    """The advice for some hosts."""
    named = {f"h{i}": s for i, s in enumerate(states)}
    rows = [row_of(name, s, "") for name, s in named.items()]
    return advice(rows + [Row(name, error="silence") for name in errors], named)


def test_where_all_is_well_there_is_no_advice(state):
    """A service that is just starting is well too."""
    assert told(state, state) == []
    assert told(changed(state, "bikecast-green", health="starting")) == []


def test_what_is_not_well_is_told_with_the_next_step(state):
    """A mixed fleet, a canary, a sick service, no proxy, no answer."""
    mixed = replace(state, green=0)
    assert told(state, mixed) == [
        "the fleet is mixed (aaaaaaaaaaaa, bbbbbbbbbbbb): `inv rollback` puts it on the older"
    ]
    assert told(replace(state, green=5)) == [
        "h0: a canary has 5 %: `inv canary-promote` or `inv canary-abort`"
    ]
    sick = changed(state, "bikecast-green", health="unhealthy")
    assert told(sick) == ["h0: bikecast-green is unhealthy: `inv logs`"]
    stopped = changed(state, "bikecast-green", status="exited")
    assert told(stopped) == ["h0: bikecast-green is exited: `inv logs`"]
    no_proxy = changed(state, "bikecast-proxy", status="exited")
    assert told(no_proxy) == ["h0: the proxy does not run: `inv deploy` starts it"]
    assert told(state, errors=["two"]) == ["two does not answer: silence"]


class Named:
    """A host that only has a name."""

    def __init__(self, name):
        self.name = name


def entry(at, identity="1", verdict="live"):
    """A line of a host's log."""
    return Entry(at, "ann", "deploy", "a", "d", "t", verdict, identity)


def test_the_logs_of_all_hosts_become_one():
    """Each piece of work once, by its time, with the hosts that tell of it."""
    one, two = Named("one"), Named("two")
    rows = merged(
        {
            one: [entry("2"), entry("4", "2"), entry("5", "3", "went back")],
            two: [entry("1", "0"), entry("2")],
        }
    )
    assert [(r["at"], r["verdict"], r["hosts"]) for r in rows] == [
        ("1", "live", ["two"]),
        ("2", "live", ["one", "two"]),
        ("4", "live", ["one"]),
        ("5", "went back", ["one"]),
    ]
