"""The command line: each command parses, calls one verb, and prints."""

import signal
import sys
import threading
import traceback
from types import FrameType
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from bikecast import __version__
from bikecast.cli import data, demo, keys, models, service
from bikecast.cli.audit import audit
from bikecast.cli.backtest import backtest
from bikecast.cli.predict import predict
from bikecast.cli.stock import stock
from bikecast.cli.terminal import errors
from bikecast.errors import BikecastError

app = typer.Typer(
    name="bikecast",
    help="Forecast bike-share demand at every station, and serve the forecast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.db, name="db")
app.add_typer(data.imports, name="import")
app.add_typer(models.model, name="model")
app.add_typer(keys.keys, name="keys")
app.command()(demo.demo)
app.command()(backtest)
app.command()(models.train)
app.command()(models.forecast)
app.command()(predict)
app.command()(stock)
app.command()(service.serve)
app.command()(audit)


INTERRUPTED = 130


def print_version(asked: bool) -> None:
    """Print the version and stop, where it is asked for."""
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    verbose: bool = typer.Option(False, "--verbose", help="Show the trace behind an error."),
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=print_version, help="Print the version."
    ),
) -> None:
    """Forecast bike-share demand at every station, and serve the forecast."""


def main() -> NoReturn:
    """Run the command line; one line on stderr and an exit code tell what went wrong.

    0 done; 1 the answer is no; 2 wrong usage or bad input; 3 could not run; 130 and 143 signals.
    """
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _unraisable
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # Typer has caught it and answers with its code
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except TyperException as error:
        if what := error.format_message():  # nothing where the help has been printed instead
            told = f"error: {what}; `--help` shows how it is used"
            errors.print(told, markup=False, highlight=False, soft_wrap=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        errors.print("stopped")
        return INTERRUPTED
    except Exception as error:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        return _explain(error)


def _explain(error: Exception) -> int:
    if isinstance(error, BikecastError):
        errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    errors.print(
        f"crashed: {type(error).__name__}: {' '.join(str(error).split())}; "
        "run again with `bikecast --verbose …` and report what it shows",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 3


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """A Ctrl-C that met a callback which cannot raise is sent once more, and not shown."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        # A little later: here it would be lost again. As a real signal, so that it ends a wait.
        main = threading.main_thread().ident
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)
