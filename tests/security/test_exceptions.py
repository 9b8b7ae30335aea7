"""Nothing is exempt from a check without a reason beside it."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FOLDERS = ("bikecast", "deploy", "migrations", "tests", ".github")
SUFFIXES = {".py", ".toml", ".yml", ".yaml", ".cfg", ".sh", ""}
NOSEC = "nosec"  # written so that this file has none of what it looks for
MARK = "pragma: " + "allowlist"


def lines(word):
    """All lines of the project with a word: where, the line before, the line."""
    paths = [p for folder in FOLDERS for p in (TOP / folder).rglob("*") if p.suffix in SUFFIXES]
    for path in [*filter(Path.is_file, paths), *TOP.glob("*.py")]:
        before = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(rf"#\s*{word}", line) and path != Path(__file__):
                yield f"{path.relative_to(TOP)}:{number}", before.strip(), line.strip()
            before = line


def reasoned(before, line, pattern):
    """Is what a pattern leaves of a comment, or the comment line above it, some words?"""
    behind = re.search(pattern, line)
    return bool(behind and re.search(r"\w{2}", behind[1]) or re.match(r"#\s*\w{2}", before))


def block(name):
    """The lines of a list in pyproject.toml."""
    text = (TOP / "pyproject.toml").read_text()
    return re.search(rf"^{name} = \[\n(.*?)^\]", text, re.M | re.S)[1].splitlines()


@pytest.mark.parametrize("name", ["skips", "ignore-packages"])
def test_what_is_skipped_everywhere_says_why(name):
    """Tests of bandit, and packages whose licence is not looked at."""
    for line in block(name):
        assert '"bikecast"' in line or re.search(r'^\s*"[\w-]+",\s+# \w{2}', line), line


def test_each_line_that_bandit_skips_names_tests_and_a_reason():
    """Behind it, or in the comment line above."""
    found = list(lines(NOSEC))
    assert found
    for where, before, line in found:
        assert re.search(rf"# {NOSEC} B\d{{3}}( B\d{{3}})*(  # |$)", line), where
        assert reasoned(before, line, rf"# {NOSEC} [B\d ]+  # (.*)"), f"{where}: why?"


def test_each_made_up_secret_says_what_it_is():
    """Behind its mark."""
    found = list(lines(MARK))
    assert found
    for where, _, line in found:
        assert reasoned("", line, MARK + r"(?: nextline)? secret: (.*)"), f"{where}: why?"


@pytest.mark.parametrize("word", ["hadolint ignore", "zizmor: ignore"])
def test_other_exceptions_say_why(word):
    """In the comment line above, or behind."""
    for where, before, line in lines(word):
        assert reasoned(before, line, word + r"\S* *(.*)"), f"{where}: why?"
