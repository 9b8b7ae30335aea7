"""Workflows only call what works here too, with what exists, and nothing is left unwatched."""

import ast
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
    seen = json.dumps([job.get("env", {}), read(path).get("env", {})])
    # Whether there is one is no secret.
    assert "secrets." not in re.sub(r"secrets\.\w+ != ''", "", seen)
    for step in job.get("steps", ()):
        if "secrets." in json.dumps(step):
            assert step.get("run", "").startswith("inv ") or "with" in step


# What is released, and how


def jobs(name):
    """The jobs of a workflow."""
    return read(TOP / ".github" / "workflows" / f"{name}.yml")["jobs"]


def commands(job):
    """The conditions and lines of the steps that call nox or inv, in order."""
    return [
        (step.get("if", ""), step["run"])
        for step in job["steps"]
        if step.get("run", "").startswith(("nox ", "inv "))
    ]


def given(step):
    """The secrets that a step sees."""
    return set(re.findall(r"secrets\.(\w+)", json.dumps(step)))


def test_main_is_checked_then_built_then_staged_then_released():
    """Each only after what is before it; to production only as its environment allows."""
    of = jobs("cd")
    assert {name: job.get("needs") for name, job in of.items()} == {
        "ci": None,
        "images": "ci",
        "staging": "images",
        "production": ["images", "staging"],
        "by-hand": None,
        "notify": ["ci", "images", "staging", "production", "by-hand"],
    }
    assert {name: job["environment"] for name, job in of.items() if "environment" in job} == {
        "staging": "staging",
        "production": "production",
        "by-hand": "${{ inputs.environment }}",
    }
    assert {name: job["if"] for name, job in of.items() if "if" in job and name != "notify"} == {
        "ci": "${{ github.event_name == 'push' }}",
        "images": "${{ vars.REGISTRY_IMAGE != '' }}",
        "by-hand": "${{ github.event_name == 'workflow_dispatch' }}",
    }
    assert of["ci"]["uses"] == "./.github/workflows/ci.yml"


def test_no_deploy_cancels_another():
    """GitHub cancels who waits in a group as the next one comes: no two runs share a group."""
    cd = read(TOP / ".github" / "workflows" / "cd.yml")
    found = [
        cd["concurrency"],
        *(j["concurrency"] for j in jobs("cd").values() if "environment" in j),
    ]
    groups = [each["group"] for each in found]
    assert len(groups) == len(set(groups)) == 4
    assert all(group.endswith("-${{ github.run_id }}") for group in groups)
    assert not any(each["cancel-in-progress"] for each in found)
    lines = [line for job in jobs("cd").values() if "steps" in job for _, line in commands(job)]
    changing = [line for line in lines if line.startswith(("inv deploy", "inv rollback"))]
    assert len(changing) == 7 and all(" --wait 30m --yes" in line for line in changing)


def test_both_digests_go_from_the_push_to_both_environments():
    """What riders get in production is what was tried in staging, and what was attested."""
    images = jobs("cd")["images"]
    digests = {f"digest-{name}" for name in ("api", "training")}
    assert images["outputs"] == {d: f"${{{{ steps.push.outputs.{d} }}}}" for d in digests}
    (push,) = (step for step in images["steps"] if step.get("id") == "push")
    assert push["run"] == "inv build --env ci push --env ci"
    attested = [s["with"] for s in images["steps"] if "attest" in s.get("uses", "")]
    assert {each["subject-digest"] for each in attested} == set(images["outputs"].values())
    for name in ("staging", "production"):
        assert jobs("cd")[name]["env"] == {
            "RELEASE": "${{ needs.images.outputs.digest-api }}",
            "TRAINING": "${{ needs.images.outputs.digest-training }}",
        }


@pytest.mark.parametrize("name", ["staging", "production"])
def test_what_fails_its_smoke_test_goes_back(name):
    """And only that release: a deploy that fails decides by itself, another run's stays."""
    words = '--release="$RELEASE" --training="$TRAINING" --wait 30m --yes'
    assert commands(jobs("cd")[name]) == [
        ("", f"inv deploy --env {name} {words}"),
        ("", f"inv smoke --env {name}"),
        (
            "${{ failure() && steps.smoke.outcome == 'failure' }}",
            f'inv rollback --env {name} --of="$RELEASE" --wait 30m --yes',
        ),
    ]
    (smoke,) = (s for s in jobs("cd")[name]["steps"] if s.get("id") == "smoke")
    assert smoke["run"] == f"inv smoke --env {name}"


