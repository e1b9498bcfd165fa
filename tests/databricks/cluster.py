"""A job's compute: a process that sees the volumes mounted, and does what a task of the job names.

`python -m tests.databricks.cluster <storage> <package> <entry point> <its arguments>`; what lies in the storage is below /Volumes there.
As on Databricks, the entry point is looked up in the package's metadata and called; that it ends the process is a failure.
"""

import errno
import os
import sys
from collections.abc import Iterator
from importlib.metadata import distribution

from car_damage.engines import folder, volume
from car_damage.job import run

ROOT = "/Volumes/"


class Mounted(folder.Folder):
    """Files of this machine and of the volumes."""

    storage = ""

    def read(self, path: str) -> bytes:
        return super().read(there(path))

    def write_once(self, path: str, data: bytes) -> None:
        super().write_once(there(path), data)

    def replace(self, path: str, data: bytes) -> None:
        super().replace(there(path), data)


def there(path: str) -> str:
    return path.replace(ROOT, f"{Mounted.storage}/", 1) if path.startswith(ROOT) else path


def main() -> None:
    Mounted.storage, package, name = (sys.argv.pop(1) for _ in range(3))
    walk = folder.walk

    def walk_mounted(of: str) -> Iterator[tuple[str, int, int]]:
        for path, size, modified in walk(there(of)):
            yield path.replace(f"{Mounted.storage}/", ROOT, 1), size, modified

    def no_links(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    folder.walk = walk_mounted
    folder.Folder = Mounted  # type: ignore[misc]
    run.Folder = Mounted  # type: ignore[attr-defined, misc]
    os.link = no_links  # type: ignore[assignment]
    volume.is_elsewhere = lambda _: False
    [entry] = [one for one in distribution(package).entry_points if one.name == name]
    try:
        entry.load()()
    except SystemExit as end:
        raise RuntimeError(f"the entry point ended the process: {end}") from end


if __name__ == "__main__":
    main()
