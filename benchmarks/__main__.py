"""`make bench`: every benchmark, as a table and as build/bench.json.

Each figure is compared with a baseline that runs on the same machine at the same time, because a machine's speed varies more
from day to day than the figures differ.
"""

import argparse
import importlib
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import MODULES

RESULTS = Path("build/bench.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which benchmarks to run (default: all of {', '.join(MODULES)})")
    names = parser.parse_args().names or MODULES
    table = Table("benchmark", "value", "unit", "baseline", "ratio")
    results = []
    for name in names:
        print(f"running {name} ...", flush=True)
        for row in importlib.import_module(f"benchmarks.{name}").run():
            results.append(row)
            table.add_row(row["name"], f"{row['value']:.4g}", row["unit"], str(row["baseline"]), f"{row['ratio']:.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    Console(width=160).print(table)
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
