"""Is the service in this container well? Docker asks every ten seconds: stdlib, and little of it.

Exit code 0 and one line where GET /health answers 200 at BIKECAST_BIND (host:port or unix:/path),
exit code 1 and one line of why where it does not.
"""

import os
import socket
import sys

TIMEOUT = 3.0  # seconds for each step; Docker itself gives up after 5
REQUEST = b"GET /health HTTP/1.0\r\nHost: localhost\r\nUser-Agent: healthcheck\r\n\r\n"
# Where a service listens on all addresses, it is asked on the loopback one.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # nosec B104  # compared with


def connect(bind: str) -> socket.socket:
    """A connection to what listens on ``host:port`` or ``unix:/path``."""
    if bind.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        connection.connect(bind.removeprefix("unix:"))
        return connection
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    return socket.create_connection((LOOPBACK.get(host, host), int(port)), TIMEOUT)


def ask(bind: str) -> str:
    """The status line that GET /health is answered with."""
    with connect(bind) as connection:
        connection.sendall(REQUEST)
        answer = b""
        while b"\n" not in answer and (more := connection.recv(4096)):
            answer += more
    return answer.partition(b"\r\n")[0].decode("latin-1")


def main() -> int:
    """Ask, and say in one line what came of it."""
    bind = os.environ.get("BIKECAST_BIND", "127.0.0.1:8000")
    try:
        status = ask(bind)
    except (OSError, ValueError) as error:
        print(f"GET /health on {bind}: {error}")
        return 1
    print(f"GET /health on {bind}: {status or 'closed without an answer'}")
    return 0 if status.split(" ")[1:2] == ["200"] else 1


if __name__ == "__main__":
    sys.exit(main())
