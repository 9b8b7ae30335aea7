"""The tables on a run's page, and one answer for all of its jobs: `nox -s summary`.

It tells what it finds: the jobs that NEEDS describes (GitHub's `toJSON(needs)`), and the
junit.xml and coverage.xml that `nox -s coverage` writes. The exit code is 1 where a job did not
succeed. The tables go to the run's page, or to the terminal where there is none.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree  # nosec B405  # only files that this run wrote are read


def job_rows(needs: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Each job and how it ended."""
    return [(name, job["result"]) for name, job in needs.items()]


def test_rows(junit: str) -> list[tuple[str, str]]:
    """How many tests a JUnit report holds, by how they ended, and how long they took."""
    suites = list(ElementTree.fromstring(junit).iter("testsuite"))  # nosec B314  # as above
    counts = {
        name: sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    }
    seconds = sum(float(suite.get("time", 0)) for suite in suites)
    return [*((name, f"{n:,}") for name, n in counts.items()), ("took", f"{seconds:.0f} s")]


def coverage_rows(report: str) -> list[tuple[str, str]]:
    """The shares of lines and branches that a coverage report calls covered."""
    root = ElementTree.fromstring(report)  # nosec B314  # as above
    rates = {"lines": "line-rate", "branches": "branch-rate"}
    return [(what, f"{float(root.get(rate, 0)):.1%}") for what, rate in rates.items()]


def table(title: str, rows: list[tuple[str, str]]) -> str:
    """The rows as a table of Markdown."""
    lines = [f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def main(environ: Mapping[str, str], folder: Path) -> int:
    """Tell what is there; 1 where a job did not succeed, or none is told of."""
    tables = []
    needs = job_rows(json.loads(environ["NEEDS"])) if "NEEDS" in environ else None
    if needs is not None:
        tables.append(table("job", needs))
    for name, title, rows in (
        ("junit.xml", "unit and integration tests", test_rows),
        ("coverage.xml", "coverage", coverage_rows),
    ):
        if (folder / name).exists():
            tables.append(table(title, rows((folder / name).read_text())))
    text = "\n".join(tables) or "nothing to tell\n"
    if page := environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a") as file:
            file.write(text)
    print(text)
    fine = needs is None or (needs and all(result == "success" for _, result in needs))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(os.environ, Path()))
