"""The pages for people, in a real browser where there is one."""

import gzip
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from serving import service

from bikecast.serve.openapi import ASSETS, KINDS, OPERATIONS, refusals

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HERE = "http://127.0.0.1:8000/"


class References(HTMLParser):
    """Collects what a page loads or leads to, and scripts and styles that stand in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note its references."""
        given = dict(attrs)
        self.found += [value for name in ("src", "href") if (value := given.get(name))]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def test_the_page_refers_to_nobody_else(client: FlaskClient) -> None:
    """Each of its references is answered by the service, below whatever path it is served."""
    page = client.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    references = References()
    references.feed(page.text)
    assert references.inline == []
    led = [urljoin(HERE + "docs", found) for found in references.found if found != "data:,"]
    assert len(led) == 1 + len(ASSETS)
    for url in led:
        assert url.startswith(HERE) and client.get(url.removeprefix(HERE[:-1])).status_code == 200


def test_a_browser_may_run_what_the_service_sends_and_no_more(client: FlaskClient) -> None:
    """No inline script, nobody else's; on no other page anything at all."""
    policy = client.get("/docs").headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe-eval", policy)
    for path in ("/docs/docs.js", "/docs/x", "/problems/no-table", "/stations"):
        assert client.get(path).headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert "script-src" not in client.get(path).headers["Content-Security-Policy"]


def test_a_browser_that_has_a_file_is_not_sent_it_again(client: FlaskClient) -> None:
    """1.7 MB of them."""
    first = client.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["Content-Encoding"] == "gzip" and len(first.data) < 700_000
    again = client.get(
        "/docs/swagger-ui-bundle.js", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "docs.html", "oauth2-redirect.html"])
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    """Only those that the page needs."""
    assert client.get(f"/docs/{name}").status_code == 404


@pytest.mark.parametrize("slug", sorted(KINDS))
def test_the_type_of_a_problem_leads_somewhere(client: FlaskClient, slug: str) -> None:
    """To what it means, and which routes may have it."""
    found = client.get(f"/problems/{slug}").json
    assert found["type"] == f"/problems/{slug}" and found["title"] == KINDS[slug].title
    routes = {f"{o.method.upper()} {o.path}" for o in OPERATIONS if KINDS[slug] in refusals(o)}
    assert set(found["routes"]) == routes


@pytest.mark.integration
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_every_operation_and_complains_of_nothing(tmp_path: Path) -> None:
    """With the policy as it is; it can reach nobody but this machine."""
    assert BROWSER is not None
    with service() as (url, _):
        done = subprocess.run(
            [
                *(
                    BROWSER,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                ),
                *(f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0"),
                *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom"),
                *("--virtual-time-budget=20000", f"{url}/docs"),
            ],
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = re.findall(r'data-path="([^"]+)"', done.stdout)
    assert set(shown) == {operation.path for operation in OPERATIONS}


def test_what_a_page_loads_is_sent_compressed_to_who_takes_that(client: FlaskClient) -> None:
    """Swagger UI has over a megabyte; it is the same file, under the same tag."""
    plain = client.get("/docs/swagger-ui-bundle.js")
    small = client.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert gzip.decompress(small.data) == plain.data and len(small.data) < len(plain.data) / 3
    assert small.headers["ETag"] == plain.headers["ETag"]
    assert small.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    again = client.get(
        "/docs/swagger-ui-bundle.js", headers={"If-None-Match": small.headers["ETag"]}
    )
    assert again.status_code == 304 and not again.data


def test_a_problem_of_the_gate_names_its_routes(client: FlaskClient) -> None:
    """Those that need a key, and those that are counted."""
    assert "POST /predict" in client.get("/problems/key-required").json["routes"]
    assert "GET /health" not in client.get("/problems/too-many-requests").json["routes"]
