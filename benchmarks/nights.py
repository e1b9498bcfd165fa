"""`make bench-nights`: a thousand simulated nights of people, photos, settings and kills (see tests/nights).

The pipeline keeps its tables, its splits and its champion for years. So the benchmark asks what only years show: whether the
tables stay as small and a night as quick as on fresh tables, whether the gate's scores stay true, and whether an invariant broke.
The nights are drawn in docs/plots/nights.svg, with the figures beside it in docs/scale.md.
"""

import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lines import Line, Panel, svg
from tests.nights import record as records
from tests.nights.record import Record
from tests.nights.simulation import Simulation
from tests.nights.world import World

NIGHTS = 1_000
PICTURE = Path("docs/plots/nights.svg")
PAGE = Path("docs/scale.md")
_BEGIN, _END = "<!-- nights: written by make bench-nights -->", "<!-- end of nights -->"
WARM_UP = 20
"""Nights before the first whose time counts."""
REPEATS = 3


@dataclass(frozen=True)
class Point:
    """What is drawn of a night."""

    night: int
    disk: int
    fresh: int
    """Bytes of the tables, and of the same rows in fresh tables; 0 where they were not measured."""
    seconds: float
    """Of a processor."""
    shown: float | None
    """The champion's macro-F1 in the night's decision."""
    true: float | None
    """The champion's macro-F1 on photos that nobody has seen."""


def run(nights: int = NIGHTS) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="car-damage-nights-") as root, _quiet():
        started = time.perf_counter()
        simulation = Simulation(Path(root))
        points, endings = [], Counter[str]()
        for record in simulation.nights(nights):
            points.append(_point(record))
            endings[record.night.ending] += 1
            if record.number % 100 == 0:
                print(f"night {record.number:,}, {time.perf_counter() - started:.0f} s", flush=True)
        took, fresh_took = _night_now_and_on_fresh_tables(simulation, Path(root))
        disk, fresh = records.disk(simulation.world), records.fresh(simulation.world)
    for name, number in sorted(Counter(breach.invariant for breach in simulation.breaches).items()):
        print(f"{number} breaches of: {name.replace('_', ' ')}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg(_panels(points), "nights"))
    rows = [
        _row(f"tables after {nights:,} nights", disk / 1e6, "MB", f"the same rows in fresh tables, {fresh / 1e6:.2f} MB", disk / fresh),
        _row(
            f"a night after {nights:,} nights",
            took,
            "processor s",
            f"the same night on fresh tables, {fresh_took:.2f} processor s",
            took / fresh_took,
        ),
        _row(f"breaches in {nights:,} nights", len(simulation.breaches), "", "none", float(len(simulation.breaches))),
    ]
    _write(nights, rows, endings, time.perf_counter() - started)
    return rows


def _row(name: str, value: float, unit: str, baseline: str, ratio: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 3), "unit": unit, "baseline": baseline, "ratio": round(ratio, 2)}


def _point(record: Record) -> Point:
    champion = record.after["aliases"].get("champion")
    evidence = record.night.registered.evidence if record.night.registered else None
    shown = evidence.champion if evidence and record.after["aliases"] == record.before["aliases"] else None
    true = record.networks[champion].true_score() if champion else None
    return Point(record.number, record.disk, record.fresh, record.seconds, shown.macro_f1 if shown else None, true)


def _panels(points: list[Point]) -> list[Panel]:
    warm = [point for point in points if point.night >= WARM_UP] or points
    return [
        Panel(
            "MB of all tables",
            [
                Line("on disk", [(point.night, point.disk / 1e6) for point in points]),
                Line("in fresh tables", [(point.night, point.fresh / 1e6) for point in points if point.fresh]),
            ],
        ),
        Panel("processor seconds of a run", [Line("all stages", [(point.night, point.seconds) for point in warm])]),
        Panel(
            "macro-F1 of the champion",
            [
                Line("in the decision", [(point.night, point.shown) for point in points if point.shown is not None]),
                Line("on photos that nobody has seen", [(point.night, point.true) for point in points if point.true is not None]),
            ],
            floor=None,
        ),
    ]


def _night_now_and_on_fresh_tables(simulation: Simulation, root: Path) -> tuple[float, float]:
    """Processor seconds of one more night, with the tables as they are and with fresh ones: the best of some tries."""
    simulation.people.begin_day(simulation.people.night + 1)
    simulation.people.ordinary_work()
    took, fresh_took = [], []
    for _ in range(REPEATS):
        for fresh, seconds in ((False, took), (True, fresh_took)):
            world = simulation.world.twin(root / "twin")
            if fresh:
                shutil.rmtree(world.home / "tables")
                records.write_fresh(simulation.world, world.home / "tables")
            seconds.append(_seconds(world))
            shutil.rmtree(world.home)
    return min(took), min(fresh_took)


def _seconds(world: World) -> float:
    started = time.process_time()
    night = world.run("one more night", allow_removals=True)
    assert night.ending != "Failed", night.message
    return time.process_time() - started


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the stages' warnings about photos that people have broken on purpose."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _write(nights: int, rows: list[dict[str, object]], endings: Counter[str], seconds: float) -> None:
    """Write the figures to the page, between its two markers."""
    ended = ", ".join(f"{name.lower()} {number:,}" for name, number in endings.most_common())
    lines = ["| | value | baseline | ratio |", "| --- | ---: | --- | ---: |"]
    lines += [f"| {row['name']} | {row['value']:,} {row['unit']} | {row['baseline']} | {row['ratio']} |" for row in rows]
    text = f"{nights:,} nights took {seconds:,.0f} s. Runs by their ending: {ended}."
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text("\n".join([before + _BEGIN, "", text, "", *lines, "", _END + after]))


if __name__ == "__main__":
    for row in run():
        print(row)
