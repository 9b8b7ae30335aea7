"""Tasks as `inv` runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Exit

from bikecast.ops.tasks.common import told

TOP = Path(__file__).parents[2]


@pytest.fixture
def inv(tmp_path):
    """Run `inv` in a folder with two environments."""
    folder = tmp_path / "deploy" / "environments"
    folder.mkdir(parents=True)
    text = (TOP / "deploy" / "environments" / "example.toml").read_text()
    for source in ('{env = "REGISTRY_PASSWORD"}', '{env = "BIKECAST_DATABASE_URL"}'):
        text = text.replace(source, '"hidden"')
    for source in ('{file = "~/.ssh/id_ed25519"}', '{file = "~/.ssh/known_hosts"}'):
        text = text.replace(source, '"hidden"')
    text = text.replace('{env = "REGISTRY_USERNAME"}', '"robot"')
    text = text.replace('{env = "MLFLOW_TRACKING_URI"}', '""')
    (folder / "staging.toml").write_text(text)
    (folder / "broken.toml").write_text(text.replace("workers ", "wrokers "))
    guarded = text.replace("protected = false", "protected = true")
    (folder / "guarded.toml").write_text(guarded)

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "invoke", "--search-root", str(TOP), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    return run


def test_env_shows_what_comes_out_without_secrets(inv):
    """In lines and as JSON; staging is the default."""
    shown = inv("env")
    assert 'service.system = "citibike-jc"' in shown.stdout and shown.returncode == 0
    assert 'registry.username = "robot"' in shown.stdout and "protected = false" in shown.stdout
    document = json.loads(inv("env", "--env", "staging", "--json").stdout)
    assert document["release"]["steps"] == [5, 25, 50, 100]
    assert "hidden" not in json.dumps(document["registry"]) + shown.stdout.replace(
        'hosts.known_hosts = "hidden"', ""
    )


def test_a_wrong_environment_is_one_line_and_exit_code_2(inv):
    """An unknown one and a misspelt key."""
    unknown = inv("env", "--env", "prod")
    assert unknown.returncode == 2 and "no environment 'prod'" in unknown.stderr
    assert "known: broken, guarded, staging" in unknown.stderr
    broken = inv("env", "--env", "broken")
    assert broken.returncode == 2 and "service.wrokers: there is no such key" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_version_says_what_a_release_would_carry(inv):
    """Version and commit, also where there is no checkout."""
    assert json.loads(inv("version", "--json").stdout)["version"]
    assert inv("version").stdout.startswith("bikecast ")


def test_a_mistake_of_ours_is_one_line_and_exit_code_3(caplog):
    """With the way to its trace; what was meant to end the task is left as it is."""
    with caplog.at_level("DEBUG", "invoke"), pytest.raises(Exit) as crash, told():
        raise KeyError("no\nkey")
    assert crash.value.code == 3 and "\n" not in crash.value.message
    assert crash.value.message.startswith("error: this is a mistake in bikecast: KeyError: ")
    assert "`inv --debug …` shows its trace" in crash.value.message
    assert "Traceback" in caplog.text
    with pytest.raises(Exit) as meant, told():
        raise Exit(code=1)
    assert meant.value.code == 1


def test_an_environment_that_cannot_be_read_ends_with_exit_code_2(inv, tmp_path):
    """One line that names the file."""
    (tmp_path / "deploy" / "environments" / "folder.toml").mkdir()
    refused = inv("env", "--env", "folder")
    assert refused.returncode == 2 and "folder.toml cannot be read" in refused.stderr
    assert refused.stderr.count("\n") == 1 and refused.stdout == ""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("canary-promote",), "promote the canary of guarded"),
        (("canary-abort",), "abort the canary of guarded"),
        (("exec", "db status"), "run bikecast db status in guarded"),
        (("rollback",), "roll guarded back"),
    ],
)
def test_a_protected_environment_is_not_changed_unasked(inv, words, what):
    """Where nobody can be asked that is wrong use, before any host is."""
    done = inv(*words, "--env", "guarded")
    assert done.returncode == 2
    assert done.stderr == f"error: this would {what}, and nobody can be asked; add --yes\n"
