"""One keep-alive connection that believes nothing: HTTP/1.1 read by the letter, closes counted.

Of Python's library only, as it runs in a process of its own.
"""

import re
import select
import socket
import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) [^\r\n]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(;[^\r\n]*)?")


class Refused(Exception):
    """Nobody accepts a connection."""


class Closed(Exception):
    """The server closed, and had not announced it."""


class Malformed(Exception):
    """What came is not HTTP."""


class Response(NamedTuple):
    """A whole answer; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """Requests and answers in turn on one connection, which is made anew where it has ended.

    :param url: ``http://host:port`` or ``https://…``.
    :param timeout: seconds for a connection, and for a whole answer.
    """

    def __init__(self, url: str, timeout: float, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.timeout = timeout
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=ca_file)
        self._socket: socket.socket | None = None
        self._read = b""
        self._since = self._deadline = 0.0

    def ask(self, request: bytes) -> Response:
        """The answer to one request.

        :raises Refused: no connection.
        :raises Closed: the connection ended without a word.
        :raises Malformed: it is no answer.
        :raises TimeoutError: it did not come in time.
        """
        self._deadline = time.monotonic() + self.timeout
        try:
            self._connect().sendall(request)
            response, last = self._receive()
            if self._read:
                raise Malformed(f"{len(self._read)} bytes behind the answer")
        except (Closed, Malformed, TimeoutError):
            self.close()
            raise
        except OSError as error:
            self.close()
            raise Closed(f"{error} while sending") from error
        if last:
            self.close()
        self._since = time.monotonic()
        return response

    def rest(self, until: float) -> None:
        """Do nothing until a time of the monotonic clock, and look whether the server closes.

        :raises Closed: it did.
        :raises Malformed: it spoke without being asked.
        """
        while (left := until - time.monotonic()) > 0:
            if self._socket is None:
                time.sleep(left)
            elif select.select([self._socket], [], [], left)[0]:
                self._look()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def _connect(self) -> socket.socket:
        if self._socket is not None:
            self._look()
            return self._socket
        try:
            plain = socket.create_connection((self.host, self.port), timeout=self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = (
                self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
            )
        except OSError as error:
            raise Refused(str(error)) from error
        self._since = time.monotonic()
        return self._socket

    def _look(self) -> None:
        """Between two requests nothing may come, but for TLS's own words."""
        assert self._socket is not None
        self._socket.settimeout(0)
        try:
            came = self._socket.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(self.timeout)
            return
        except OSError as error:
            came, why = b"", str(error)
        else:
            why = "end of file"
        self.close()
        if came:
            raise Malformed(f"unasked: {came[:80]!r}")
        raise Closed(f"{why} between requests, after {time.monotonic() - self._since:.3f} s idle")

    def _receive(self) -> tuple[Response, bool]:
        """An answer, and whether it says that the connection ends."""
        match = self._match(_STATUS, self._line())
        headers: dict[str, str] = {}
        while line := self._line():
            name, value = (part.decode("latin-1") for part in self._match(_HEADER, line).groups())
            known = headers.get(name.lower())
            if known is not None and name.lower() == "content-length" and known != value:
                raise Malformed(f"two lengths: {known} and {value}")
            headers[name.lower()] = value if known is None else f"{known}, {value}"
        said = {word.strip().lower() for word in headers.get("connection", "").split(",")}
        last = "close" in said or (match[1] == b"0" and "keep-alive" not in said)
        status = int(match[2])
        body = b"" if status in (204, 304) or status < 200 else self._body(headers, last)
        return Response(status, headers, body), last

    def _body(self, headers: dict[str, str], last: bool) -> bytes:
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise Malformed(f"Transfer-Encoding: {coding}, Content-Length: {length}")
            return self._chunks()
        if length is not None:
            if not re.fullmatch("[0-9]{1,12}", length):
                raise Malformed(f"Content-Length: {length}")
            return self._take(int(length))
        if not last:
            raise Malformed("a body without a length on a connection that goes on")
        return self._all()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._match(_CHUNK, self._line())[1], 16):
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise Malformed("a chunk does not end where it says")
        while self._line():
            pass
        return body

    def _all(self) -> bytes:
        try:
            while True:
                self._more()
        except Closed:
            body, self._read = self._read, b""
            return body

    def _line(self) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > 65536:
                raise Malformed("a line without end")
            self._more()
        line, _, self._read = self._read.partition(b"\n")
        if not line.endswith(b"\r"):
            raise Malformed(f"a line without CR: {line[:80]!r}")
        return line[:-1]

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _more(self) -> None:
        assert self._socket is not None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self.timeout:g} s")
        self._socket.settimeout(left)
        try:
            came = self._socket.recv(65536)
        except TimeoutError:
            raise TimeoutError(f"no whole answer within {self.timeout:g} s") from None
        except OSError as error:
            raise Closed(f"{error} while waiting for the answer") from error
        if not came:
            raise Closed(f"end of file after {len(self._read)} unread bytes of the answer")
        self._read += came

    @staticmethod
    def _match(pattern: re.Pattern[bytes], line: bytes) -> re.Match[bytes]:
        if found := pattern.fullmatch(line):
            return found
        raise Malformed(f"unexpected {line[:80]!r}")
