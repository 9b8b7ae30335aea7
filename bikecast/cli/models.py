"""``bikecast train``, ``forecast`` and ``model``: learn, issue, compare, promote."""

import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bikecast.cli.card import Json, Which, print_version, show
from bikecast.cli.history import history
from bikecast.cli.open import Opened, chosen_system, commit, opened
from bikecast.cli.terminal import Steps, errors, output, print_json, print_table
from bikecast.config import read_settings, seconds
from bikecast.errors import BikecastError, DiskFull, Unavailable
from bikecast.records import Issue, ModelVersion

if TYPE_CHECKING:
    from bikecast.promote import Rule, Verdict

model = typer.Typer(no_args_is_help=True, help="Registered models: look, judge, promote, go back.")
model.command("show", epilog="Example: bikecast model show production --html card.html")(show)
model.command("history", epilog="Example: bikecast model history --at 2026-11-02T08:00")(history)

AGAIN_AFTER = 5.0  # seconds, where what a forecast needs does not answer, or has no room
LOOK_EVERY = 15.0  # seconds between two looks at what is in production

SystemId = Annotated[
    str, typer.Option("--system", help="The system (city); may be left out where there is one.")
]
RmseLimit = Annotated[
    float | None,
    typer.Option(
        "--rmse-threshold",
        "--rmse-limit",
        help="RMSE in bikes per station-hour that must not be exceeded.",
        min=0,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Ask for a gain beyond doubt; by default no loss and newer data will do. "
        "BIKECAST_STRICT_GATE=true asks always.",
    ),
]


def train(
    system: SystemId = "",
    promote: Annotated[
        bool, typer.Option("--promote", help="Then validate and promote in one go.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Learn from fewer hours; errors are 1 % larger.")
    ] = False,
    strict: Strict = False,
    rmse_limit: RmseLimit = None,
    as_json: Json = False,
) -> None:
    """Compare all models on the last four weeks, fit the best on everything, register it.

    Example: bikecast train --promote
    """
    with opened(read_settings()) as database:
        steps = Steps()
        chosen = chosen_system(database.store, system or database.settings.system)
        version = train_steps(database, chosen, steps, quick=quick)
        if not as_json:
            print_version(version)
        if promote:
            from bikecast.promote import promote as do_promote

            asked = rule(database, strict, rmse_limit)
            verdict = do_promote(database.production, version.version, asked)
            version = verdict.version
            if not as_json:
                print_verdict(verdict)
        if as_json:
            print_json(dataclasses.asdict(version))


def rule(database: Opened, strict: bool, rmse_limit: float | None) -> "Rule":
    """What is asked of a challenger: as the command says, and strict where the settings are."""
    from bikecast.promote import Rule

    return Rule(strict or database.settings.strict_gate, rmse_limit)


def train_steps(database: Opened, system_id: str, steps: Steps, *, quick: bool) -> ModelVersion:
    """Train with its progress on the screen."""
    from bikecast.train import train as do_train

    with steps.step("train") as step:
        version = do_train(
            database.store,
            database.registry,
            system_id,
            commit=commit(database.settings),
            quick=quick,
            progress=step.progress,
        )
        step.result(f"{version.model}, version {version.version}")
    return version


