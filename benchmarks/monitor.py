"""When the flow monitor speaks: quiet traffic of a hundred days, and photos that slowly get worse in several ways. Writes the table of
docs/monitoring.md.

Each day is a window of requests drawn from real photos that the model has not seen: see `benchmarks.monitor_photos`. Nobody labels any.
Some days of the quiet traffic are odd: their photos are as bad as those of another story on a day of any severity.
The baseline of each figure is the day on which the true macro-F1 has fallen by five points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import real_photos
from benchmarks.answers import CLASSES
from benchmarks.monitor_photos import KINDS, World, world
from car_damage.model.quality.evaluation import confusion_matrix, counts_of, macro_f1_of
from car_damage.monitoring.drift import drifts
from car_damage.monitoring.findings import Traffic, verdict
from car_damage.monitoring.samples import UNKNOWN, Sample
from car_damage.monitoring.windows import alarm
from car_damage.settings import Monitoring

DAYS, REQUESTS = 100, 150
BEGINS, WORST = 20, 80
"""Day on which photos begin to get worse, and day on which they are worst. Between the two, photos of one level give way to those of the
next one."""
RUNS = 5
LOSS = 0.05
ODD = 0.05
"""Chance that a day of quiet traffic is odd."""
SHIFT = 0.7
"""Share of the most severe class at the end of a shift of classes."""
USUAL = Monitoring()
PAGE = Path("docs/monitoring.md")
_BEGIN, _END = "<!-- monitor: written by python -m benchmarks monitor -->", "<!-- end of monitor -->"

Confusion = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Story:
    """Requests that change from day to day."""

    draw: Callable[[float, np.random.Generator], Sample]
    """The requests of a day, by how far it has come: 0 is quiet, 1 the worst."""
    confusion: Callable[[float], Confusion]
    """Of all photos of such a day, and not only those that were drawn: shares by true and predicted class."""

    def loss(self, much: float) -> float:
        """How much macro-F1 has truly fallen."""
        quiet, now = (float(macro_f1_of(counts_of(self.confusion(of) * 1e6))) for of in (0.0, much))
        return quiet - now


@dataclass(frozen=True)
class AlarmRecord:
    """One run of a story."""

    alarm: int | None
    """First day of an alarm."""
    alarms: int
    """Days on which an alarm began."""
    what: frozenset[str]


def run() -> list[dict[str, Any]]:
    place = real_photos.folder()
    if place is None:
        print(f"no photos at {real_photos.FOLDER}: skipped")
        return []
    of = world(place, KINDS)
    told = {name: [watch(of.model.baseline, story, seed) for seed in range(RUNS)] for name, story in stories(of).items()}
    lost = {name: lost_on(story) for name, story in stories(of).items()}
    lines = list(_lines(told, lost, stories(of)))
    _write(lines)
    return [
        {
            "name": f"monitor: {name}",
            "value": float(np.median([one.alarm or DAYS for one in runs])),
            "unit": "day",
            "baseline": f"five points lost on day {lost[name] or 'never'}",
            "ratio": float(np.median([one.alarm or DAYS for one in runs])) / (lost[name] or DAYS),
        }
        for name, runs in told.items()
        if name != "quiet"
    ]


def stories(of: World) -> dict[str, Story]:
    """Quiet traffic, each way to get worse, and more and more severe damage."""
    quiet = next(iter(of.traffic.values()))[0]
    worse = {kind: of_levels(levels) for kind, levels in of.traffic.items()} | {"more severe damage": _shift(quiet)}
    return {"quiet": _with_odd_days(of_levels((quiet, quiet)), [*worse.values()])} | worse


def watch(baseline: Sample, story: Story, seed: int, days: int = DAYS, settings: Monitoring = USUAL) -> AlarmRecord:
    """Look at each day as the stage does."""
    random, spoke, alarms = np.random.default_rng(seed), list[frozenset[str]](), list[frozenset[str]]()
    windows: list[Sample] = []
    for day in range(days):
        windows = [*windows[1 - settings.windows :], story.draw(course(day), random)]
        found = _verdict(baseline, windows, settings)
        alarms.append(alarm(spoke, found, settings.speaking, settings.windows))
        spoke.append(found)
    began = [day for day, one in enumerate(alarms) if one - (alarms[day - 1] if day else frozenset())]
    return AlarmRecord(began[0] if began else None, len(began), alarms[began[0]] if began else frozenset())


def course(day: int) -> float:
    """How far a day has come."""
    return float(np.clip((day - BEGINS) / (WORST - BEGINS), 0, 1))


def lost_on(story: Story) -> int | None:
    """The first day on which macro-F1 has truly fallen by LOSS; None: never."""
    return next((day for day in range(DAYS) if story.loss(course(day)) >= LOSS), None)


def _verdict(baseline: Sample, windows: list[Sample], settings: Monitoring) -> frozenset[str]:
    well = Traffic(REQUESTS, REQUESTS, refused=0.0, errors=0.0, throttled=0.0, review=0.0, milliseconds=(5.0, 9.0, 12.0))
    return verdict(baseline, windows, well, [*drifts(baseline, windows, CLASSES, settings)], settings).speaks


def of_levels(levels: tuple[Sample, ...]) -> Story:
    """Photos of each level give way to those of the next one."""
    last = len(levels) - 1
    confusions = [_confusion(level) for level in levels]

    def parts(much: float) -> tuple[int, float]:
        lower = min(int(much * last), last - 1)
        return lower, much * last - lower

    def draw(much: float, random: np.random.Generator) -> Sample:
        lower, share = parts(much)
        rows = random.integers(0, len(levels[0].labels), REQUESTS)
        return _mixed(levels[lower], levels[lower + 1], rows, random.random(REQUESTS) < share)

    def confusion(much: float) -> Confusion:
        lower, share = parts(much)
        return np.asarray((1 - share) * confusions[lower] + share * confusions[lower + 1])

    return Story(draw, confusion)


def _with_odd_days(quiet: Story, others: list[Story]) -> Story:
    def draw(much: float, random: np.random.Generator) -> Sample:
        if random.random() >= ODD:
            return quiet.draw(much, random)
        return others[random.integers(len(others))].draw(random.random(), random)

    return Story(draw, quiet.confusion)


def _shift(quiet: Sample) -> Story:
    """From the classes as they are to mostly the most severe one."""
    usual = np.bincount(quiet.labels, minlength=len(CLASSES)) / len(quiet.labels)
    severe = np.array([(1 - SHIFT) / 2, (1 - SHIFT) / 2, SHIFT])
    by_class = _confusion(quiet)
    by_class /= by_class.sum(axis=1, keepdims=True)

    def shares(much: float) -> npt.NDArray[np.float64]:
        return np.asarray((1 - much) * usual + much * severe)

    def draw(much: float, random: np.random.Generator) -> Sample:
        weights = (shares(much) / usual)[quiet.labels]
        rows = random.choice(len(quiet.labels), REQUESTS, p=weights / weights.sum())
        return _mixed(quiet, quiet, rows, np.zeros(REQUESTS, bool))

    return Story(draw, lambda much: np.asarray(shares(much)[:, None] * by_class))


def _mixed(one: Sample, other: Sample, rows: npt.NDArray[np.int64], of_other: npt.NDArray[np.bool_]) -> Sample:
    """These rows of the one, or of the other."""

    def taken(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(of_other if first.ndim == 1 else of_other[:, None], second[rows], first[rows])

    inputs = {name: taken(values, other.inputs[name]) for name, values in one.inputs.items()}
    return Sample(inputs, taken(one.probabilities, other.probabilities), np.full(len(rows), UNKNOWN), taken(one.review, other.review))


def _confusion(sample: Sample) -> Confusion:
    return confusion_matrix(sample.labels, sample.predicted, len(CLASSES)) / len(sample.labels)


def _lines(told: dict[str, list[AlarmRecord]], lost: dict[str, int | None], of: dict[str, Story]) -> Iterator[str]:
    quiet = told["quiet"]
    yield (
        f"Quiet traffic, with one odd day in {1 / ODD:.0f}: {sum(one.alarms for one in quiet)} alarms in {RUNS} times {DAYS} days, "
        f"at most {max(one.alarms for one in quiet)} in any {DAYS}."
    )
    yield ""
    yield "| what changes | alarm, median day | true loss of macro-F1 by then | five points lost on day | alarm before that | what speaks |"
    yield "|---|---:|---:|---:|---:|---|"
    for name, runs in list(told.items())[1:]:
        days = [one.alarm for one in runs]
        median = int(np.median([DAYS if day is None else day for day in days]))
        before = sum(day is not None and (lost[name] is None or day < lost[name]) for day in days)
        what = ", ".join(sorted(set().union(*(one.what for one in runs)))) or "nothing"
        day, loss = ("none", "") if median == DAYS else (str(median), f"{of[name].loss(course(median)):.3f}")
        yield f"| {name} | {day} | {loss} | {lost[name] or 'never'} | {before} of {RUNS} | {what} |"


def _write(lines: list[str]) -> None:
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    text = "\n".join(lines)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{rest.partition(_END)[2]}")
