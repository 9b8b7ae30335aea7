"""From the words of `inv deploy` to what is done."""

import pytest

from bikecast.errors import InputError
from bikecast.ops.environment import Release
from bikecast.ops.release import How
from bikecast.ops.tasks.releasing import how_of

PLAIN = Release()
CANARY = Release(strategy="canary", steps=(10, 100), bake=60)


@pytest.mark.parametrize(
    ("release", "words", "how"),
    [
        (PLAIN, ("", "", ""), How((100,), 30)),
        (PLAIN, ("", "", "90s"), How((100,), 90)),
        (PLAIN, ("", "", "2m"), How((100,), 120)),
        (PLAIN, ("", "", "0s"), How((100,), 0)),
        (PLAIN, ("", "", "0"), How((100,), 0)),
        (PLAIN, ("canary", "", ""), How((5, 25, 50, 100), 30)),
        (PLAIN, ("canary", "1, 100", "1h"), How((1, 100), 3600)),
        (PLAIN, ("canary", "100", ""), How((100,), 30)),
        (CANARY, ("", "", ""), How((10, 100), 60)),
        (CANARY, ("", "20,100", "5s"), How((20, 100), 5)),
        (CANARY, ("blue-green", "", ""), How((100,), 60)),
    ],
)
def test_words_go_before_the_environment(release, words, how):
    """What is not said is as the environment has it."""
    assert how_of(release, *words) == how


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("green", "", ""), "--strategy is 'green'; write blue-green or canary"),
        (("", "5,100", ""), "--steps are for a canary; add --strategy canary"),
        (("canary", "5,x,100", ""), "--steps is '5,x,100'; write percentages"),
        (("canary", "0,100", ""), "--steps is '0,100'"),
        (("canary", "5,101", ""), "--steps is '5,101'"),
        (("canary", "5,,100", ""), "--steps is '5,,100'"),
        (("canary", "50,5,100", ""), "let them rise and end at 100"),
        (("canary", "5,5,100", ""), "let them rise and end at 100"),
        (("canary", "5,50", ""), "let them rise and end at 100"),
        (("", "", "soon"), "'soon' is not a duration"),
        (("", "", "5"), "'5' is not a duration"),
        (("", "", "-5s"), "'-5s' is not a duration"),
    ],
)
def test_wrong_words_are_named_with_the_right_ones(words, says):
    """Exit code 2, before anything is asked of a host."""
    with pytest.raises(InputError, match=says) as error:
        how_of(PLAIN, *words)
    assert error.value.exit_code == 2