def forecast(
    system: SystemId = "",
    every: Annotated[
        str, typer.Option(help="Repeat, as in 10m; by default once.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Issue the forecast table with the model in production.

    Where it repeats, another version in production is noticed within 15 s and issued at once. Where
    the database or MLflow does not answer, or a disk is full, it tries again after 5 s.

    Example: bikecast forecast --every 10m
    """
    pause = seconds(every) if every else None
    if pause is not None:
        from bikecast.registry import fail_soon

        fail_soon()
    with opened(read_settings()) as database:
        chosen = chosen_system(database.store, system or database.settings.system)
        if pause is None:
            print_issue(issue_now(database, chosen), as_json)
        said = _Said()
        while pause is not None:
            seen = _in_production(database)
            well = _round(database, chosen, as_json, pause, said)
            # A refresher outlives what it depends on, and is there soon after it is back.
            _wait(database, pause if well else min(pause, AGAIN_AFTER), seen)


def _wait(database: Opened, pause: float, seen: str) -> None:
    """Until the next round, or until another version is in production than before the last."""
    until = time.monotonic() + pause
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY))
        if left > LOOK_EVERY and _in_production(database) not in ("", seen):
            return


def _in_production(database: Opened) -> str:
    """The version in production; empty where that cannot be asked, as the next round will say."""
    try:
        return database.registry.in_production()
    except BikecastError:
        return ""


class _Said:
    """What failed last: it is told once, however often it is tried again."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, error: BikecastError) -> None:
        """Print an error, if it is another one than the last."""
        if str(error) != self._last:
            errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        self._last = str(error)

    def forget(self) -> None:
        """All is well: the next error is told, whatever it is."""
        self._last = ""


def _round(database: Opened, system_id: str, as_json: bool, pause: float, said: _Said) -> bool:
    """Issue and print, or tell what failed; whether the next round may take its time.

    What only time or another release can change is not tried again at once.
    """
    until = time.monotonic() + pause

    def room_later(error: DiskFull) -> bool:
        """Wait a little for room, up to the next round, whose forecast would be another."""
        said.say(error)
        time.sleep(AGAIN_AFTER)
        return time.monotonic() < until

    try:
        print_issue(issue_now(database, system_id, room_later), as_json)
        # Whoever moves it in MLflow itself is found out soon.
        database.production.notice()
    except BikecastError as error:
        said.say(error)
        return not isinstance(error, DiskFull | Unavailable)
    said.forget()
    return True


def issue_now(
    database: Opened, system_id: str, room_later: Callable[[DiskFull], bool] = lambda error: False
) -> Issue:
    """One table, issued now.

    :param room_later: as in ``issue_forecast``.
    """
    from bikecast.forecast import issue_forecast

    now = datetime.now(UTC)
    return issue_forecast(database.store, database.registry, system_id, now, room_later)


@model.command("list", epilog="Example: bikecast model list")
def list_(as_json: Json = False) -> None:
    """List all versions, the newest first."""
    with opened(read_settings()) as database:
        versions = database.registry.versions()
    if as_json:
        print_json([dataclasses.asdict(v) for v in versions])
        return
    rows = [
        [v.version, ", ".join(v.aliases), v.model, v.system_id, v.trained_until, *_figures(v)]
        for v in versions
    ]
    columns = ["version", "alias", "model", "system", "trained until", "MAE", "RMSE"]
    print_table("Models", columns, rows)


def _figures(version: ModelVersion) -> list[str]:
    own = version.scores.get(version.model, {})
    return [f"{own[s]:.3f}" if s in own else "–" for s in ("mae", "rmse")]


@model.command(epilog="Example: bikecast model validate challenger --rmse-threshold 4")
def validate(
    which: Which = "challenger",
    strict: Strict = False,
    rmse_limit: RmseLimit = None,
    as_json: Json = False,
) -> None:
    """Ask the gate about a version; exit code 1 where it says no, or cannot tell."""
    from bikecast.promote import validate as do_validate

    with opened(read_settings()) as database:
        moves = database.production.moves
        verdict = do_validate(database.registry, which, rule(database, strict, rmse_limit), moves)
    if as_json:
        print_json(verdict.document())
    else:
        print_verdict(verdict)
    if not verdict.passed:
        raise typer.Exit(1)


@model.command(epilog='Example: bikecast model promote challenger --why "winter is in the data"')
def promote(
    which: Which = "challenger",
    strict: Strict = False,
    rmse_limit: RmseLimit = None,
    why: Annotated[
        str, typer.Option(help="The reason, for good; by default the gate's figures.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Put a version that passes the gate into production, and write down who did so and why."""
    from bikecast.promote import promote as do_promote

    with opened(read_settings()) as database:
        verdict = do_promote(database.production, which, rule(database, strict, rmse_limit), why)
    if as_json:
        print_json(verdict.document())
    else:
        print_verdict(verdict)


@model.command(epilog='Example: bikecast model rollback --why "forecasts of the night are off"')
def rollback(
    why: Annotated[str, typer.Option(help="The reason, for good.")] = "rollback",
    as_json: Json = False,
) -> None:
    """Put the version that production replaced back; a second time the one before that."""
    with opened(read_settings()) as database:
        version = database.production.rollback(why)
    if as_json:
        print_json(dataclasses.asdict(version))
    else:
        print_version(version)


def print_verdict(verdict: "Verdict") -> None:
    """The gate's answers, check by check."""
    from bikecast.evaluation.gate import MARKS

    colours = {"promote": "green", "reject": "red", "inconclusive": "yellow"}
    for check in verdict.checks:
        mark = f"[{colours[check.outcome]}]{MARKS[check.outcome]}[/]"
        output.print(f"{mark} {escape(f'{check.name}: {check.detail}')}", highlight=False)
    words = {
        "promote": "passes the gate",
        "reject": "does not pass the gate",
        "inconclusive": "does not pass the gate: it cannot be told yet",
    }
    output.print(f"version {verdict.version.version} {words[verdict.outcome]}")
    if not verdict.kept:
        errors.print("[yellow]the report could not be kept with the version's run[/]")


def print_issue(issue: Issue, as_json: bool) -> None:
    """One issued table."""
    if as_json:
        print_json(dataclasses.asdict(issue))
        return
    note = " [yellow]simulated[/]" if issue.simulated else ""
    output.print(
        f"{issue.system_id}: issued {issue.issued_at:%Y-%m-%d %H:%M} UTC from data up to "
        f"{issue.as_of:%Y-%m-%d %H:%M} with {issue.model} version {issue.model_version}{note}"
    )
