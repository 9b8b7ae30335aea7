"""An HTTP server that says what Airflow says of one DAG, and misbehaves as it is told to."""

import base64
import json
import re
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from http_server import Handler, serving

USERNAME, PASSWORD = "bikecast", "geheim-und-lang"  # pragma: allowlist secret: made up
DAG = "model_training"
RUN = re.compile(rf"/api/(v[12])/dags/{DAG}(?P<place>/.*)?")

__all__ = ["FakeAirflow", "Run", "serving"]


@dataclass
class Run:
    """A run: its states one look after the other, the last one stays; tasks; what they returned."""

    states: list[str] = field(default_factory=lambda: ["queued", "running", "success"])
    tasks: dict[str, str] = field(
        default_factory=lambda: {"train": "success", "validate": "success"}
    )
    results: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    note: str = ""


class FakeAirflow(ThreadingHTTPServer):
    """What it knows, and what was asked of it.

    :ivar next: the run that the next trigger starts.
    :ivar tokens_last: how many questions a token is good for.
    :ivar mute: it answers 503 where it is asked what a task returned, or for its log.
    :ivar down: how many of the next questions about a run are answered with 503.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.next = Run()
        self.runs: dict[str, Run] = {}
        self.paused = self.broken = False
        self.tokens: dict[str, int] = {}
        self.tokens_last = 1000
        self.down = 0
        self.mute = False
        self.asked: list[str] = []


class Answers(Handler):
    """The routes that `bikecast.ops.airflow` asks, in the forms of both versions."""

    server: FakeAirflow

    def do_GET(self) -> None:
        """Look."""
        self.route()

    def do_POST(self) -> None:
        """Log in, or start a run."""
        self.route()

    def route(self) -> None:
        """Answer as Airflow 3.3 does, and 2.11."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {unquote(path)}")
        if path == "/auth/token":
            return self.log_in(body)
        found = RUN.fullmatch(unquote(path))
        if not self.known(found[1] if found else "v2"):
            return self.say({"detail": "Not authenticated"}, 401)
        if not found:
            return self.say({"detail": "The Dag was not found"}, 404)
        self.answer_of(found["place"] or "", body, found[1])

    def log_in(self, body: dict[str, str]) -> None:
        """A token for the right password."""
        if (body.get("username"), body.get("password")) != (USERNAME, PASSWORD):
            return self.say({"detail": "Invalid credentials"}, 401)
        token = f"token-{len(self.server.tokens)}"
        self.server.tokens[token] = self.server.tokens_last
        self.say({"access_token": token}, 201)

    def known(self, version: str) -> bool:
        """Whether the question comes from somebody who may ask."""
        given = self.headers.get("Authorization", "")
        if version == "v1":
            basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
            return given == f"Basic {basic}"
        token = given.removeprefix("Bearer ")
        self.server.tokens[token] = self.server.tokens.get(token, 0) - 1
        return self.server.tokens[token] >= 0

    def answer_of(self, place: str, body: dict[str, Any], version: str) -> None:
        """What is said of the DAG and its runs."""
        server = self.server
        if not place:
            return self.say({"is_paused": server.paused, "has_import_errors": server.broken})
        if place == "/dagRuns" and self.command == "POST":
            return self.trigger(body, version)
        if place == "/dagRuns":
            going = [n for n, r in server.runs.items() if r.states[0] == "running"]
            return self.say({"dag_runs": [{"dag_run_id": name} for name in going]})
        _, _, name, *rest = place.split("/")
        if name not in server.runs:
            return self.say({"detail": f"no run {name}"}, 404)
        if server.down:
            server.down -= 1
            return self.say({"detail": "gone"}, 503)
        self.answer_of_run(server.runs[name], rest)

    def trigger(self, body: dict[str, Any], version: str) -> None:
        """Start the next run, as strictly as Airflow reads the question."""
        name = body["dag_run_id"]
        if name in self.server.runs:
            return self.say({"detail": {"reason": "Unique constraint violation"}}, 409)
        if version == "v2" and ("logical_date" not in body or body["logical_date"] is not None):
            return self.say({"detail": "logical_date"}, 422)
        self.server.runs[name] = self.server.next
        self.server.next.note = body["note"]
        self.say({"dag_run_id": name, "state": "queued"})

    def answer_of_run(self, run: Run, rest: list[str]) -> None:
        """Its state, tasks, logs and results."""
        if not rest:
            state = run.states.pop(0) if len(run.states) > 1 else run.states[0]
            return self.say({"state": state})
        if rest == ["taskInstances"]:
            tasks = [{"task_id": n, "state": s, "try_number": 1} for n, s in run.tasks.items()]
            return self.say({"task_instances": tasks})
        if rest[2] == "logs" and self.server.mute:
            return self.say({"detail": "gone"}, 503)
        if rest[2] == "logs" and self.headers["Accept"] == "text/plain":
            return self.answer(200, run.log.encode(), {"Content-Type": "text/plain"})
        if rest[2] == "logs":
            lines = ["::group::Pre Execute", *run.log.splitlines()]
            return self.say({"content": [{"event": line, "level": "info"} for line in lines]})
        if self.server.mute:
            return self.say({"detail": "gone"}, 503)
        if rest[1] not in run.results:
            return self.say({"detail": "XCom entry not found"}, 404)
        self.say({"value": json.dumps(run.results[rest[1]])})

    def say(self, document: object, status: int = 200) -> None:
        """One JSON document."""
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
