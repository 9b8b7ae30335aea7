"""Workflows only call what works here too, with what exists, and nothing is left unwatched."""

import ast
import importlib.util
import itertools
import json
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from invoke import Collection
from invoke.parser import Parser

from bikecast.ops import tasks as operations
from bikecast.ops.environment import parse_environment

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.y*ml"))
# What brings nox and inv to a runner; everything else is a call of one of them.
ALLOWED = {
    "python -m pip install --require-hashes -r deploy/locks/ci.txt",
    "python -m pip install --require-hashes -r deploy/locks/ci.txt" " -r deploy/locks/build.txt",
    "python -m pip install --no-deps --no-build-isolation .",
}
# What GitHub gives without being asked.
GIVEN = {"GITHUB_TOKEN"}


@cache
def read(path):
    """A workflow; YAML takes its key `on` for a truth value."""
    return yaml.safe_load(path.read_text())


JOBS = [
    pytest.param(path, name, job, id=f"{path.stem}-{name}")
    for path in WORKFLOWS
    for name, job in read(path)["jobs"].items()
]
STEPS = [
    pytest.param(job, step, id=f"{path.stem}-{name}-{number}")
    for path, name, job in (each.values for each in JOBS)
    for number, step in enumerate(job.get("steps", ()))
]
every_job = pytest.mark.parametrize(("path", "name", "job"), JOBS)
every_step = pytest.mark.parametrize(("job", "step"), STEPS)


# What nox has


@cache
def sessions():
    """The source of each session of the noxfile, by its name."""
    text = (TOP / "noxfile.py").read_text()
    found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    plain = {name: ast.get_source_segment(text, node) for name, node in found.items()}
    named = {name: node for name, node in found.items() if node.decorator_list}
    return {
        each: plain[name]
        for name, node in named.items()
        for each in (
            [name, *(f"{name}-{python}" for python in constant("PYTHONS"))]
            if "PYTHONS" in ast.unparse(node.decorator_list[0])
            else [name]
        )
    }


def constant(name):
    """A list of the noxfile."""
    text = (TOP / "noxfile.py").read_text()
    return ast.literal_eval(re.search(rf"^{name} = (\[[^]]*\])$", text, re.M)[1])


def check_nox(line, config):
    """Fail unless the line names sessions that exist, with words that they take."""
    words, _, given = line.partition(" -- ")
    asked = [w for w in shlex.split(words)[1:] if w != "--error-on-missing-interpreters"]
    assert asked[0] == "-s" and len(asked) > 1, f"{line}: not of the form nox -s SESSION …"
    for name in asked[1:]:
        source = sessions().get(name)
        assert source, f"{line}: no session {name}"
        for word in shlex.split(given):
            assert "posargs" in source, f"{line}: {name} takes no words"
            assert takes(source, word.partition("=")[0], config), f"{line}: {name} and {word}"


def takes(source, word, config):
    """Whether a session knows an option: pytest behind it does, or its own text names it."""
    if not word.startswith("-") or word in source:
        return True
    try:
        config.getoption(word)
    except ValueError:
        return False
    return '"pytest"' in source


def check_inv(line):
    """Fail unless Invoke understands the line: tasks that exist, options that they take."""
    contexts = Collection.from_module(operations).to_contexts()
    found = Parser(contexts=contexts).parse_argv(shlex.split(line)[1:])
    assert found, f"{line}: no task"
    for task in (each for each in found if "env" in each.args and each.name != "notify"):
        assert task.args["env"].raw_value, f"{line}: {task.name} would take the default environment"


def lines(job, step):
    """What a step runs; a variable that comes from the matrix stands for each of its values."""
    matrix = job.get("strategy", {}).get("matrix", {})
    variables = {
        name: [str(v) for v in matrix[of[1]]]
        for name, value in step.get("env", {}).items()
        if (of := re.fullmatch(r"\$\{\{ matrix\.(\w+) \}\}", str(value)))
    }
    for line in step.get("run", "").splitlines():
        for values in itertools.product(*variables.values()):
            known = dict(zip(variables, values, strict=True))
            yield re.sub(r"\$(\w+)", lambda of: known.get(of[1], of[0]), line)


def called(path):
    """The sessions that a workflow runs; those of a matrix by the name they share."""
    found = set()
    for job in read(path)["jobs"].values():
        for step in job.get("steps", ()):
            for line in (x for x in lines(job, step) if x.startswith("nox ")):
                found |= {name.partition("-")[0] for name in shlex.split(line.split(" -- ")[0])}
    return found & {name.partition("-")[0] for name in sessions()}


# What every workflow keeps to


def test_there_are_workflows():
    """The rules below are asked of something."""
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "cd.yml", "scheduled.yml"}
    assert len(JOBS) > 10 and len(STEPS) > 40


