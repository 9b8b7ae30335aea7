"""A training, from its start to a model in production: what it says, and when it is promoted.

Whoever trains (Airflow, or this machine) hands over two JSON documents, those of `bikecast train`
and `bikecast model validate`; whoever promotes runs one `bikecast model promote`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikecast.errors import BikecastError, CommandFailed, HostGone, Refused, Unavailable
from bikecast.ops.asking import Bikecast

if TYPE_CHECKING:  # who rolls back is in a hurry, and needs no HTTP client
    from bikecast.ops.airflow import Airflow, Task

TRAIN = ("train", "--json")
OVER = ("success", "failed")  # states of runs
PAUSE = 5.0  # seconds between two looks
PATIENCE = 120.0  # seconds that Airflow may not answer while a run goes on
NOT_ITS_OWN = 125  # from here on exit codes are those of Docker and of signals
LOG_LINES = 60  # of which Airflow's own traceback takes half
PROMOTE = "promote"
WORDS = {PROMOTE: "passes the gate", "reject": "does not pass the gate"}
UNKNOWN = "inconclusive"
MARKS = {PROMOTE: "✓", "reject": "✗"}
PAGE = "gate/report.html"  # as the registry keeps it


@dataclass(frozen=True)
class Verdict:
    """What the gate said of the version that a training made.

    :param outcome: ``promote``, ``reject`` or ``inconclusive``.
    :param figures: the version's errors beside naive's and the champion's.
    :param failed: what did not pass, in the gate's words.
    :param report: all that the gate looked at, and where pictures and figures of it are.
    """

    version: str
    outcome: str
    figures: str
    failed: tuple[str, ...]
    report: str

    def __str__(self) -> str:
        """As in ``version 7 passes the gate``."""
        return f"version {self.version} {WORDS.get(self.outcome, 'leaves the gate undecided')}"


def verdict_of(trained: dict[str, Any], judged: dict[str, Any]) -> Verdict:
    """The verdict that two documents tell of.

    What is not said in so many words to pass does not pass.

    :raises BikecastError: where they name no version, or are of two.
    """
    version = str(trained.get("version", ""))
    if not version:
        raise BikecastError("the training names no version", hint="look at its log")
    if (of := str(judged.get("version", version))) != version:
        raise BikecastError(
            f"the training made version {version}, and the gate was asked about {of}",
            hint=f"ask it again: `bikecast model validate {version}`",
        )
    # A release from before the gate could be undecided says only whether it passed.
    outcome = judged.get("outcome") or (PROMOTE if judged.get("passed") is True else "reject")
    if outcome not in WORDS:
        outcome = UNKNOWN
    failed = tuple(
        f"{check.get('name')}: {check.get('detail')}"
        for check in judged.get("checks", ())
        if check.get("outcome", PROMOTE if check.get("passed") is True else "") != PROMOTE
    )
    return Verdict(version, outcome, figures(trained), failed, report(trained, judged))


def report(trained: dict[str, Any], judged: dict[str, Any]) -> str:
    """The gate's report in a line, as a notice has it.

    >>> checks = [{"name": "rain", "outcome": "reject", "detail": "error +30.0 %"}]
    >>> report({"run_id": "ab12"}, {"checks": checks})
    'gate/report.html of run ab12 in MLflow; ✗ rain: error +30.0 %'
    """
    place = f"{PAGE} of run {trained['run_id']} in MLflow" if trained.get("run_id") else ""
    checks = [
        f"{MARKS.get(check.get('outcome'), '?')} {check.get('name')}: {check.get('detail')}"
        for check in judged.get("checks", ())
    ]
    return "; ".join([*([place] if place else []), *checks])


def figures(trained: dict[str, Any]) -> str:
    """The errors of a version beside those of naive and of the champion, on the same hours.

    >>> figures({"model": "glm", "scores": {"glm": {"mae": 1.0}, "naive": {"mae": 2.5}}})
    'MAE 1.000 (naive 2.500)'
    """
    scores, found = trained.get("scores", {}), []
    for name in ("mae", "rmse"):
        own = scores.get(trained.get("model"), {}).get(name)
        beside = [
            f"{other} {scores[other][name]:.3f}"
            for other in ("naive", "champion")
            if name in scores.get(other, {})
        ]
        if own is not None:
            found.append(f"{name.upper()} {own:.3f} ({', '.join(beside)})")
    return ", ".join(found)


# By Airflow


def begin(airflow: "Airflow", run: str, note: str, again: str) -> None:
    """Start a run, where Airflow can.

    :param again: the command that takes the run up once it began.
    """
    airflow.check()
    try:
        airflow.start(run, note)
    except Unavailable as error:
        error.hint = f"whether the run {run} began is not known: `{again}` finds out"
        raise


def watch(
    airflow: "Airflow",
    run: str,
    limit: float,
    again: str,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Wait for a run's end, and say how far it is.

    :param limit: seconds.
    :param again: the command that takes it up later.
    :raises BikecastError: where it fails, behind the log of the task that did; or takes too long.
    :raises Unavailable: where Airflow does not answer for too long.
    """
    began = answered = now()
    said = ""
    while True:
        try:
            state = airflow.state(run)
            progress = state if state in OVER else _progress(airflow, run, state)
            answered = now()
        except Unavailable as error:
            if now() - answered > PATIENCE:
                error.hint = f"the run goes on all the same: `{again}` once Airflow answers"
                raise
            state, progress = "", f"{error.what}; asking again"
        if progress != said:
            say(f"run {run}: {progress}")
            said = progress
        if state == "success":
            return
        if state == "failed":
            raise _failure(airflow, run, say)
        if now() - began > limit:
            raise BikecastError(
                f"the run {run} is not over after {limit:.0f} s ({said}); nothing was promoted",
                hint=f"look at {airflow.page(run)}; `{again}` waits on",
            )
        sleep(PAUSE)


