"""What the book of promotions says; moving itself is tested in tests/integration."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.production import DONE, NOTICED, PROMOTE, ROLLBACK, UNDONE, at, former, made
from bikecast.records import Promotion

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)


def book(*moves: tuple[str, str, str]) -> tuple[Promotion, ...]:
    """Moves an hour apart, each ``kind, from, to``."""
    return tuple(
        Promotion(MIDNIGHT + timedelta(hours=i), kind, before, after, "ann", "")
        for i, (kind, before, after) in enumerate(moves)
    )


UP_TO_3 = ((PROMOTE, "", "1"), (PROMOTE, "1", "2"), (PROMOTE, "2", "3"))


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ((), ""),
        (UP_TO_3[:1], ""),
        (UP_TO_3, "2"),
        ((*UP_TO_3, (ROLLBACK, "3", "2")), "1"),
        ((*UP_TO_3, (ROLLBACK, "3", "2"), (ROLLBACK, "2", "1")), ""),
        # What was gone back from is on nobody's way back.
        ((*UP_TO_3, (ROLLBACK, "3", "2"), (PROMOTE, "2", "4")), "2"),
        # An old one that is promoted again: the one that it took the place of, then on back.
        ((*UP_TO_3, (PROMOTE, "3", "2")), "3"),
        ((*UP_TO_3, (PROMOTE, "3", "2"), (ROLLBACK, "2", "3")), "2"),
        # By other means: forward, and back.
        ((*UP_TO_3, (NOTICED, "3", "7")), "3"),
        ((*UP_TO_3, (NOTICED, "3", "2")), "1"),
        ((*UP_TO_3, (NOTICED, "3", ""), (PROMOTE, "", "4")), "3"),
        ((*UP_TO_3, (NOTICED, "3", ""), (PROMOTE, "", "3")), "2"),
        # What did not come through is as if it had never been wanted.
        ((*UP_TO_3, (PROMOTE, "3", "4"), (UNDONE, "4", "3")), "2"),
        ((*UP_TO_3, (DONE, "2", "3"), (ROLLBACK, "3", "2"), (DONE, "3", "2")), "1"),
        # The book began late; only the registry knew what was before.
        (((NOTICED, "1", "2"),), "1"),
        (((NOTICED, "", "2"), (ROLLBACK, "2", "1")), ""),
    ],
)
def test_the_way_back(moves: tuple[tuple[str, str, str], ...], before: str) -> None:
    """One version further with each rollback, never forward again."""
    assert former(book(*moves)) == before


def test_what_was_before_the_book_is_known_to_the_registry_alone() -> None:
    """Until the way back has left it behind: nothing of the book is gone back to twice."""
    late = ((NOTICED, "2", "3"), (ROLLBACK, "3", "2"))
    assert former(book(*late[:1]), "2") == "2"
    assert former(book(*late), "1") == "1"
    assert former(book(*late, (ROLLBACK, "2", "1")), "") == ""
    assert former(book(*late, (ROLLBACK, "2", "1")), "3") == ""
    assert former((), "1") == "1"


@given(st.lists(st.sampled_from("123456"), min_size=1, max_size=12))
def test_the_way_back_ends(versions: list[str]) -> None:
    """Whatever was promoted in whichever order, each rollback leads to one that was in use."""
    moves, now = [], ""
    for version in versions:
        if version != now:
            moves.append((PROMOTE, now, version))
            now = version
    taken = 0
    while before := former(book(*moves)):
        assert before in versions and before != now
        moves.append((ROLLBACK, now, before))
        now, taken = before, taken + 1
    assert taken < len(versions) and now == versions[0]


def test_what_was_in_production_at_a_moment() -> None:
    """From the very moment of a move on; a move that did not come through never counted."""
    moves = book(*UP_TO_3[:2], (PROMOTE, "2", "3"), (UNDONE, "3", "2"), (ROLLBACK, "2", "1"))
    assert at(moves, MIDNIGHT - timedelta(seconds=1)) is None
    hours = [at(moves, MIDNIGHT + timedelta(hours=h)) for h in range(5)]
    assert [move and move.to_version for move in hours] == ["1", "2", "2", "2", "1"]
    assert [move.kind for move in made(moves)] == [PROMOTE, PROMOTE, ROLLBACK]
