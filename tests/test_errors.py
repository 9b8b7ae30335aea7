"""The error tree is what its docstring draws."""

import re

import pytest

from bikecast import errors


def drawn():
    """Name and exit code of every line of the drawing."""
    return re.findall(r"^[│├└─ ]*(\w+) +(\d) ", errors.__doc__, re.MULTILINE)


@pytest.mark.parametrize(("name", "code"), drawn())
def test_every_class_exits_with_the_code_that_is_drawn(name, code):
    """The drawing and the classes agree."""
    assert getattr(errors, name).exit_code == int(code)


def test_every_class_is_drawn():
    """No class is missing from the drawing."""
    classes = {n for n, c in vars(errors).items() if isinstance(c, type)}
    assert classes == {name for name, _ in drawn()}


def test_a_message_is_one_line_with_the_next_step():
    """What and hint are joined; line breaks from elsewhere are folded."""
    assert str(errors.InputError("no\nfile", hint="name one")) == "no file; name one"
    assert str(errors.InputError("no file")) == "no file"
