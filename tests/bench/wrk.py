"""wrk, which asks a server on eight connections at once, and what it found."""

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

CONNECTIONS = 8
SECONDS = 8
AN_HOUR = 3600

SCRIPT = """
local bodies, n = {{{bodies}}}, 0
wrk.method, wrk.path = "POST", "{path}"
{headers}
function request()
  n = n % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
function delay() return {delay} end
function done(summary, latency)
  local bad = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format("FOUND %f %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(99) / 1000, latency.max / 1000, bad))
end
"""


@dataclass(frozen=True)
class Asked:
    """What wrk found.

    :param rate: requests per second; :param p99: ms; :param slowest: ms of one request.
    :param failed: answers that were no 2xx.
    """

    rate: float
    p99: float
    slowest: float
    failed: int


class Asking:
    """What goes on being asked; ``found`` is there when it ended."""

    found: Asked


@dataclass(frozen=True)
class Questions:
    """What a server is asked, in turn on each connection.

    :param url: where it listens.
    """

    url: str
    bodies: list[str]
    path: str = "/predict"
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, seconds: int = SECONDS, rate: float | None = None) -> Asked:
        """Let wrk ask for a while.

        :param rate: requests per second that all connections together aim at; None: as fast as
            it goes.
        """
        with self._started(seconds, rate) as process:
            return _found(process)

    @contextmanager
    def asking(self, rate: float) -> Iterator[Asking]:
        """Let wrk ask for as long as the ``with`` block takes."""
        with self._started(AN_HOUR, rate) as process:
            asking = Asking()
            yield asking
            process.send_signal(signal.SIGINT)
            asking.found = _found(process)

    @contextmanager
    def _started(self, seconds: int, rate: float | None) -> Iterator["subprocess.Popen[str]"]:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(self._script(0 if rate is None else round(CONNECTIONS / rate * 1000)))
            script.flush()
            words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
            with subprocess.Popen(
                [*words, "-s", script.name, self.url],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                try:
                    yield process
                finally:
                    process.kill()

    def _script(self, delay: int) -> str:
        sent = {"Content-Type": "application/json"} | self.headers
        headers = "\n".join(
            f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in sent.items()
        )
        bodies = ",".join(json.dumps(body) for body in self.bodies)
        return SCRIPT.format(bodies=bodies, path=self.path, headers=headers, delay=delay)

    def client(self, *, apart: bool = False) -> httpx.Client:
        """One that asks with the same headers.

        :param apart: each request on a connection of its own: any of the workers may answer.
        """
        limits = httpx.Limits(max_keepalive_connections=0 if apart else None)
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=30, limits=limits)


def _found(process: "subprocess.Popen[str]") -> Asked:
    said, _ = process.communicate()
    found = re.search(r"FOUND (\S+) (\S+) (\S+) (\d+)", said)
    assert found, said
    return Asked(float(found[1]), float(found[2]), float(found[3]), int(found[4]))
