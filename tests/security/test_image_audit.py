"""Images are held against advisories by their lists, and an audit of nothing is a failure."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from osv import JINJA as KNOWN

from bikecast.errors import InputError, Unavailable
from bikecast.ops.advisories import Part, advisories as read, look_up, main, parts
from bikecast.ops.sbom import Package, document

JINJA = Package("pypi", "Jinja2", "2.10")
MENDED = Package("pypi", "Jinja2", "3.1.6")
SSL = Package("deb", "libssl3", "3.0.1-2", "", "amd64", "debian-12", "openssl")
LIBC = Package("deb", "libc-bin", "2.36-9+b1", "", "amd64", "debian-12", "glibc@2.36-9")
PYTHON = Package("generic", "python", "3.11.9")
NOBODY = "http://127.0.0.1:9/v1/query"


def listed(*packages):
    """The list of an image that holds these."""
    return document(list(packages), "r.io/b", "1", "c0ffee", datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def audit(tmp_path, capsys):
    """Audit an image that holds these packages; exit code, what is printed, what is said."""

    def run(url, *packages):
        path = tmp_path / "sbom-api.cdx.json"
        path.write_text(listed(*packages))
        code = main([str(path), "--osv-url", url])
        return code, *capsys.readouterr()

    return run


def test_packages_are_asked_for_as_osv_knows_them():
    """Debian's by what they are built from; what nobody can be asked for is named."""
    asked, unasked = parts(listed(JINJA, SSL, LIBC, PYTHON))
    assert asked == [
        Part("Debian:12", "glibc", "2.36-9"),
        Part("Debian:12", "openssl", "3.0.1-2"),
        Part("PyPI", "jinja2", "2.10"),
    ]
    assert unasked == ["pkg:generic/python@3.11.9"]


def test_a_vulnerable_package_fails_by_name_and_advisory(audit, advisories):
    """With the version that is without it."""
    code, out, err = audit(advisories, JINJA, PYTHON)
    assert code == 1 and "jinja2 2.10 (PyPI): GHSA-462w-v97r-4m45, mended in 2.10.1" in out
    assert err.startswith("error: 1 advisories can be acted on") and err.count("\n") == 1
    assert "no advisories are kept for pkg:generic/python@3.11.9" in out


def test_what_debian_has_mended_fails_and_what_it_has_not_is_told(audit, advisories):
    """No newer image would be without the second; both pages of an answer are read."""
    code, out, err = audit(advisories, SSL, LIBC)
    assert code == 1 and "DSA-1, mended in 3.0.2-1: overflow" in out
    assert "DEBIAN-CVE-1, not mended yet" in out and "1 advisories can be acted on" in err
    code, out, err = audit(advisories, LIBC, MENDED)
    assert code == 0 and err == "" and "2 packages audited, 1 advisories" in out


def test_an_audit_of_nothing_fails(audit, advisories, tmp_path, capsys):
    """Nobody there, no package, no list, no file."""
    code, out, err = audit(NOBODY, MENDED)
    assert code == 3 and out == "" and "nothing was audited" in err
    assert audit(advisories, PYTHON)[0] == 2
    for text in ("", "[]", "{}", '{"components": [{"purl": 1}]}'):
        with pytest.raises(InputError, match="no list of an image|lists no package"):
            parts(text)
    assert main([str(tmp_path / "build" / "sbom-*.cdx.json")]) == 2
    assert "sbom-*.cdx.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"results": []}),
    ],
)
def test_an_answer_that_is_none_is_no_green_one(answer):
    """Also one that is shorter than the question."""
    client = httpx.Client(transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(Unavailable, match="nothing was audited"):
        look_up([Part("PyPI", "a", "1")], client)


def test_an_advisory_on_a_later_page_is_found():
    """The first page, and what stands for it among many, may hold only the way to the next."""

    def answer(request):
        asked = json.loads(request.content)
        if "queries" in asked:
            return httpx.Response(200, json={"results": [{"next_page_token": "2"}]})
        later = asked.get("page_token") == "2"
        return httpx.Response(200, json={"vulns": [KNOWN]} if later else {"next_page_token": "2"})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    (found,) = look_up([Part("PyPI", "jinja2", "2.10")], client)
    assert found.name == KNOWN["id"]


def test_many_packages_are_asked_for_in_several_questions():
    """OSV takes a thousand at once."""
    sizes = []

    def answer(request):
        sizes.append(len(json.loads(request.content)["queries"]))
        return httpx.Response(200, json={"results": [{}] * sizes[-1]})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    assert look_up([Part("PyPI", f"p{i}", "1") for i in range(1001)], client) == []
    assert sizes == [1000, 1]


def test_another_package_s_mending_is_not_ours():
    """A record may be about several, a withdrawn one about none."""
    about = {"name": "other", "ecosystem": "PyPI"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"fixed": "9"}]}]
    record = {"id": "X", "affected": [{"package": about, "ranges": ranges}]}
    (found,) = read(Part("PyPI", "a", "1"), [record, record | {"withdrawn": "2026-01-01"}])
    assert found.mended == () and found.actionable