def test_by_hand_any_release_or_the_way_back():
    """A deploy without a release names none, for an empty one is an error."""
    job = jobs("cd")["by-hand"]
    assert job["env"] == {
        name.upper(): f"${{{{ inputs.{name} }}}}" for name in ("environment", "strategy", "release")
    }
    where, how = 'inv deploy --env="$ENVIRONMENT"', '--strategy="$STRATEGY" --wait 30m --yes'
    back = 'inv rollback --env="$ENVIRONMENT" --to="$RELEASE" --wait 30m --yes'
    assert commands(job) == [
        ("${{ inputs.action == 'deploy' && inputs.release == '' }}", f"{where} {how}"),
        (
            "${{ inputs.action == 'deploy' && inputs.release != '' }}",
            f'{where} --release="$RELEASE" {how}',
        ),
        ("${{ inputs.action == 'rollback' }}", back),
    ]


AIRFLOW = {"AIRFLOW_URL", "AIRFLOW_USERNAME", "AIRFLOW_PASSWORD"}


def test_sundays_train_and_tell():
    """One call, which asks Airflow and a host; then a notice, however that ended."""
    path = TOP / ".github" / "workflows" / "model-training.yml"
    assert read(path)[True]["schedule"] == [{"cron": "0 2 * * 0"}]
    assert "workflow_dispatch" in read(path)[True]
    (job,) = jobs("model-training").values()
    (_, train), (condition, notice) = commands(job)
    assert train == 'inv train --env="$ENVIRONMENT" --yes' and condition == "${{ always() }}"
    steps = [step for step in job["steps"] if step.get("run", "").startswith("inv ")]
    assert given(steps[0]) == {*AIRFLOW, "SSH_PRIVATE_KEY", "SSH_KNOWN_HOSTS"}
    assert given(steps[1]) == {"SLACK_WEBHOOK_URL"}
    names = set(jobs("cd")["staging"]["steps"][-1]["env"])
    assert set(steps[0]["env"]) == names  # or the environment could not be read
    # What the task hands on is what the notice shows.
    shown = set(re.findall(r"outputs\.(\w+)", json.dumps(steps[1]["env"])))
    assert shown == {"verdict", "kind", "version", "figures", "why", "report"}
    assert all(f"${name.upper()}" in notice for name in shown)


def test_steps_on_an_environment_see_what_they_use():
    """The names that the README's environment has, as it resolves all; a look needs few."""
    found = [s for j in jobs("cd").values() if "environment" in j for s in j["steps"]]
    found = [step for step in found if step.get("run", "").startswith("inv ")]
    names = set(found[0]["env"])
    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]
    values = [v for table in tomllib.loads(text).values() for v in table.values()]
    assert {v["env"] for v in values if isinstance(v, dict)} == names
    for step in found:
        looks = step["run"].startswith("inv smoke")
        assert set(step["env"]) == names
        few = {"SSH_PRIVATE_KEY", "SSH_KNOWN_HOSTS", "SMOKE_KEY"}
        of = few if looks else names - {"REGISTRY_IMAGE", *AIRFLOW}
        assert given(step) == of, step["run"]
    values = {name: "registry.example.com/b" for name in names} | {"AIRFLOW_URL": "https://a.b"}
    sources = {"env": values.__getitem__}
    assert parse_environment(text, "README.md", "staging", sources).hosts.addresses
    least = {name: "" for name in names} | {"REGISTRY_IMAGE": "registry.example.com/b"}
    assert parse_environment(text, "README.md", "staging", {"env": least.__getitem__}).hosts


@pytest.mark.parametrize("name", ["cd", "scheduled"])
def test_whatever_does_not_succeed_is_told(name):
    """Jobs that ran out of time are cancelled; who pushed, asked or was asleep hears of all."""
    of = dict(jobs(name))
    notify = of.pop("notify")
    assert set(notify["needs"]) == set(of)
    either = (f"contains(needs.*.result, '{result}')" for result in ("failure", "cancelled"))
    assert notify["if"] == f"${{{{ always() && ({' || '.join(either)}) }}}}"
    ((_, line),) = commands(notify)
    env = notify["steps"][-1]["env"]
    told = {name: of for name, of in env.items() if f"=${name}" in line}
    assert set(told.values()) == {f"${{{{ needs.{each}.result }}}}" for each in of}
    assert given(notify) == {"SLACK_WEBHOOK_URL"}


def test_what_is_scheduled():
    """Advisories and all of e2e each night, the lowest versions each week."""
    nightly = "${{ github.event.schedule != '43 4 * * 0' }}"
    audit = "nox -s audit_images -- build/sbom-api.cdx.json build/sbom-training.cdx.json"
    found = {n: (j["if"], commands(j)) for n, j in jobs("scheduled").items() if n != "notify"}
    assert found == {
        "audit": (nightly, [("", "nox -s security")]),
        "audit-images": (
            nightly,
            [
                ("${{ vars.REGISTRY_IMAGE == '' }}", "nox -s images"),
                ("${{ vars.REGISTRY_IMAGE != '' }}", "inv sbom --env ci --release latest"),
                ("", audit),
            ],
        ),
        "e2e": (nightly, [("", "nox -s e2e -- --all")]),
        "lowest": ("${{ github.event.schedule != '17 3 * * *' }}", [("", "nox -s lowest")]),
    }
    on = read(TOP / ".github" / "workflows" / "scheduled.yml")[True]
    assert {each["cron"] for each in on["schedule"]} == {"17 3 * * *", "43 4 * * 0"}


