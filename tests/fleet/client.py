"""Riders: keep-alive connections that ask at a fixed rate, from a process of their own."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LONGEST = 600.0  # seconds that a load may last


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    :param at: when it was sent, on the monotonic clock, which all processes share.
    :param seconds: until the last byte of the answer.
    :param kind: ``ok``, ``status`` (not 200), ``connect`` (nobody accepts), ``closed`` (without
        an announcement, between requests too), ``timeout`` or ``malformed``.
    :param field: the value of the JSON field that was asked for.
    :param header: the value of the header that was asked for.
    """

    url: str
    at: float
    seconds: float
    kind: str
    status: int
    field: str | None
    header: str | None
    text: str

    @property
    def ended(self) -> float:
        """When its last byte came, on the monotonic clock."""
        return self.at + self.seconds

    @property
    def release(self) -> str | None:
        """Who answered: the header where there is one, and else the field."""
        return self.field if self.header is None else self.header

    def __str__(self) -> str:
        status = f" {self.status}" if self.kind == "status" else ""
        return f"{self.url} at {self.at:.3f}: {self.kind}{status} {self.text}".rstrip()


class Load:
    """A load for the time of a ``with`` block.

    :param urls: as in ``http://10.199.7.11:8000``; each gets the whole rate.
    :param rate: requests per second.
    :param connections: per URL, each with one request at a time.
    :param field: dotted path in the answer's JSON that tells who answered.
    :param timeout: seconds for one answer.
    """

    def __init__(
        self,
        urls: Sequence[str],
        rate: float = 150,
        connections: int = 8,
        body: object = None,
        *,
        path: str = "/predict",
        field: str = "model.version",
        header: str = "X-Bikecast-Release",
        timeout: float = 10,
        ca_file: Path | None = None,
        longest: float = LONGEST,
    ) -> None:
        self._orders = {
            "urls": list(urls),
            "rate": rate,
            "connections": connections,
            "body": {"station_id": "a"} if body is None else body,
            "path": path,
            "field": field,
            "header": header,
            "timeout": timeout,
            "ca_file": str(ca_file) if ca_file else None,
            "longest": min(longest, LONGEST),
        }
        self._timeout = timeout
        self._answers: list[Answer] = []

    def __enter__(self) -> Self:
        worker = Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker), json.dumps(self._orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * self._timeout + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert self._process.returncode == 0, f"the load client ended: {self._process.returncode}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.append(Answer(*json.loads(line)))

    def answers(self, url: str | None = None, after: float = 0.0) -> list[Answer]:
        """All that were sent from a time on and have ended, in the order of their ends."""
        found = self._answers[:]
        return [a for a in found if a.at >= after and (url is None or a.url == url)]

    @property
    def failures(self) -> list[Answer]:
        """All that a rider would have noticed."""
        return [a for a in self.answers() if a.kind != "ok"]

    def counts(self, url: str | None = None, after: float = 0.0) -> Counter[str]:
        """How many of each kind; ``status`` is counted by number, as in ``status 503``."""
        return Counter(
            f"status {a.status}" if a.kind == "status" else a.kind for a in self.answers(url, after)
        )

    def releases(self, url: str | None = None, after: float = 0.0) -> Counter[str | None]:
        """How many good answers came from whom."""
        return Counter(a.release for a in self.answers(url, after) if a.kind == "ok")

    def first_answer_of(
        self, release: str, after: float = 0.0, url: str | None = None
    ) -> Answer | None:
        """The first good answer of a release to a request that was sent from a time on."""
        found = (a for a in self.answers(url, after) if a.kind == "ok" and a.release == release)
        return min(found, key=lambda a: a.ended, default=None)

    def latency(
        self, share: float, url: str | None = None, after: float = 0.0, before: float = float("inf")
    ) -> float:
        """Seconds within which a share of the good answers came; 0.5, 0.95 and 0.99 are usual.

        :raises ValueError: where there was none.
        """
        good = sorted(
            a.seconds for a in self.answers(url, after) if a.kind == "ok" and a.at < before
        )
        if not good:
            raise ValueError("no good answer")
        return good[min(int(share * len(good)), len(good) - 1)]
