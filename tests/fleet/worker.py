"""The process of the load client: asks at a fixed rate, writes one JSON line per answer.

It gets its orders as one JSON document in its only argument, and ends when its standard input
does, or after the longest time it may run.
"""

import json
import select
import sys
import threading
import time
from typing import Any

from exchange import Closed, Exchange, Malformed, Refused

KINDS = {Refused: "connect", Closed: "closed", Malformed: "malformed", TimeoutError: "timeout"}
FLUSH = 0.05  # seconds between two writes
AT_LAST = 0.1  # seconds in which a server may still close behind the last answer


class Asker:
    """One connection's part of the load."""

    def __init__(self, orders: dict[str, Any], url: str, out: list[Any]) -> None:
        self.orders, self.url, self.out = orders, url, out
        self.exchange = Exchange(url, orders["timeout"], orders["ca_file"])
        body = json.dumps(orders["body"]).encode()
        head = (
            f"POST {orders['path']} HTTP/1.1\r\nHost: {self.exchange.host}:{self.exchange.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body

    def run(self, first: float, interval: float, stop: threading.Event) -> None:
        """Ask every ``interval`` seconds; a time that an answer took too long for is left out."""
        due = first
        while not stop.is_set():
            self._rest(due)
            if not stop.is_set():
                self.out.append(self._ask())
            due += interval * max(1, -((due - time.monotonic()) // interval))
        self._rest(time.monotonic() + AT_LAST)
        self.exchange.close()

    def _rest(self, until: float) -> None:
        try:
            self.exchange.rest(until)
        except (Closed, Malformed) as error:
            self.out.append(self._failed(time.monotonic(), 0.0, error))
            self._rest(until)

    def _ask(self) -> list[Any]:
        begun = time.monotonic()
        try:
            answer = self.exchange.ask(self.request)
        except tuple(KINDS) as error:
            return self._failed(begun, time.monotonic() - begun, error)
        took = time.monotonic() - begun
        header = answer.headers.get(self.orders["header"].lower())
        kind, value, text = self._judge(answer.status, answer.body)
        return [self.url, begun, took, kind, answer.status, value, header, text]

    def _failed(self, begun: float, took: float, error: Exception) -> list[Any]:
        return [self.url, begun, took, KINDS[type(error)], 0, None, None, str(error)]

    def _judge(self, status: int, body: bytes) -> tuple[str, str | None, str]:
        if status != 200:
            return "status", None, body[:200].decode(errors="replace")
        try:
            value = json.loads(body)
            for name in self.orders["field"].split("."):
                value = value.get(name) if isinstance(value, dict) else None
        except ValueError as error:
            return "malformed", None, f"{error}: {body[:80]!r}"
        return "ok", None if value is None else str(value), ""


def main() -> None:
    """Ask until told to stop."""
    orders = json.loads(sys.argv[1])
    out: list[Any] = []
    stop = threading.Event()
    interval = orders["connections"] / orders["rate"]
    begin = time.monotonic() + 0.05
    threads = [
        threading.Thread(
            target=Asker(orders, url, out).run,
            args=(begin + (n + k / len(orders["urls"])) / orders["rate"], interval, stop),
        )
        for k, url in enumerate(orders["urls"])
        for n in range(orders["connections"])
    ]
    for thread in threads:
        thread.start()
    deadline = begin + orders["longest"]
    while time.monotonic() < deadline and not select.select([sys.stdin], [], [], FLUSH)[0]:
        write(out)
    stop.set()
    for thread in threads:
        thread.join()
    write(out)


def write(out: list[Any]) -> None:
    """Hand over what there is, in whole lines."""
    ready, out[:] = out[:], out[len(out) :]
    if ready:
        sys.stdout.write("".join(json.dumps(line) + "\n" for line in ready))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