def test_ci_runs_for_every_push_and_request():
    """Also of tags; on main cd.yml calls it, so that a push is checked once."""
    on = read(TOP / ".github" / "workflows" / "ci.yml")[True]
    assert on["push"] == {"branches-ignore": ["main"], "tags": ["**"]}
    assert "pull_request" in on and "workflow_call" in on
    assert read(TOP / ".github" / "workflows" / "cd.yml")[True]["push"] == {"branches": ["main"]}


def test_few_rights_and_few_actions():
    """A job reads the code, and no more without a reason; each action is somebody's to trust."""
    rights = {(path.stem, name): job["permissions"] for path, name, job in (j.values for j in JOBS)}
    more = {"contents": "read", "id-token": "write", "attestations": "write"}
    assert rights.pop(("cd", "images")) == more
    assert all(each == {"contents": "read"} for each in rights.values())
    used = {s["uses"].partition("@")[0] for _, s in (x.values for x in STEPS) if "uses" in s}
    assert used == {
        *(f"actions/{name}" for name in ("checkout", "setup-python", "upload-artifact")),
        *("actions/attest-build-provenance", "codecov/codecov-action"),
    }


def uploads(name):
    """What the jobs of a workflow upload: job, paths."""
    for of, job in jobs(name).items():
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/upload-artifact@"):
                assert step["with"]["if-no-files-found"] == "error", f"{name}: {of}"
                # A report is wanted most where the tests failed.
                assert (step.get("if") == "${{ !cancelled() }}") is (of != "images")
                yield of, step["with"]["path"].split()


def test_what_a_job_reports_is_kept():
    """JUnit and coverage of every job that tests, the lists of what images hold; or it fails."""
    assert dict(uploads("ci")) == {
        "tests": ["junit-tests-${{", "matrix.python", "}}.xml"],
        "integration": ["junit-integration.xml"],
        "coverage": ["junit.xml", "coverage.xml"],
        "e2e": ["junit-e2e.xml"],
    }
    assert dict(uploads("cd")) == {"images": ["build/sbom-*.cdx.json"]}
    assert dict(uploads("scheduled")) == {"e2e": ["junit-e2e.xml"]}
    for name in ("tests", "integration", "e2e"):
        assert "report(session)" in sessions()[name]
    assert {"junit*.xml", "coverage.xml", "build/"} <= set((TOP / ".gitignore").read_text().split())


def test_without_its_token_nothing_goes_to_codecov():
    """The action would try to send without one."""
    job = jobs("ci")["coverage"]
    (step,) = (s for s in job["steps"] if s.get("uses", "").startswith("codecov/"))
    assert step["if"] == "${{ env.HAS_TOKEN == 'true' }}"
    assert job["env"] == {"HAS_TOKEN": "${{ secrets.CODECOV_TOKEN != '' }}"}


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
    told = {row[0].strip("`"): row[2] for row in rows("Secrets and variables") if row[1] == kind}
    assert used == set(told) and used
    # Jobs without an environment see only what the repository has.
    every = [job for _, _, job in (each.values for each in JOBS)]
    alone = [job for job in every if "environment" not in job]
    # Neither does the choice of the environment, or whether there is one.
    alone += [[job.get("if"), job.get("environment")] for job in every]
    shared = {name for name in used if re.search(rf"\b{context}\.{name}\b", json.dumps(alone))}
    assert {name for name, where in told.items() if where == "repository"} == shared
    assert {where for where in told.values()} <= {"repository", "environment"}


def test_ci_runs_what_nox_ci_runs_and_the_readme_lists():
    """One list in three places: ci.yml, `nox -s ci`, the README."""
    of_ci = set(constant("CI"))
    jobs = read(TOP / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == constant("PYTHONS")
    assert called(TOP / ".github" / "workflows" / "ci.yml") - {"summary"} == of_ci
    listed = [row[1].strip("`").split(" -- ")[0] for row in rows("Run any job of CI here")]
    assert {line.removeprefix("nox -s ").partition("-")[0] for line in listed} == of_ci


@pytest.mark.parametrize("name", ["integration", "coverage"])
def test_tests_of_an_older_release_have_the_history(name):
    """They take it from there; a checkout has none by itself."""
    (checkout,) = (s for s in jobs("ci")[name]["steps"] if "actions/checkout@" in s.get("uses", ""))
    assert checkout["with"]["fetch-depth"] == 0


def test_all_green_waits_for_every_job():
    """A job that it does not need could fail unseen."""
    jobs = dict(read(TOP / ".github" / "workflows" / "ci.yml")["jobs"])
    last = jobs.pop("all-green")
    assert set(last["needs"]) == set(jobs) and "always()" in last["if"]
    assert "continue-on-error" not in json.dumps(jobs)
