"""A webhook like Slack's on this machine, which misbehaves as it is told to."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Slack:
    """Answers one status after the other, then 200.

    :ivar slow: seconds that it takes for each answer.
    :ivar drips: instead of an answer, one byte of it every so many seconds, without an end.
    :ivar got: the messages, as they come.
    :ivar answered: how many of them it has answered.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.slow = 0.0
        self.drips = 0.0
        self.got: list[dict] = []
        self.answered = 0
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                slack.got.append(json.loads(body))
                if slack.drips:
                    slack.drip(self)
                    return
                time.sleep(slack.slow)
                self.send_response(slack.statuses.pop(0) if slack.statuses else 200)
                self.end_headers()
                slack.answered += 1

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T/B/geheim"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def drip(self, to: BaseHTTPRequestHandler) -> None:
        """Never end a header."""
        with suppress(OSError):
            to.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while self.drips:
                to.wfile.write(b"x")
                time.sleep(self.drips)

    def end(self) -> None:
        """Stop; what drips ends too."""
        self.drips = 0.0
        self.server.shutdown()
        self.server.server_close()
