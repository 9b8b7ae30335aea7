"""A server that speaks as much of OSV's interface as audits ask, with few advisories."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def record(name, ecosystem, package, summary, fixed=None):
    """An advisory in OSV's form about every version before the mended one."""
    ends = [{"fixed": fixed}] if fixed else []
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *ends]}]
    affected = {"package": {"name": package, "ecosystem": ecosystem}, "ranges": ranges}
    return {
        "id": name,
        "modified": "2024-01-01T00:00:00Z",
        "summary": summary,
        "affected": [affected | {"versions": ["2.10"]}],
    }


JINJA = record("GHSA-462w-v97r-4m45", "PyPI", "jinja2", "sandbox escape", "2.10.1")
# What is known, by ecosystem, name and version.
KNOWN = {
    ("PyPI", "jinja2", "2.10"): [JINJA],
    ("Debian:12", "openssl", "3.0.1-2"): [
        record("DSA-1", "Debian:12", "openssl", "overflow", "3.0.2-1"),
        record("DEBIAN-CVE-1", "Debian:12", "openssl", ""),
    ],
    ("Debian:12", "glibc", "2.36-9"): [record("DEBIAN-CVE-2", "Debian:12", "glibc", "")],
}


class Advisories(BaseHTTPRequestHandler):
    """Answers from :data:`KNOWN`, one record a page."""

    def do_POST(self):  # noqa: N802
        """One question in full, or the names of what there is for many."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/querybatch":
            names = [[{"id": r["id"]} for r in self.records(q)] for q in asked["queries"]]
            self.answer({"results": [{"vulns": found} if found else {} for found in names]})
        else:
            page = int(asked.get("page_token") or 0)
            records = self.records(asked)
            more = {"next_page_token": str(page + 1)} if page + 1 < len(records) else {}
            self.answer({"vulns": [records[page]]} | more if records else {})

    @staticmethod
    def records(question):
        """What is known about one package in one version."""
        about = question["package"]
        return KNOWN.get((about["ecosystem"], about["name"].lower(), question["version"]), [])

    def answer(self, document):
        """Send it."""
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """The URL of its queries, for the time of a ``with`` block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