def _progress(airflow: "Airflow", run: str, state: str) -> str:
    if state == "queued":
        others = airflow.others(run)
        return f"waits for {', '.join(others)}" if others else "queued"
    going = [
        f"{task.name} {task.state}" + (f", try {task.tries}" if task.tries > 1 else "")
        for task in airflow.tasks(run)
        if task.state not in ("success", "waiting")
    ]
    return ", ".join(going) or state


def _failure(airflow: "Airflow", run: str, say: Callable[[str], None]) -> BikecastError:
    """Show the log of the tasks that failed; the error that says so."""
    names: list[str] = []
    shown, what = False, "it ran out of time or was stopped"
    try:
        for task in airflow.tasks(run):
            if task.state == "failed":
                names.append(task.name)
                what = f"its task {', '.join(names)} failed"
                shown = _show_log(airflow, run, task, say)
    except BikecastError as error:
        # That the run failed is known all the same.
        say(f"Airflow does not tell all of it: {error.what}")
        what = what if names else "why is not known"
    page = airflow.page(run)
    return BikecastError(
        f"the run {run} failed: {what}; nothing was promoted",
        hint=f"its log stands above, all of it on {page}" if shown else f"look at {page}",
    )


def _show_log(airflow: "Airflow", run: str, task: "Task", say: Callable[[str], None]) -> bool:
    """Show the end of a task's log; whether there was any."""
    lines = airflow.log(run, task)[-LOG_LINES:]
    say(f"{task.name} failed; the last lines of its log:")
    for line in lines:
        say(f"  {task.name}| {line}")
    return bool(lines)


def read_verdict(airflow: "Airflow", run: str, again: str) -> Verdict:
    """What the gate said in a run that is over.

    :param again: the command that reads it later.
    """
    try:
        return verdict_of(airflow.result(run, "train"), airflow.result(run, "validate"))
    except Unavailable as error:
        error.hint = f"the run {run} is over: `{again}` reads its verdict"
        raise


# On this machine


def train_here(bikecast: Bikecast) -> Verdict:
    """Train and ask the gate, with two commands.

    :raises BikecastError: where one of them could not run.
    """
    trained = _document(_run(bikecast, TRAIN))
    return verdict_of(trained, _document(_run(bikecast, validating(trained), (1,))))


def validating(trained: dict[str, Any]) -> tuple[str, ...]:
    """The command that asks the gate about what was trained, and nothing that came since."""
    return ("model", "validate", str(trained.get("version", "")), "--json")


def _run(bikecast: Bikecast, words: tuple[str, ...], answers: tuple[int, ...] = ()) -> str:
    try:
        return bikecast(words)
    except CommandFailed as error:
        if error.code in answers and error.out.strip():
            return error.out
        raise BikecastError(
            f"the training could not run: {error.what}; nothing was promoted", hint=error.hint
        ) from error


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BikecastError("`bikecast` printed no JSON document", hint="see what it printed above")
    return found


# Into production


def promoting(version: str) -> tuple[str, ...]:
    """The command that puts a version into production."""
    return ("model", "promote", version, "--json")


def promote(verdict: Verdict, bikecast: Bikecast, again: str) -> None:
    """Put a version that passed into production, with one command that does all of it or nothing.

    :param again: the command that tries it once more.
    :raises Refused: where the gate did not let it pass, or does not any more.
    :raises BikecastError: where it could not run.
    """
    if verdict.outcome != PROMOTE:
        raise Refused(
            f"{verdict} and stays out of production: {'; '.join(verdict.failed) or 'no reason'}",
            hint=f"`bikecast model show {verdict.version}` has all scores",
        )
    try:
        bikecast(promoting(verdict.version))
    except (CommandFailed, HostGone) as error:
        if unknown(error):
            raise BikecastError(
                f"{verdict}; whether it was promoted is not known: {error.what}", hint=f"`{again}`"
            ) from error
        if isinstance(error, CommandFailed) and error.code == Refused.exit_code:
            raise Refused(
                error.what, hint="the gate was asked again, and is the last word"
            ) from error
        raise _not_promoted(verdict, error, again) from error
    except Unavailable as error:
        raise _not_promoted(verdict, error, again) from error


def unknown(error: BaseException | None) -> bool:
    """Whether nobody can say what a command did: its host is gone, or it was killed."""
    killed = isinstance(error, CommandFailed) and not 0 < error.code < NOT_ITS_OWN
    return killed or isinstance(error, HostGone)


def _not_promoted(verdict: Verdict, error: BikecastError, again: str) -> BikecastError:
    return BikecastError(f"{verdict}, and was not promoted: {error.what}", hint=f"then `{again}`")
