"""The champion's history as data: who was to take whose place, what became of it, and what follows from all of them.

The line of champions is what a rollback goes back along. A promotion lengthens it by one; a rollback cuts it behind the
version that it goes back to. So a version that was rolled back from is not in the line any more, and is never taken for
the previous one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

PROMOTION = "promotion"
ROLLBACK = "rollback"
UNDERWAY, DONE, FAILED, ABANDONED = "underway", "done", "failed", "abandoned"
NO_VERSION = "none"
"""How tags name the champion where nothing is live."""


@dataclass(frozen=True)
class Intention:
    """A version is to take the champion's place: which, instead of which, and who wants it why."""

    kind: str
    """PROMOTION, or ROLLBACK: back to a version that was champion before the present one."""
    version: int
    replaces: int | None
    """The champion of that moment; None when nothing is live."""
    reason: str
    by: str
    """Who or what: a flow, and the person or schedule that started it."""
    flow_run: str
    by_person: bool = False
    """A person decided, with the flow promote, and not the rule."""
    displaced: int | None = None
    """The version that was meant to go live until a person decided otherwise."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The numbers of the version's decision."""


@dataclass(frozen=True)
class Move:
    """What became of an intention: one entry of the champion's history."""

    run_id: str
    """Its MLflow run."""
    intention: Intention
    started: datetime
    ended: datetime | None
    state: str
    """UNDERWAY, DONE (the alias moved), FAILED (the endpoint could not serve it), or ABANDONED (the champion changed
    underneath, or a run was killed and its intention given up)."""
    failure: str = ""
    """Why it is not done."""


def line_of_champions(moves: Iterable[Move], champion: int | None) -> list[int]:
    """The present champion, last, and before it those that it would be rolled back to, the next one nearest.

    Args:
        moves: in any order; only those that are DONE count.
        champion: the version that is live. Where it is not the one that the moves lead to, somebody moved the alias by hand.
    """
    line: list[int] = []
    for move in _done(moves):
        _arrive_at(line, move.intention.replaces)
        if move.intention.kind == ROLLBACK:
            _arrive_at(line, move.intention.version)
        else:
            line.append(move.intention.version)
    _arrive_at(line, champion)
    return line


def previous(moves: Iterable[Move], champion: int | None) -> int | None:
    """The champion before the present one; None where there was none."""
    line = line_of_champions(moves, champion)
    return line[-2] if len(line) > 1 and champion is not None else None


def rollback_of(moves: Iterable[Move], version: int) -> Move | None:
    """The rollback that took this version back, unless it went live once more after that."""
    last = next((move for move in reversed(_done(moves)) if version in (move.intention.version, move.intention.replaces)), None)
    if last is None or last.intention.kind != ROLLBACK or last.intention.replaces != version:
        return None
    return last


def version_text(version: int | None) -> str:
    """A version, or that there is none, in a sentence."""
    return "nothing" if version is None else f"version {version}"


def _done(moves: Iterable[Move]) -> list[Move]:
    """Oldest first."""
    return sorted((move for move in moves if move.state == DONE), key=lambda move: move.started)


def _arrive_at(line: list[int], version: int | None) -> None:
    """Cut the line behind the last place of this version; a version that is not in it is put at its end."""
    if version is None:
        return
    while line and version in line and line[-1] != version:
        line.pop()
    if not line or line[-1] != version:
        line.append(version)
