"""What every command prints with: tables and JSON on stdout, progress and errors on stderr."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

# Where nobody looks, lines need not fit a screen.
output = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; its first column is text, the others are figures."""
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    output.print(table)


class Steps:
    """Says on stderr what is being done, how far it is, and how long each step took."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=errors,
            transient=True,
            disable=not errors.is_terminal,
        )

    @contextmanager
    def step(self, what: str) -> Iterator["Step"]:
        """One step: a moving line while it runs, a line that stays when it is done."""
        began = time.monotonic()
        current = Step(self._bar, self._bar.add_task(what, total=None), what)
        self._bar.start()
        try:
            yield current
        finally:
            self._bar.remove_task(current.task)
            self._bar.stop()
        seconds = time.monotonic() - began
        done = f"[green]✓[/] {what}  [dim]{current.outcome} {seconds:.1f} s[/]"
        errors.print(done, highlight=False)


class Step:
    """A running step, to be told how far it is."""

    def __init__(self, bar: Progress, task: TaskID, what: str) -> None:
        self._bar = bar
        self.task = task
        self.what = what
        self.outcome = ""

    def progress(self, done: float, total: float | None, detail: str = "") -> None:
        """``done`` of ``total`` (None: not known), in any unit."""
        self._bar.update(
            self.task,
            completed=done,
            total=total,
            description=f"{self.what} {detail}".rstrip(),
        )

    def result(self, text: str) -> None:
        """What to say behind the step when it is done."""
        self.outcome = f"{text},"
