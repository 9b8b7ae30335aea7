"""The command line: what it prints, what it exits with, and that it is documented."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta

import click
import polars as pl
import pytest
import typer
from invoke import Collection
from readme import README, readme_lines
from typer.testing import CliRunner

from bikecast.cli import app
from bikecast.config import seconds
from bikecast.errors import BikecastError, InputError
from bikecast.ops import tasks as operations

runner = CliRunner()


def commands(group=None, path=()):
    """Every command as (its words, the click command)."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_every_command_shows_an_example_and_explains_its_options(words, command):
    """Help has an example, and each option a sentence."""
    text = (command.help or "") + (command.epilog or "")
    assert f"Example: bikecast {words.split()[0]}" in text or f"bikecast {words}" in text
    for option in command.params:
        if option.name not in ("help",):
            assert getattr(option, "help", None), f"{words}: {option.name}"


@pytest.mark.parametrize("words", [words for words, _ in commands()])
def test_every_command_is_in_the_readme(words):
    """Nobody has to guess that a command exists."""
    text = README.read_text()
    *group, name = words.split()
    assert re.search(rf"`bikecast {words}`", text) or (
        group and re.search(rf"`bikecast {group[0]} .*`{name}`", text)
    )


def shell_lines():
    """Each command in the shell blocks of the README."""
    return [part.strip() for line in readme_lines() for part in line.split("&&")]


@pytest.mark.parametrize("line", [x for x in shell_lines() if x.startswith("bikecast")])
def test_every_command_line_of_the_readme_is_understood(line):
    """Commands and options of the README exist, with arguments that they take."""
    import shlex

    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    context = click.Context(command)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, parent=context)


def test_every_task_is_in_the_readme_and_shows_an_example():
    """Nobody has to guess that a task exists."""
    text = README.read_text()
    for name, task in Collection.from_module(operations).tasks.items():
        assert f"`inv {name}`" in text, name
        assert task.body.__doc__ and "inv " in task.body.__doc__, name


HELPLESS = """
from invoke import Collection
from bikecast.ops import tasks

for name, task in Collection.from_module(tasks).tasks.items():
    arguments = task.get_arguments()
    print(name, len(arguments), *(a.name for a in arguments if not a.help))
"""


def test_every_option_of_a_task_has_help():
    """Nobody has to guess what a word of a task means.

    Invoke takes the help out of a task when it first reads it, so this asks a process of its own.
    """
    asked = [sys.executable, "-c", HELPLESS]
    found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    tasks = [line.split() for line in found.stdout.splitlines()]
    assert [name for name, *_ in tasks] == list(Collection.from_module(operations).tasks)
    assert [words for words in tasks if len(words) > 2] == []
    assert sum(int(count) for _, count in tasks) > len(tasks)


def test_every_session_of_the_readme_exists():
    """`nox -s X` names a session, `inv X` a task."""
    top = README.parent
    tasks = Collection.from_module(operations).task_names
    sessions = set(re.findall(r"^def (\w+)\(session", (top / "noxfile.py").read_text(), re.M))
    for line in shell_lines():
        if match := re.match(r"nox -s ([\w ]+)", line):
            assert set(match[1].split()) <= sessions, line
        elif line.startswith("inv"):
            assert line == "inv --list" or line.split()[1] in tasks, line


@pytest.mark.parametrize("text", ["", "10", "m", "0m", "1.5h", "-1s", "1d"])
def test_what_is_no_duration_is_refused(text):
    """A duration is a whole number and s, m or h."""
    with pytest.raises(InputError, match="not a duration"):
        seconds(text)


