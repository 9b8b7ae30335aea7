"""``bikecast serve``: answer over HTTP."""

import dataclasses
import logging
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from bikecast.cli.open import chosen_system, commit, opened
from bikecast.cli.terminal import errors
from bikecast.config import Settings, read_settings
from bikecast.errors import Unavailable
from bikecast.store import Store

if TYPE_CHECKING:
    from bikecast.serve.table import ForecastTable

log = logging.getLogger(__name__)


def serve(
    system: Annotated[str, typer.Option(help="The system (city) to serve.")] = "",
    bind: Annotated[str, typer.Option(help="Address and port, as in 127.0.0.1:8000.")] = "",
    workers: Annotated[int, typer.Option(help="Processes; 0 takes the setting.", min=0)] = 0,
) -> None:
    """Serve forecasts over HTTP until stopped; exit code 130 by Ctrl-C, 143 by SIGTERM.

    Example: bikecast serve --bind 127.0.0.1:8000 --workers 2
    """
    from bikecast.serve import logs
    from bikecast.serve.server import serve as do_serve
    from bikecast.serve.source import StoreSource

    settings = read_settings()
    logs.start(settings.log_format)
    with opened(settings) as database:
        chosen = _served(settings, database.store, system or settings.system)
        ended_by = do_serve(
            dataclasses.replace(
                settings,
                bind=bind or settings.bind,
                workers=workers or settings.workers,
                commit=commit(settings),
            ),
            lambda: StoreSource(Store(database.url), chosen),
            on_ready=lambda url: _say(settings, f"serving {chosen} on {url}"),
        )
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by:
        raise typer.Exit(128 + ended_by)


def _say(settings: Settings, text: str, level: int = logging.INFO) -> None:
    """To people, or into the log that machines read."""
    if settings.log_format == "json":
        log.log(level, text)
    else:
        errors.print(text, highlight=False, soft_wrap=True, markup=False)


def _served(settings: Settings, store: Store, asked: str) -> str:
    """The system to serve; where its server is gone, the one whose last forecast is kept.

    Where none is asked for, it is the only one of which there is any.
    """
    try:
        store.check_readable()
        return chosen_system(store, asked)
    except Unavailable as error:
        kept = _kept(settings, store.place, asked)
        if kept is None:
            raise
        chosen = kept.system.system_id
        told = f"{error}; serving the forecast of {chosen} as of {kept.as_of} until it answers"
        _say(settings, told, logging.WARNING)
        return chosen


def _kept(settings: Settings, database: str, asked: str) -> "ForecastTable | None":
    from bikecast.serve.kept import KeptTable, kept_folder, kept_folders

    folders = [kept_folder(settings.data_dir, database, asked)]
    try:
        if not asked:
            folders = kept_folders(settings.data_dir, database)
        return KeptTable(folders[0]).load() if len(folders) == 1 else None
    except (OSError, ValueError):
        return None
