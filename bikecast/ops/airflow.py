"""Airflow over its REST API: start a run of a DAG, look at it, read what its tasks returned.

``v2`` is Airflow 3, with a token that is renewed where it expires; ``v1`` is Airflow 2, with basic
authentication.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from bikecast.errors import BikecastError, Unavailable
from bikecast.ops.environment import Airflow as Settings

JSON = "application/json"
TIMEOUT = 20.0  # seconds, for each answer


@dataclass(frozen=True)
class Task:
    """A task of a run: its state in Airflow's words, and at which try it is."""

    name: str
    state: str
    tries: int


def airflow_client(show: Callable[[str], None] = lambda line: None) -> httpx.Client:
    """A client that gives every call a limit of time, and follows nobody elsewhere with a password.

    :param show: told each request, without what may be secret of it: headers and bodies.
    """
    tell = {"request": [lambda request: show(f"{request.method} {request.url}")]}
    return httpx.Client(timeout=TIMEOUT, event_hooks=tell)


class Airflow:
    """One DAG of an Airflow.

    Each method raises :class:`Unavailable` where Airflow does not answer, which may pass, and
    :class:`BikecastError` where it answers no.
    """

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self._settings = settings
        self._client = client
        self._url = settings.url.rstrip("/")
        self._ticket = ""

    def page(self, run: str) -> str:
        """Where people look at a run."""
        if self._settings.api == "v1":
            return f"{self._url}/dags/{self._settings.dag}/grid?dag_run_id={quote(run, safe='')}"
        return f"{self._url}/dags/{self._settings.dag}/runs/{quote(run, safe='')}"

    def check(self) -> None:
        """See that a run could begin: the DAG is there, whole, and not paused."""
        found = self._ask("GET", "")
        if found.get("has_import_errors"):
            raise self._no("cannot be read by Airflow", "its page in Airflow says why")
        if found.get("is_paused"):
            raise self._no("is paused, so no run of it would begin", "unpause it in Airflow")

    def start(self, run: str, note: str) -> None:
        """Start a run under a name of our own.

        :param note: what Airflow shows beside it.
        """
        body: dict[str, Any] = {"dag_run_id": run, "conf": {}, "note": note}
        if self._settings.api == "v2":
            body["logical_date"] = None
        self._ask("POST", "/dagRuns", body)

    def state(self, run: str) -> str:
        """Queued, running, success or failed."""
        return str(self._ask("GET", f"/dagRuns/{quote(run, safe='')}")["state"])

    def others(self, run: str) -> list[str]:
        """Runs of the same DAG that go on, and that ours may have to wait for."""
        found = self._ask("GET", "/dagRuns?state=running")["dag_runs"]
        return [each["dag_run_id"] for each in found if each["dag_run_id"] != run]

    def tasks(self, run: str) -> list[Task]:
        """The tasks of a run."""
        found = self._ask("GET", f"/dagRuns/{quote(run, safe='')}/taskInstances")["task_instances"]
        return [Task(t["task_id"], t["state"] or "waiting", t["try_number"] or 0) for t in found]

    def log(self, run: str, task: Task) -> list[str]:
        """The lines of the log of a task's last try."""
        place = f"/dagRuns/{quote(run, safe='')}/taskInstances/{quote(task.name, safe='')}"
        place = f"{place}/logs/{task.tries}?full_content=true"
        if self._settings.api == "v1":
            return str(self._ask("GET", place, accept="text/plain")["content"]).splitlines()
        return [line for entry in self._ask("GET", place)["content"] for line in _told(entry)]

    def result(self, run: str, task: str) -> dict[str, Any]:
        """The JSON document that a task of a run returned."""
        place = f"/dagRuns/{quote(run, safe='')}/taskInstances/{quote(task, safe='')}"
        value = self._ask("GET", f"{place}/xcomEntries/return_value")["value"]
        try:
            found = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._no(f"returned no JSON document from {task}", f"look at {self.page(run)}")
        return found

    def _no(self, what: str, hint: str) -> BikecastError:
        return BikecastError(f"the DAG {self._settings.dag} of {self._url} {what}", hint=hint)

    def _ask(
        self, method: str, place: str, body: dict[str, Any] | None = None, accept: str = JSON
    ) -> dict[str, Any]:
        url = f"{self._url}/api/{self._settings.api}/dags/{quote(self._settings.dag)}{place}"
        answer = self._send(method, url, body, self._headers() | {"Accept": accept})
        if answer.status_code == 401 and self._settings.api == "v2":
            self._ticket = ""  # it has expired; a new one is as good as the password is
            answer = self._send(method, url, body, self._headers() | {"Accept": accept})
        return self._read(answer, method, place)

    def _headers(self) -> dict[str, str]:
        name, password = self._settings.username, self._settings.password.get_secret_value()
        if self._settings.api == "v1":
            basic = httpx.BasicAuth(name, password)
            request = next(basic.auth_flow(httpx.Request("GET", self._url)))
            return {"Authorization": request.headers["Authorization"]}
        if not self._ticket:
            login = {"username": name, "password": password}
            answer = self._send("POST", f"{self._url}/auth/token", login, {"Accept": JSON})
            self._ticket = str(self._read(answer, "POST", "/auth/token").get("access_token", ""))
        return {"Authorization": f"Bearer {self._ticket}"}

    def _send(
        self, method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> httpx.Response:
        try:
            return self._client.request(method, url, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise Unavailable(
                f"Airflow does not answer on {self._url}: {why}",
                hint="see that it runs, and that airflow.url of the environment is right",
            ) from error

    def _read(self, answer: httpx.Response, method: str, place: str) -> dict[str, Any]:
        """What Airflow says, or an error for what it does not do."""
        status, name = answer.status_code, self._settings.username
        if status == 401:
            raise BikecastError(
                f"Airflow on {self._url} refuses the login of {name!r}",
                hint="see to airflow.username and airflow.password of the environment",
            )
        if status == 403:
            raise BikecastError(
                f"Airflow on {self._url} does not let {name!r} {method} the runs of its DAG "
                f"{self._settings.dag}",
                hint="give that user the role Op in Airflow",
            )
        if status == 404 and not place:
            raise self._no("does not exist", "see to airflow.dag and airflow.api")
        if status >= 500 or status == 429:
            raise Unavailable(
                f"Airflow on {self._url} answers {status} to {method} {place}",
                hint="its own log says why",
            )
        if answer.is_success and answer.headers.get("Content-Type", "").startswith("text/plain"):
            return {"content": answer.text}
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not answer.is_success or not isinstance(found, dict):
            said = f": {found['detail']}" if isinstance(found, dict) and "detail" in found else ""
            raise BikecastError(
                f"Airflow on {self._url} answers {status} to {method} {place}{said[:300]}",
                hint="see that airflow.url and airflow.api of the environment are right",
            )
        return found


def _told(entry: Any) -> list[str]:
    """A line of a log of Airflow 3, without the frame that Airflow puts around what a task says."""
    text = entry.get("event", "") if isinstance(entry, dict) else str(entry)
    return [] if text.startswith(("::group::", "::endgroup::")) else str(text).splitlines()