def test_version_and_no_command():
    """`--version` prints one line; without a command there is help."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", runner.invoke(app, ["--version"]).stdout)


@pytest.fixture
def panel(tmp_path):
    """A panel of forty days and two stations."""
    hours = [datetime(2018, 5, 1) + timedelta(hours=h) for h in range(40 * 24)]
    frame = pl.DataFrame(
        {
            "station_id": ["a"] * len(hours) + ["b"] * len(hours),
            "hour": hours * 2,
            "pickups": [h.hour for h in hours] * 2,
            "returns": [23 - h.hour for h in hours] * 2,
        }
    )
    path = tmp_path / "panel.parquet"
    frame.write_parquet(path)
    return path


def test_a_backtest_writes_predictions_and_scores(panel, tmp_path):
    """The contract's columns and documents come out."""
    out, scores = tmp_path / "p.parquet", tmp_path / "s.json"
    words = ["backtest", str(panel), "--start", "2018-06-01", "--days", "3", "--model", "naive"]
    words += ["--model", "mean4w", "--out", str(out), "--scores", str(scores), "--json"]
    found = runner.invoke(app, words)
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document == json.loads(scores.read_text())
    assert document["models"]["naive"]["overall"]["n"] == 2 * 2 * 72
    frame = pl.read_parquet(out)
    columns = "model origin station_id hour target mean q05 q10 q25 q50 q75 q90 q95"
    assert frame.columns == columns.split() and set(frame["model"]) == {"naive", "mean4w"}


def test_a_backtest_can_be_read_as_one_page(panel, tmp_path):
    """Scores of every model and five pictures, with nothing to be loaded from elsewhere."""
    page = tmp_path / "report.html"
    words = ["backtest", str(panel), "--start", "2018-06-01", "--days", "3", "--model", "naive"]
    words += ["--model", "mean4w", "--timezone", "America/New_York", "--report", str(page)]
    found = runner.invoke(app, words)
    assert found.exit_code == 0, found.output
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.count("data:image/svg+xml;base64,") == 5
    assert "<td>naive</td>" in text and "<td>mean4w</td>" in text and "America/New_York" in text
    assert not re.search(r"(src|href)=[\"'](?!data:)", text) and "<script" not in text
    assert "Hindsight" not in text


def test_names_in_a_report_are_text(panel, tmp_path):
    """A station called like a tag, a file that cannot be written."""
    frame = pl.read_parquet(panel).with_columns(pl.col("station_id") + "<b>$x$&")
    frame.write_parquet(panel)
    words = ["backtest", str(panel), "--start", "2018-06-01", "--days", "3", "--model", "naive"]
    page = tmp_path / "report.html"
    assert runner.invoke(app, [*words, "--report", str(page)]).exit_code == 0
    assert "&lt;b&gt;$x$&amp;" in page.read_text() and "<b>" not in page.read_text()
    refused = runner.invoke(app, [*words, "--report", str(tmp_path)])
    assert isinstance(refused.exception, BikecastError)
    assert "cannot write the results" in str(refused.exception)


def test_a_backtest_with_observed_weather_says_hindsight(panel, tmp_path):
    """Every row is marked; a file without forecasts is refused as forecasts."""
    sky = tmp_path / "sky.csv"
    sky.write_text("time,temperature_2m,precipitation,wind_speed_10m\n2018-05-01T04:00,1,0,1\n")
    out = tmp_path / "p.parquet"
    words = ["backtest", str(panel), "--start", "2018-06-01", "--days", "1", "--model", "naive"]
    words += ["--weather", str(sky), "--out", str(out), "--report", str(tmp_path / "r.html")]
    assert runner.invoke(app, words).exit_code == 0
    assert "Hindsight" in (tmp_path / "r.html").read_text()
    assert pl.read_parquet(out)["hindsight"].all()
    refused = runner.invoke(app, [*words, "--weather-mode", "forecast"])
    assert isinstance(refused.exception, InputError) and "issued_at" in str(refused.exception)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--horizon", "0"], "--horizon is 0"),
        (["--horizon", "169"], "--horizon is 169"),
        (["--start", "2018-02-30"], "no date"),
        (["--start", "2019-01-01"], "not inside the history"),
        (["--every", "5h"], "every 5 hours"),
        (["--every", "daily"], "--every is"),
        (["--model", "oracle"], "no model 'oracle'"),
        (["--holidays", "XX"], "no holiday calendar"),
        (["--stations", "none.csv"], "none.csv"),
        (["--out", "none/p.parquet"], "--out: no folder none"),
        (["--report", "none/r.html"], "--report: no folder none"),
        (["--timezone", "Mars/Base"], "Mars/Base"),
    ],
)
def test_bad_options_of_a_backtest_are_input_errors(panel, words, says):
    """What cannot be is refused, naming the option."""
    base = ["backtest", str(panel), "--days", "3", "--model", "naive"]
    start = [] if "--start" in words else ["--start", "2018-06-01"]
    found = runner.invoke(app, [*base, *start, *words])
    assert isinstance(found.exception, InputError) and says in str(found.exception)