@every_step
def test_every_line_calls_nox_or_inv_with_what_exists(job, step, pytestconfig):
    """So whatever CI does can be done here, and nothing hides in a workflow."""
    for line in lines(job, step):
        if line.startswith("nox "):
            check_nox(line, pytestconfig)
        elif line.startswith("inv "):
            check_inv(line)
        else:
            assert line in ALLOWED, f"{line}: call nox or inv"


@every_step
def test_no_text_from_outside_becomes_part_of_a_command(job, step):
    """Values reach commands through variables, which are quoted; any shell is the usual one."""
    command = step.get("run", "")
    assert "${{" not in command and "shell" not in step
    bare = re.sub(r'"[^"]*"', "", command)
    assert "$" not in bare and "`" not in command, f"{command}: quote it"


@every_step
def test_every_action_is_pinned(job, step):
    """By commit; a version beside it tells people and Dependabot which that is."""
    if action := step.get("uses"):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        text = "\n".join(path.read_text() for path in WORKFLOWS)
        versions = re.findall(rf"{re.escape(action)}(.*)", text)
        assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", version) for version in versions), action


@every_step
def test_a_checkout_leaves_no_token_behind(job, step):
    """Later steps cannot push."""
    if step.get("uses", "").startswith("actions/checkout@"):
        assert step["with"]["persist-credentials"] is False


@every_job
def test_every_job_has_its_limits(path, name, job):
    """A time limit, and the rights it names; a workflow itself has none."""
    assert read(path)["permissions"] == {}
    assert isinstance(job["permissions"], dict)
    assert "uses" in job or 0 < job["timeout-minutes"] <= 120


@every_job
def test_a_secret_is_seen_by_the_step_that_needs_it(path, name, job):
    """And by no other of its job, least of all by what is downloaded."""
    assert "secrets." not in json.dumps([job.get("env", {}), read(path).get("env", {})])
    for step in job.get("steps", ()):
        if "secrets." in json.dumps(step):
            assert step.get("run", "").startswith("inv ") or "with" in step


def test_what_deploys_waits_and_is_never_cancelled():
    """Two deploys of an environment are one after the other."""
    for path, name, job in (each.values for each in JOBS):
        if "environment" in job:
            assert job["concurrency"]["cancel-in-progress"] is False, f"{path.name}: {name}"


def test_all_steps_on_an_environment_get_the_same_values():
    """Those that the README's environment takes; it resolves all, whichever a task needs."""
    cd = read(TOP / ".github" / "workflows" / "cd.yml")
    steps = [s for job in cd["jobs"].values() if "environment" in job for s in job["steps"]]
    given = [step["env"] for step in steps if step.get("run", "").startswith("inv ")]
    assert len(given) > 6 and all(each == given[0] for each in given)
    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]
    values = [v for table in tomllib.loads(text).values() for v in table.values()]
    assert {v["env"] for v in values if isinstance(v, dict)} == set(given[0])
    sources = {"env": {name: "registry.example.com/b" for name in given[0]}.__getitem__}
    assert parse_environment(text, "README.md", "staging", sources).hosts.addresses


# What the README says of them


def rows(title):
    """The rows of the first table below a heading of the README, as lists of cells."""
    _, _, text = README.partition(f"\n### {title}\n")
    table = re.search(r"(?:^\|.*\n)+", text, re.M)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.split("\n")[2:-1]]


@pytest.mark.parametrize("kind", ["secret", "variable"])
def test_every_secret_and_variable_is_in_the_readme(kind):
    """And the README names none that nothing uses."""
    context = {"secret": "secrets", "variable": "vars"}[kind]  # pragma: allowlist secret: words
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    used = set(re.findall(rf"\b{context}\.(\w+)", text)) - GIVEN
    assert not re.search(rf"\b{context}\[|toJSON\({context}\)|secrets: inherit", text)
    told = {row[0].strip("`") for row in rows("Secrets and variables") if row[1] == kind}
    assert used == told and used


def test_ci_runs_what_nox_ci_runs_and_the_readme_lists():
    """One list in three places: ci.yml, `nox -s ci`, the README."""
    of_ci = set(constant("CI"))
    jobs = read(TOP / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == constant("PYTHONS")
    assert called(TOP / ".github" / "workflows" / "ci.yml") - {"summary"} == of_ci
    listed = [row[1].strip("`").split(" -- ")[0] for row in rows("Run any job of CI here")]
    assert {line.removeprefix("nox -s ").partition("-")[0] for line in listed} == of_ci


def test_all_green_waits_for_every_job():
    """A job that it does not need could fail unseen."""
    jobs = dict(read(TOP / ".github" / "workflows" / "ci.yml")["jobs"])
    last = jobs.pop("all-green")
    assert set(last["needs"]) == set(jobs) and "always()" in last["if"]
    assert "continue-on-error" not in json.dumps(jobs)


# The table on a run's page


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
