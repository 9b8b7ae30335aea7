"""What is known against the packages in images: their lists (CycloneDX) held against OSV.

Python's packages are asked for in PyPI, Debian's in their release, by the source that they are
built from. Debian lists what it has not mended yet as well: that is told, and fails nothing,
because no newer image would be without it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from packageurl import PackageURL

from bikecast.errors import BikecastError, InputError, Refused, Unavailable

OSV = "https://api.osv.dev/v1/query"
TIMEOUT = 30.0  # seconds for each answer
MOST = 1000  # questions that OSV takes at once
PYTHON = "PyPI"


@dataclass(frozen=True, order=True)
class Part:
    """Something that advisories may be about.

    :param ecosystem: OSV's word for where it is from, such as ``PyPI`` or ``Debian:12``.
    """

    ecosystem: str
    name: str
    version: str

    def question(self) -> dict[str, Any]:
        """How OSV is asked for it."""
        about = {"ecosystem": self.ecosystem, "name": self.name}
        return {"package": about, "version": self.version}


@dataclass(frozen=True)
class Advisory:
    """Something known against a part.

    :param mended: the versions that are without it, oldest first; empty where there is none yet.
    """

    part: Part
    name: str
    summary: str
    mended: tuple[str, ...]

    @property
    def actionable(self) -> bool:
        """Is there something to be done about it, be it to take the package out?"""
        return bool(self.mended) or self.part.ecosystem == PYTHON

    def __str__(self) -> str:
        """One line."""
        mended = f"mended in {', '.join(self.mended)}" if self.mended else "not mended yet"
        told = f"{self.part.name} {self.part.version} ({self.part.ecosystem}): {self.name}"
        return f"{told}, {mended}{self.summary and ': '}{self.summary}"


def part(purl: str) -> Part | None:
    """What OSV knows a package as; nothing for what has no advisories there.

    >>> part("pkg:deb/debian/libssl3@3.0.1-2?distro=debian-12&upstream=openssl")
    Part(ecosystem='Debian:12', name='openssl', version='3.0.1-2')
    """
    found = PackageURL.from_string(purl)
    if found.type == "pypi":
        return Part(PYTHON, found.name, found.version or "")
    assert isinstance(found.qualifiers, dict)
    system, _, release = found.qualifiers.get("distro", "").partition("-")
    if found.type != "deb" or system != "debian":
        return None
    name, _, version = found.qualifiers.get("upstream", found.name).partition("@")
    return Part(f"Debian:{release}", name, version or found.version or "")


def parts(document: str) -> tuple[list[Part], list[str]]:
    """What is to be asked for a CycloneDX document, and the purls for which nobody can be asked.

    :raises InputError: where it lists no package, or is no such document.
    """
    try:
        purls = [component["purl"] for component in json.loads(document)["components"]]
        known = {purl: part(purl) for purl in purls}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("this is no list of an image", hint="make one with `inv build`") from error
    found = sorted({asked for asked in known.values() if asked})
    if not found:
        raise InputError("this lists no package that has advisories", hint="`inv build` makes one")
    return found, [purl for purl, asked in known.items() if not asked]


def advisories(asked: Part, records: Sequence[dict[str, Any]]) -> list[Advisory]:
    """OSV's records about a part, in short."""
    return [
        Advisory(asked, record["id"], record.get("summary", ""), _mended(asked, record))
        for record in records
        if "withdrawn" not in record
    ]


def _mended(asked: Part, record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        event["fixed"]
        for affected in record.get("affected", ())
        if affected.get("package", {}).get("ecosystem") == asked.ecosystem
        and affected["package"]["name"].lower() == asked.name.lower()
        for span in affected.get("ranges", ())
        if span["type"] != "GIT"
        for event in span["events"]
        if "fixed" in event
    )


def look_up(asked: Sequence[Part], client: httpx.Client, url: str = OSV) -> list[Advisory]:
    """All that OSV has against these parts.

    :param url: of OSV's queries; those for many parts go to the same with ``batch`` behind it.
    :raises Unavailable: where it does not answer, or not for each part.
    """
    try:
        starts = range(0, len(asked), MOST)
        hits = [hit for i in starts for hit in _hits(asked[i : i + MOST], client, url)]
        return [a for hit in hits for a in advisories(hit, list(_records(hit, client, url)))]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(
            f"{url} gave no advisories: {error or type(error).__name__}",
            hint="nothing was audited: try again where it can be reached",
        ) from error


def _hits(asked: Sequence[Part], client: httpx.Client, url: str) -> list[Part]:
    questions = {"queries": [each.question() for each in asked]}
    results = client.post(f"{url}batch", json=questions).raise_for_status().json()["results"]
    # A page may hold nothing but the way to the next one.
    pages = {"vulns", "next_page_token"}
    return [each for each, found in zip(asked, results, strict=True) if pages & found.keys()]


def _records(asked: Part, client: httpx.Client, url: str) -> Iterator[dict[str, Any]]:
    question = asked.question()
    while True:
        answer = client.post(url, json=question).raise_for_status().json()
        if not (token := answer.get("next_page_token")):
            # What was announced must be there in the end, or the answer is none.
            yield from answer["vulns"]
            return
        yield from answer.get("vulns", ())
        question["page_token"] = token


def audit(path: Path, client: httpx.Client, url: str) -> list[Advisory]:
    """Print what is known against an image, and what nobody was asked for.

    :returns: what can be done something about.
    :raises InputError: where the file is no list of an image.
    """
    try:
        asked, unasked = parts(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path}: {error}", hint="`inv build` makes it anew") from error
    found = look_up(asked, client, url)
    print(f"{path}: {len(asked)} packages audited, {len(found)} advisories")
    for line in [*map(str, found), *(f"no advisories are kept for {purl}" for purl in unasked)]:
        print(f"  {line}")
    return [advisory for advisory in found if advisory.actionable]


def main(words: Sequence[str]) -> int:
    """Audit lists of images; exit code 1 where there is something to be done."""
    parser = argparse.ArgumentParser(prog="audit_images", description=__doc__)
    parser.add_argument("lists", nargs="+", type=Path, help="such as build/sbom-api.cdx.json")
    parser.add_argument("--osv-url", default=OSV, help="of OSV's queries")
    given = parser.parse_args(words)
    try:
        with httpx.Client(timeout=TIMEOUT) as client:
            found = [a for path in given.lists for a in audit(path, client, given.osv_url)]
        if found:
            raise Refused(
                f"{len(found)} advisories can be acted on, the first: {found[0]}",
                hint="`nox -s lock -- --upgrade`, or build on a newer base image",
            )
    except BikecastError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
