"""A download is whole or not there, from a real server that also misbehaves."""

import hashlib
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from bikecast.download import checksum_of, download, is_whole
from bikecast.errors import DownloadFailed
from bikecast.trips import TripClient

DATA = b"ride_id,started_at\n" * 5_000
IMPATIENT = httpx.Timeout(0.5)


class Server(BaseHTTPRequestHandler):
    """Serves by the path's first word; remembers what it was asked for."""

    def do_HEAD(self):
        """Publish two months only, one under the operator's misspelt name."""
        there = ("JC-202105-citibike-tripdata.csv.zip", "JC-202104-citbike-tripdata.csv.zip")
        self.send_response(200 if self.path.rsplit("/", 1)[-1] in there else 404)
        self.end_headers()

    def do_GET(self):
        """Behave as the path says."""
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]
        flaky_still = kind == "flaky" and len(self.server.asked) < 3
        if kind == "gone" or kind == "broken" or flaky_still:
            self.send_error(404 if kind == "gone" else 500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        if kind == "stalls":
            self.wfile.write(DATA[:100])
            self.wfile.flush()
            self.server.release.wait(10)
        elif kind == "cut":
            self.wfile.write(DATA[:100])
        else:
            self.wfile.write(DATA)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server():
    """A running server."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.asked, made.release = [], threading.Event()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    """Download a path of the server into a cache, without waiting between tries."""

    def do(path, progress=lambda *_: None):
        with httpx.Client() as http:
            url = f"http://127.0.0.1:{server.server_port}/{path}"
            return download(http, url, tmp_path, progress, timeout=IMPATIENT, pause=0)

    return do


def test_a_file_is_kept_with_its_checksum_and_not_fetched_again(fetch, server):
    """The second time nothing is asked of the server."""
    seen = []
    path = fetch("good/a.zip", lambda done, total, detail: seen.append((done, total)))
    assert path.read_bytes() == DATA and seen[-1] == (len(DATA), len(DATA))
    assert checksum_of(path).read_text() == hashlib.sha256(DATA).hexdigest()
    assert fetch("good/a.zip") == path and len(server.asked) == 1


def test_a_file_that_changed_on_disk_is_fetched_anew(fetch, server):
    """A checksum that does not agree is not trusted."""
    path = fetch("good/a.zip")
    path.write_bytes(b"half")
    assert not is_whole(path)
    assert fetch("good/a.zip").read_bytes() == DATA and len(server.asked) == 2


@pytest.mark.parametrize(
    ("path", "says", "tries"),
    [("gone/a", "404", 1), ("broken/a", "500", 3), ("stalls/a", "Timeout", 3), ("cut/a", "", 3)],
)
def test_a_failed_download_names_the_url_and_leaves_nothing(
    fetch, server, tmp_path, path, says, tries
):
    """What may pass is tried three times, a 404 once; no part of a file stays."""
    with pytest.raises(DownloadFailed, match=f"{path}.*{says}"):
        fetch(path)
    assert len(server.asked) == tries and list(tmp_path.iterdir()) == []


def test_a_server_that_recovers_is_enough(fetch, server):
    """Two failures and a success are a success."""
    assert fetch("flaky/a").read_bytes() == DATA and len(server.asked) == 3


def test_the_newest_months_are_found_by_asking(server, tmp_path):
    """Months come oldest first, under whichever name they were published."""
    base = f"http://127.0.0.1:{server.server_port}/good/"
    with httpx.Client() as http:
        client = TripClient(http, base, tmp_path)
        found = client.newest(date(2021, 7, 3), 2)
        names = [u.rsplit("/", 1)[-1] for u in found]
        assert names == [
            "JC-202104-citbike-tripdata.csv.zip",
            "JC-202105-citibike-tripdata.csv.zip",
        ]
        assert client.download(found[0], lambda *_: None).read_bytes() == DATA
        with pytest.raises(DownloadFailed, match="no trips of the last 12 months"):
            client.newest(date(2019, 1, 1), 2)


def test_a_network_that_is_not_there_is_said_so(tmp_path):
    """Nobody listens on port 9."""
    with httpx.Client() as http, pytest.raises(DownloadFailed, match="cannot be reached"):
        TripClient(http, "http://127.0.0.1:9", tmp_path).newest(date(2021, 7, 3), 2)
