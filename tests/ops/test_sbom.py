"""The list of what an image holds, as CycloneDX."""

import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime

import pytest

from bikecast.errors import Unavailable
from bikecast.ops.sbom import LISTING, Package, document, listing_argv, read_listing

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
PACKAGES = [
    Package("deb", "libc6", "2.36-9", "", "amd64", "debian-12"),
    Package("deb", "libssl3", "3.0.19-1~deb12u2", "", "amd64", "debian-12", "openssl"),
    Package("generic", "python", "3.11.9", "PSF-2.0"),
    Package("pypi", "Flask", "3.1.3", "BSD-3-Clause"),
    Package("pypi", "both", "1.0", "MIT OR Apache-2.0"),
    Package("pypi", "named", "1.0", "BSD License"),
    Package("pypi", "unknown", "1.0"),
]


def made(packages=PACKAGES):
    """The document, parsed; the library has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return json.loads(document(packages, "r.io/b", "1.2", "c0ffee", WHEN))


def test_every_package_is_there_with_its_purl():
    """By which scanners find advisories."""
    purls = {c["name"]: c["purl"] for c in made()["components"]}
    assert purls["Flask"] == "pkg:pypi/flask@3.1.3"
    assert purls["libc6"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"
    assert purls["libssl3"].endswith("?arch=amd64&distro=debian-12&upstream=openssl")
    assert purls["python"] == "pkg:generic/python@3.11.9" and len(purls) == len(PACKAGES)


def test_licences_are_ids_expressions_or_names():
    """As far as each is known."""
    licences = {c["name"]: c.get("licenses") for c in made()["components"]}
    assert licences["Flask"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert licences["both"] == [{"expression": "MIT OR Apache-2.0"}]
    assert licences["named"] == [{"license": {"name": "BSD License"}}]
    assert licences["unknown"] is None


def test_the_document_says_which_image_it_is_of():
    """And is the same each time it is made."""
    found = made()
    assert found["bomFormat"] == "CycloneDX" and found["specVersion"] == "1.6"
    assert found["metadata"]["timestamp"] == "2026-03-01T12:00:00+00:00"
    about = found["metadata"]["component"]
    assert (about["name"], about["version"], about["type"]) == ("r.io/b", "1.2+c0ffee", "container")
    assert found == made() and found["serialNumber"].startswith("urn:uuid:")


def test_the_listing_runs_on_any_python():
    """Here too: what is installed is listed, each once."""
    done = subprocess.run([sys.executable, "-"], input=LISTING, capture_output=True, text=True)
    found = read_listing(done.stdout)
    assert len(found) == len(set(found))
    here = {p.name: p for p in found if p.kind == "pypi"}
    assert here["bikecast"].licence == "Apache-2.0" and "flask" in {n.lower() for n in here}
    assert made(found)["components"]


def test_a_debian_package_names_what_it_is_built_from():
    """With its version where that is another."""
    row = ["deb", "libc-bin", "2.36-9+b1", "", "amd64", "glibc@2.36-9"]
    printed = json.dumps({"distribution": "debian-12", "rows": [row]})
    (package,) = read_listing(printed)
    assert (package.distribution, package.source) == ("debian-12", "glibc@2.36-9")


@pytest.mark.parametrize("printed", ["", "[]", '{"rows": [[1]], "distribution": ""}', "{}"])
def test_an_image_that_lists_nothing_is_an_error(printed):
    """In one line."""
    with pytest.raises(Unavailable, match="did not list what it holds"):
        read_listing(printed)


def test_the_image_is_listed_without_a_network_or_its_service():
    """It is not trusted to be ours."""
    assert listing_argv("r.io/b:1") == [
        *("docker", "run", "--rm", "--interactive", "--network", "none", "--read-only"),
        *("--entrypoint", "python3", "r.io/b:1", "-"),
    ]
