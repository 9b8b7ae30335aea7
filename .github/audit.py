"""Hold lock files against OSV by pip-audit, every line of them: `nox -s security`.

pip-audit silently leaves out a line whose marker does not hold where it runs, so what only Windows
or another Python installs would never be audited. It gets copies without markers. The exit code is
1 where something is known against a pin, or a pin was not looked at.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

STRICTLY = ("--strict", "--require-hashes", "--disable-pip", "-s", "osv")


def copies(text: str) -> list[list[str]]:
    """The lines of a lock file without markers and comments, in as many copies as it takes.

    pip-audit refuses a second version of a package in one file: that goes into the next.
    """
    found: list[dict[str, str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            bare = " --hash=".join([requirement.partition(";")[0].strip(), *map(str.strip, hashes)])
            name = re.split("[=<>~!@ ]", bare)[0]
            free = next((copy for copy in found if name not in copy), None)
            if free is None:
                found.append(free := {})
            free[name] = bare
    return [list(copy.values()) for copy in found]


def audit(lines: list[str], url: str | None) -> tuple[int, list[str]]:
    """How many pins pip-audit looked at, and what is known against them."""
    with TemporaryDirectory() as folder:
        lock, report = Path(folder, "lock.txt"), Path(folder, "report.json")
        lock.write_text("\n".join([*lines, ""]))
        words = [*STRICTLY, "-f", "json", "-o", str(report), "-r", str(lock)]
        asked = ["--osv-url", url] if url else []
        # Our own interpreter, and words from the command line of a developer.
        subprocess.run([sys.executable, "-m", "pip_audit", *words, *asked])  # nosec B603
        # Without a report it has said what is wrong, and nothing was looked at.
        known = json.loads(report.read_text())["dependencies"] if report.exists() else []
    return len(known), [
        f"{each['name']} {each['version']}: {', '.join([of['id'], *of['aliases']])}, mended in "
        f"{', '.join(of['fix_versions']) or 'no version yet'}"
        for each in known
        for of in each["vulns"]
    ]


def main() -> int:
    """Audit each file, to the last."""
    parser = argparse.ArgumentParser(prog="audit", description=__doc__)
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--osv-url", help="of OSV's queries")
    given = parser.parse_args()
    fine = True
    for path in given.locks:
        parts = copies(path.read_text())
        results = [audit(lines, given.osv_url) for lines in parts]
        pins, looked_at = sum(map(len, parts)), sum(count for count, _ in results)
        known = [line for _, lines in results for line in lines]
        fine = fine and 0 < pins == looked_at and not known
        print(f"{path}: {looked_at} of {pins} pins audited, {len(known)} advisories", flush=True)
        for line in known:
            print(f"  {line}", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
