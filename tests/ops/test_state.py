"""What a host says of itself, read from its answer."""

import json

import pytest

from bikecast.ops.state import HostState, parse_history, parse_lock, parse_state


def container(name, minute=0, release="a", status="running", **labels):
    """A line of an answer."""
    return "container " + json.dumps(
        {
            "name": f"/{name}",
            "status": status,
            "created": f"2026-01-02T03:{minute:02}:05.123456789Z",
            "started": f"2026-01-02T03:{minute:02}:06.1Z",
            "restarts": 0,
            "health": "healthy",
            "labels": {"bikecast.release": release, "bikecast.digest": "sha256:1", **labels},
            "image": "i",
        }
    )


def host(green, *containers, extra=""):
    """The answer of a host."""
    lines = ["clock 1767323000.5", "user 1000:998", f"green sets/{green}", extra, *containers]
    return parse_state("\n".join(line for line in lines if line))


BLUE, GREEN = container("bikecast-blue", 1, "a"), container("bikecast-green", 2, "b")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("no docker\n", HostState(docker=False)),
        ("absent\n", HostState(docker=True, present=False)),
        ("clock 5.5\nuser 1:2\ngreen \n", HostState(present=True, user="1:2", clock=5.5)),
    ],
)
def test_a_host_may_have_nothing_yet(answer, state):
    """No Docker, no directory, no release."""
    assert parse_state(answer) == state


def test_facts_are_read_from_the_lines():
    """User, clock, share and every container with its labels."""
    state = host(100, BLUE, GREEN)
    assert (state.user, state.clock, state.green) == ("1000:998", 1767323000.5, 100)
    blue = state.service("blue")
    assert (blue.release, blue.digest, blue.running) == ("a", "sha256:1", True)
    assert blue.created.microsecond == 123456 and blue.started.second == 6
    assert state.proxy is None and state.refresher("blue") is None


@pytest.mark.parametrize(
    ("green", "containers", "live", "idle", "canary", "former"),
    [
        (None, (), None, "green", None, None),
        (0, (), None, "green", None, None),
        (100, (), None, "blue", None, None),
        (0, (BLUE,), "blue", "green", None, None),
        (100, (GREEN,), "green", "blue", None, None),
        (0, (BLUE, GREEN), "blue", "green", None, None),
        (100, (BLUE, GREEN), "green", "blue", None, "blue"),
        (5, (BLUE, GREEN), "blue", "green", "green", None),
        (99, (BLUE, GREEN), "blue", "green", "green", None),
        (100, (BLUE,), None, "blue", None, None),
        (0, (GREEN,), None, "green", None, None),
        (50, (BLUE,), "blue", "green", None, None),
    ],
)
def test_colours_follow_from_the_share_and_the_ages(green, containers, live, idle, canary, former):
    """The older of two that share the requests is the stable one."""
    state = host(green, *containers)
    assert (state.live, state.idle) == (live, idle)
    assert (state.canary, state.former) == (canary, former)


def test_a_canary_in_blue_is_told_by_its_age():
    """Not by its colour."""
    state = host(95, container("bikecast-blue", 3, "c"), GREEN)
    assert (state.live, state.canary, state.share("blue"), state.release) == (
        *("green", "blue"),
        *(5, "b"),
    )


def test_after_a_rollback_by_image_nothing_is_former():
    """The container is young, its release is old."""
    back = container("bikecast-blue", 3, "a", **{"bikecast.back": "yes"})
    assert host(0, back, GREEN).former is None
    assert host(100, back, GREEN).former is None


def test_a_lock_is_read_with_its_owner():
    """Also one whose owner was cut off while writing."""
    lock = host(0, extra='lock 12 {"who": "ann"}').lock
    assert (lock.age, lock.owner) == (12, {"who": "ann"})
    for text in ("3 ", '3 {"who": "a', "3 7", "3"):
        assert parse_lock(text).owner == {} and parse_lock(text).age == 3
    assert host(0).lock is None


def test_a_log_of_releases_is_read_but_for_what_was_cut_off():
    """A line that is no entry is left out; what an entry lacks is empty."""
    text = '{"at": "1", "release": "a"}\n\n7\n"x"\n{"at": "2", "rel\n{"at": "3", "new": 1}\n'
    found = parse_history(text)
    assert [(e.at, e.release, e.verdict) for e in found] == [("1", "a", ""), ("3", "", "")]


def test_a_real_host_can_be_read(hosts):
    """What the look prints is what is read here."""
    state = hosts[0].state()
    assert (state.live, state.idle, state.release, state.former) == (
        *("green", "blue"),
        *("b" * 12, "blue"),
    )
    assert state.proxy.running and not state.watched and state.lock is None
