"""The table on the page of a run of CI."""

import importlib.util
import json
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def summary():
    """The module behind `nox -s summary`."""
    spec = importlib.util.spec_from_file_location("summary", TOP / ".github" / "summary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped"])
def test_a_job_that_did_not_succeed_is_not_green(summary, tmp_path, result):
    """Whatever kept it from succeeding."""
    needs = {"lint": {"result": "success"}, "tests": {"result": result}}
    page = tmp_path / "page.md"
    environ = {"NEEDS": json.dumps(needs), "GITHUB_STEP_SUMMARY": str(page)}
    assert summary.main(environ, tmp_path) == 1
    assert f"| tests | {result} |" in page.read_text()


def test_all_jobs_that_succeeded_are_green(summary, tmp_path):
    """And no jobs at all are not."""
    needs = {"lint": {"result": "success"}, "tests": {"result": "success"}}
    assert summary.main({"NEEDS": json.dumps(needs)}, tmp_path) == 0
    assert summary.main({"NEEDS": "{}"}, tmp_path) == 1


def test_the_figures_of_the_tests_are_told(summary, tmp_path, capsys):
    """From the reports that the session before it wrote."""
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite tests="1200" failures="1" errors="0" skipped="2" time="61.4"/>'
        "</testsuites>"
    )
    (tmp_path / "coverage.xml").write_text('<coverage line-rate="0.934" branch-rate="0.9"/>')
    assert summary.main({}, tmp_path) == 0
    told = capsys.readouterr().out
    for row in (
        "tests | 1,200",
        "failures | 1",
        "took | 61 s",
        "lines | 93.4%",
        "branches | 90.0%",
    ):
        assert f"| {row} |" in told
    assert "job" not in told
