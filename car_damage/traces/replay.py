"""Asks the versions that have answered once more, and compares."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from car_damage.errors import RegistryError
from car_damage.machine import Scratch
from car_damage.model.served.process import ModelAnswer, answers
from car_damage.ports import Platform
from car_damage.traces.account import Answer

SAME = 1e-4
"""Largest difference of two probabilities that are the same: numbers are added in another order on another processor, and with other photos
in the same call of the model."""


@dataclass(frozen=True)
class Replay:
    """An answer that a table keeps, beside that of the same version to the same photo at this moment."""

    logged: Answer
    equal: bool
    difference: float | None = None
    """Largest difference of a probability; None where there is nothing to compare."""
    why: str = ""
    """Why it is not equal; empty if it is."""


def replayed(logged: Sequence[Answer], photos: Mapping[str, bytes], platform: Platform) -> Iterator[Replay]:
    """Ask each version about its photos, in one process a version.

    Args:
        logged: what to compare with.
        photos: sha256 -> bytes. An answer to another photo cannot be replayed.
        platform: has the registry.

    Raises:
        ModelRefused: a version does not load.
    """
    askable = [one for one in logged if one.version is not None and one.sha256 in photos]
    for one in logged:
        if one not in askable:
            yield Replay(one, equal=False, why="the photo is not there" if one.version is not None else "its version is not known")
    for number, some in groupby(sorted(askable, key=lambda one: one.version or 0), lambda one: one.version or 0):
        yield from _of_version(number, list(some), photos, platform)


def _of_version(number: int, logged: Sequence[Answer], photos: Mapping[str, bytes], platform: Platform) -> Iterator[Replay]:
    tracking = platform.settings.tracking
    try:
        version = platform.registry.get(number)
    except RegistryError:
        yield from (Replay(one, equal=False, why=f"version {number} is not kept") for one in logged)
        return
    with Scratch("replay") as folder:
        model = platform.registry.download(version.uri, folder)
        series = (photos[one.sha256 or ""] for one in logged)
        given = answers(model, series, tracking.check_timeout + len(logged), tracking.champion_environment)
    for one, answer in zip(logged, given, strict=True):
        yield _compared(one, answer, batch=one.table == platform.settings.tables.predictions)


def _compared(logged: Answer, answer: ModelAnswer, *, batch: bool) -> Replay:
    if answer.refused or logged.refused:
        same = bool(answer.refused and logged.refused)
        return Replay(logged, same, None, "" if same else answer.refused or "it answers what it has refused")
    classes = {*logged.probabilities, *answer.probabilities}
    difference = max((abs(logged.probabilities.get(name, 2) - answer.probabilities.get(name, 2)) for name in classes), default=0.0)
    why = [f"it says {answer.label}"] if answer.label != logged.label else []
    why += [f"a probability differs by {difference:.2g}"] if difference > SAME else []
    # A request may have had another coverage, which its row does not tell. A batch never has.
    excluded = logged.classes if batch else None
    why += ["it excludes other classes"] if excluded is not None and excluded != answer.classes else []
    return Replay(logged, not why, difference, " and ".join(why))
