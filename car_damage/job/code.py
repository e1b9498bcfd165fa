"""Which code this is: a hash of the package's own files, the same in a checkout and where its wheel is installed."""

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def fingerprint() -> str:
    """sha256, in hexadecimal, over the names and contents of the package's files."""
    return of(PACKAGE)


def of(folder: Path) -> str:
    """The same for any folder. Compiled files, and those that a notebook or an editor leaves, are no part of it."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in name.parts):
            whole.update(f"{name.as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
