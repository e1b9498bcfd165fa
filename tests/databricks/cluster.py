"""A job's compute: a process that does what a task of the job names, with the volumes mounted (see mount/sitecustomize.py).

`python -m tests.databricks.cluster <package> <entry point> <its arguments>`. As on Databricks, the entry point is looked up in
the package's metadata and called; that it ends the process is a failure.
"""

import sys
from importlib.metadata import distribution


def main() -> None:
    package, name = (sys.argv.pop(1) for _ in range(2))
    [entry] = [one for one in distribution(package).entry_points if one.name == name]
    try:
        entry.load()()
    except SystemExit as end:
        raise RuntimeError(f"the entry point ended the process: {end}") from end


if __name__ == "__main__":
    main()