def bikecast(*words, **environ):
    """The program as a process."""
    return subprocess.run(
        [sys.executable, "-m", "bikecast", *words],
        capture_output=True,
        text=True,
        env=os.environ | environ,
        timeout=120,
    )


def test_no_command_is_help_without_an_error():
    """Wrong usage all the same."""
    for words in ((), ("model",)):
        shown = bikecast(*words)
        assert shown.returncode == 2 and "Usage" in shown.stdout and shown.stderr == ""


@pytest.mark.parametrize("after", [0.1, 0.3, 0.5, 0.7, 0.9, 1.2])
def test_ctrl_c_is_one_word_however_early(after, tmp_path):
    """Also while modules are imported: `stopped`, exit code 130 and no trace."""
    process = subprocess.Popen(
        [sys.executable, "-c", EARLY, str(after)], stderr=subprocess.PIPE, text=True
    )
    assert process.communicate(timeout=60)[1] == "stopped\n"
    assert process.returncode == 130


# A signal that comes when so much of the work of importing is done, however slow the machine.
EARLY = """
import signal, sys
after = float(sys.argv.pop())
sys.argv = ["bikecast", "--help"]
from bikecast.__main__ import main
found = 0
class Count:
    def find_spec(self, name, path=None, target=None):
        global found
        found += 1
        if found == int(after * 500):
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Count())
main()
"""


TELL_THREADS = """
import os, sys, types
stub = types.ModuleType("bikecast.cli")
stub.main = lambda: print(os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)
sys.modules["bikecast.cli"] = stub
from bikecast.__main__ import main
main()
"""


@pytest.mark.parametrize(("asked", "told"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2")])
def test_threads_are_set_before_a_library_reads_them(asked, told):
    """And are as the user says, where he does."""
    unset = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    child = [sys.executable, "-c", TELL_THREADS]
    done = subprocess.run(child, env=unset | asked, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [told, "False"]


def test_ctrl_c_inside_a_callback_is_not_lost():
    """Where Python can raise nothing it is sent again, and not shown as a trace."""
    program = """
import time
import bikecast.cli as cli
class Lost:
    def __del__(self):
        raise KeyboardInterrupt
def run(standalone_mode):
    lost = Lost()
    del lost
    time.sleep(30)
cli.app = run
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_errors_are_one_line_and_a_code(tmp_path):
    """Bad input exits 2, an unreachable database 3, wrong usage 2; `--verbose` shows the trace."""
    missing = bikecast("backtest", "none.parquet", "--start", "2018-06-01")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert "none.parquet" in missing.stderr and missing.stdout == ""
    gone = bikecast("db", "status", BIKECAST_DATABASE_URL="postgresql://u:pw@127.0.0.1:9/d")
    assert gone.returncode == 3 and "does not answer" in gone.stderr and "pw" not in gone.stderr
    assert bikecast("predict").returncode == 2
    loud = bikecast("--verbose", "backtest", "none.parquet", "--start", "2018-06-01")
    assert loud.returncode == 2 and "Traceback" in loud.stderr
