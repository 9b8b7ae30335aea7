"""Limits: of one worker, of several, and under clocks and clients of all kinds."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bikecast.serve.limits import WINDOW, Limiter, waiting

LIMIT = 20


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: float = 1e6) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Fleet:
    """Workers over one memory, as they are after a fork: each with a column of its own."""

    def __init__(self, workers: int, clock: Clock, places: int = 1 << 10) -> None:
        first = Limiter(workers, clock, places)
        self.workers = [first]
        for column in range(1, workers):
            other = Limiter(workers, clock, places)
            other._counts, other._secret = first._counts, first._secret
            other.take(column)
            self.workers.append(other)

    def admit(self, worker: int, client: str = "a", limit: int = LIMIT) -> float | None:
        """Ask one of them."""
        return self.workers[worker % len(self.workers)].admit(client, limit)


def test_so_many_pass_and_no_more() -> None:
    """All at once or not; the next one is told how long to wait, and then passes."""
    clock = Clock(120.0)
    limiter = Limiter(now=clock)
    assert [limiter.admit("a", LIMIT) for _ in range(LIMIT)] == [None] * LIMIT
    wait = limiter.admit("a", LIMIT)
    assert wait is not None and 0 < wait <= 2 * WINDOW
    assert limiter.admit("b", LIMIT) is None, "another client"
    clock.now += wait + 0.001
    assert limiter.admit("a", LIMIT) is None


def test_what_is_refused_does_not_count() -> None:
    """Whoever goes on asking too often gets his share all the same."""
    clock, passed = Clock(120.0), 0
    limiter = Limiter(now=clock)
    for _ in range(100 * LIMIT):
        passed += limiter.admit("a", LIMIT) is None
        clock.now += WINDOW / (10 * LIMIT)
    assert 9 * LIMIT <= passed <= 11 * LIMIT


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0, 20, allow_subnormal=False)), max_size=300
)


@given(STEPS, st.floats(0, 1e9), st.integers(1, 30))
def test_workers_decide_as_one_would(
    steps: list[tuple[int, float]], start: float, limit: int
) -> None:
    """Whichever is asked, at whatever moment."""
    clock = Clock(start)
    fleet, alone = Fleet(3, clock), Limiter(now=clock)
    for worker, pause in steps:
        clock.now += pause
        assert fleet.admit(worker, limit=limit) == alone.admit("a", limit)


@given(STEPS, st.floats(0, 1e9), st.integers(1, 30))
def test_no_stretch_of_a_window_has_more_than_twice_the_limit(
    steps: list[tuple[int, float]], start: float, limit: int
) -> None:
    """And no whole window of the clock has more than the limit."""
    clock, times = Clock(start), []
    fleet = Fleet(3, clock)
    for worker, pause in steps:
        clock.now += pause / 10
        if fleet.admit(worker, limit=limit) is None:
            times.append(clock.now)
    for first in times:
        assert sum(first <= t < first + WINDOW for t in times) <= 2 * limit
        whole = first // WINDOW
        assert sum(t // WINDOW == whole for t in times) <= limit


@given(STEPS, st.floats(0, 1e9), st.integers(1, 30))
@example([], 119.0, 1)  # one second, which is a little less in floating point
def test_after_the_time_told_one_may_ask(
    steps: list[tuple[int, float]], start: float, limit: int
) -> None:
    """As the header says it, in whole seconds; a client is never locked out."""
    clock = Clock(start)
    fleet = Fleet(3, clock)
    for worker, pause in steps:
        clock.now += pause / 10
        wait = fleet.admit(worker, limit=limit)
        assert wait is None or 0 <= wait <= 2 * WINDOW
    while (wait := fleet.admit(0, limit=limit)) is None:
        pass
    clock.now += math.floor(wait) + 1
    assert fleet.admit(1, limit=limit) is None


def test_who_asks_evenly_below_the_limit_is_never_refused() -> None:
    """For an hour, from any moment of a window on."""
    for start in (120.0, 133.3, 179.9):
        clock = Clock(start)
        fleet = Fleet(3, clock)
        for i in range(60 * (LIMIT - 1)):
            assert fleet.admit(i) is None
            clock.now += WINDOW / (LIMIT - 1)


def test_many_clients_need_no_more_memory_and_harm_few() -> None:
    """100,000 that ask once, and 50 at their limit, take their share from nobody else."""
    clock = Clock()
    limiter = Limiter(now=clock)
    size = limiter._counts.nbytes
    for i in range(100_000):
        assert limiter.admit(f"once {i}", LIMIT) is None
    for i in range(50):
        for _ in range(LIMIT):
            limiter.admit(f"busy {i}", LIMIT)
    refused = sum(limiter.admit(f"new {i}", LIMIT) is not None for i in range(1000))
    assert refused <= 2 and limiter._counts.nbytes == size


def test_more_workers_than_columns_share_the_last() -> None:
    """It can be asked for by a signal; they count on."""
    limiter = Limiter(2)
    limiter.take(7)
    assert [limiter.admit("a", 1) is None for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("before", "count", "passed", "wait"),
    [
        (0, 9, 0.5, None),
        (0, 10, 0.5, 30.0),
        (10, 5, 0.5, 0.0),
        (10, 5, 0.51, None),
        (20, 5, 0.5, 15.0),
        (0, 20, 0.5, 60.0),
        (0, 1000, 0.0, 119.4),
    ],
)
def test_the_wait_is_until_the_sum_is_below_the_limit(
    before: int, count: int, passed: float, wait: float | None
) -> None:
    """Of 10, with the window before counted for the part that is not past."""
    found = waiting(before, count, passed, 10)
    assert found is None if wait is None else found == pytest.approx(wait)
