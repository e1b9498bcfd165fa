"""A job's compute: a process that runs a task of the job, with the volumes mounted (see mount/sitecustomize.py).

`python -m tests.databricks.cluster <package> <entry point> <its arguments>`. As on Databricks, it looks up the entry point in the
package's metadata and calls it. An entry point that ends the process has failed.
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
