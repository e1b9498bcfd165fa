"""What the release workflow asks first: `python .ci/release.py v1.2.0` prints what the changelog says of that version.

Exit code 1, with the reason, when the tag is not the version of the code, or when the changelog has no section for it.
"""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"


def main(tag: str, changelog: Path = CHANGELOG) -> None:
    """Print the release notes."""
    version = runpy.run_path(str(ROOT / "car_damage" / "__init__.py"))["__version__"]
    if tag != f"v{version}":
        sys.exit(f"the tag is {tag}, but car_damage.__version__ is {version}: correct one of them, and tag the commit as v{version}")
    notes = section(changelog.read_text(), version)
    if not notes:
        sys.exit(f"{changelog.name} says nothing of version {version}: give the section Unreleased the heading `## {version} - <date>`")
    sys.stdout.write(notes + "\n")


def section(changelog: str, version: str) -> str:
    """What stands below the heading of a version, up to the next version's; empty where there is no such heading."""
    found = re.search(rf"^## {re.escape(version)}(?: - [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
