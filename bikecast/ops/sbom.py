"""What is in an image: its Python distributions and Debian packages, as a CycloneDX document."""

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from bikecast.errors import Unavailable

# Runs in the image, on whatever Python it has: standard library only.
LISTING = r"""
import json, platform, re
from importlib.metadata import distributions
from pathlib import Path

def licence(meta):
    classes = [c for c in meta.get_all("Classifier") or () if c.startswith("License ::")]
    named = meta["License-Expression"] or meta["License"] or ""
    return named if 0 < len(named) < 60 else " AND ".join(c.split(" :: ")[-1] for c in classes)

def text(path):
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""

blocks = [b for b in text("/var/lib/dpkg/status").split("\n\n") if " installed\n" in b]
debs = [dict(re.findall(r"^(\w+): (.*)$", block, re.M)) for block in blocks]
system = dict(re.findall(r'^(\w+)="?([^"\n]*)', text("/etc/os-release"), re.M))
rows = [["generic", "python", platform.python_version(), "PSF-2.0"]]
rows += [["pypi", d.metadata["Name"], d.version, licence(d.metadata)] for d in distributions()]
for d in debs:
    source = d.get("Source", "").replace(" (", "@").rstrip(")")
    rows += [["deb", d["Package"], d["Version"], "", d["Architecture"], source]]
print(json.dumps({"distribution": f"{system.get('ID')}-{system.get('VERSION_ID')}", "rows": rows}))
"""


@dataclass(frozen=True)
class Package:
    """Something installed.

    :param kind: ``pypi``, ``deb``, or ``generic`` for what came from neither.
    :param licence: an SPDX expression or a name; empty where it is not known.
    :param architecture: of a Debian package, such as ``amd64``.
    :param distribution: where a Debian package is from, such as ``debian-12``.
    :param source: what a Debian package is built from, such as ``openssl`` or ``openssl@3.0.1-2``;
        advisories are about that. Empty where it is called like the package.
    """

    kind: str
    name: str
    version: str
    licence: str = ""
    architecture: str = ""
    distribution: str = ""
    source: str = ""


def listing_argv(image: str) -> list[str]:
    """List what an image holds; :data:`LISTING` goes to standard input, and starts no service."""
    return [
        *("docker", "run", "--rm", "--interactive", "--network", "none", "--read-only"),
        *("--entrypoint", "python3", image, "-"),
    ]


def read_listing(printed: str) -> list[Package]:
    """The packages in what :func:`listing_argv` printed, sorted, each once.

    :raises Unavailable: where the image printed something else.
    """
    try:
        found = json.loads(printed)
        distribution = str(found["distribution"])
        rows = {tuple(map(str, row)) for row in found["rows"]}
        return [_package(*row, distribution=distribution) for row in sorted(rows)]
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            "the image did not list what it holds", hint="does it have a Python?"
        ) from error


def _package(
    kind: str,
    name: str,
    version: str,
    licence: str,
    machine: str = "",
    source: str = "",
    *,
    distribution: str,
) -> Package:
    at = distribution if kind == "deb" else ""
    return Package(kind, name, version, licence, machine, at, source)


def document(
    packages: list[Package], repository: str, version: str, commit: str, created: datetime
) -> str:
    """The CycloneDX 1.6 document of an image; the same for the same arguments.

    :param version: of bikecast.
    :param commit: what the image was built from, at the time ``created``.
    """
    components = [_component(package) for package in packages]
    bom = Bom(
        components=components,
        serial_number=uuid5(NAMESPACE_URL, f"{repository}@{commit}"),
    )
    bom.metadata.timestamp = created
    bom.metadata.component = Component(
        name=repository,
        type=ComponentType.CONTAINER,
        version=f"{version}+{commit}",
        bom_ref="image",
    )
    bom.register_dependency(bom.metadata.component, components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _component(package: Package) -> Component:
    known = {
        "arch": package.architecture,
        "distro": package.distribution,
        "upstream": package.source,
    }
    purl = PackageURL(
        type=package.kind,
        namespace=package.distribution.partition("-")[0] or None,
        name=package.name,
        version=package.version,
        qualifiers={key: value for key, value in known.items() if value},
    )
    licences = [LicenseFactory().make_from_string(package.licence)] if package.licence else []
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.APPLICATION if package.kind == "generic" else ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=licences,
    )
