"""A task that runs a `bikecast` command, as people do: nothing of bikecast is imported here.

Airflow and bikecast have environments of their own, and neither's versions hold the other's up.
"""

import json
import os
import signal
import subprocess
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PROGRAM = os.environ.get("BIKECAST_PROGRAM", "/venv/bin/bikecast")
WRONG = 2  # the exit code of wrong usage or bad input, which another try does not mend
# What a command gets of Airflow's own environment: none of its secrets.
OWN = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "VIRTUAL_ENV")


class BikecastOperator(BaseOperator):
    """Runs a command; its one JSON document, in one line, is the task's result.

    What the command says on stderr goes into the task's log, line by line.

    :param words: of the command, templates; ``--json`` among them.
    :param answers: exit codes with which there is a result: 1 is an answer where a gate is asked.
    """

    template_fields = ("words",)

    def __init__(self, *, words: list[str], answers: tuple[int, ...] = (0,), **more: Any) -> None:
        super().__init__(**more)
        self.words = words
        self.answers = answers
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> str:
        """Run it to its end.

        :raises AirflowFailException: where another try would not help.
        """
        self.log.info("bikecast %s", " ".join(self.words))
        environ = {k: v for k, v in os.environ.items() if not k.startswith(OWN)}
        said = "it said nothing"
        with TemporaryFile("w+") as out:
            # Words of the DAG, of which no shell reads any; a session of its own, to end all of it.
            self._process = subprocess.Popen(  # nosec B603
                [PROGRAM, *self.words],
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                env=environ,
                start_new_session=True,
            )
            try:
                assert self._process.stderr is not None
                for line in self._process.stderr:
                    said = line.strip() or said
                    self.log.info("%s", line.rstrip())
                code = self._process.wait()
            finally:
                # A task that ran out of time leaves nothing behind that goes on training.
                self.on_kill()
            out.seek(0)
            return self._answer(code, out.read(), said)

    def _answer(self, code: int, printed: str, said: str) -> str:
        what = f"bikecast {' '.join(self.words)}"
        if code not in self.answers:
            failure = AirflowFailException if code == WRONG else AirflowException
            raise failure(f"{what} ended with exit code {code}: {said}")
        try:
            return json.dumps(json.loads(printed))
        except ValueError as error:
            # It did its work: another try would do all of it again, and print the same.
            raise AirflowFailException(f"{what} printed no JSON: {printed[:200]!r}") from error

    def on_kill(self) -> None:
        """End the command and all that it has started."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
