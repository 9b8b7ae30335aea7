"""The command lines that README.md shows, as they stand."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def readme_blocks() -> list[list[str]]:
    """The lines of each shell block, in order; a line that ends with a backslash goes on."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    return [
        [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        for block in blocks
    ]


def readme_lines(prefix: str = "") -> list[str]:
    """All lines, or those of one program: ``readme_lines("inv")``."""
    lines = [line for block in readme_blocks() for line in block]
    return [line for line in lines if not prefix or line.split()[0] == prefix]
