"""The champion's history as data: each promotion and rollback, its outcome, and the line of champions that follows from them.

A rollback goes back along the line of champions. A promotion appends its version to the line; a rollback removes everything
after the version that it returns to. So a version that was rolled back is no longer in the line, and never counts as the
previous champion.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

PROMOTION = "promotion"
ROLLBACK = "rollback"
UNDERWAY, DONE, FAILED, ABANDONED = "underway", "done", "failed", "abandoned"
NO_VERSION = "none"
"""The value of a tag for a version if there is none."""


@dataclass(frozen=True)
class Intention:
    """The intention to replace the champion: by which version, who wants it, and why."""

    kind: str
    """PROMOTION, or ROLLBACK: the return to a version that was champion before."""
    version: int
    replaces: int | None
    """The champion when the intention was recorded; None if no version was live."""
    reason: str
    by: str
    """The flow, and the person or schedule that started it."""
    flow_run: str
    by_person: bool = False
    """A person decided with the flow promote; otherwise the rule decided."""
    displaced: int | None = None
    """The challenger that lost its place because a person chose another version."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The metrics behind the decision on the version."""


@dataclass(frozen=True)
class Move:
    """An intention and its outcome: one entry of the champion's history."""

    run_id: str
    """The MLflow run that records it."""
    intention: Intention
    started: datetime
    ended: datetime | None
    state: str
    """UNDERWAY, DONE (the alias moved), FAILED (the endpoint could not serve the version), or ABANDONED (the champion changed
    in the meantime, or a run was killed and its intention was dropped)."""
    failure: str = ""
    """Why the move failed or was abandoned."""


def line_of_champions(moves: Iterable[Move], champion: int | None) -> list[int]:
    """The versions that a rollback can return to, oldest first, and the present champion at the end.

    Args:
        moves: in any order; only those that are DONE count.
        champion: the live version. If the moves lead to another version, somebody moved the alias by hand.
    """
    line: list[int] = []
    for move in _done(moves):
        _end_line_at(line, move.intention.replaces)
        if move.intention.kind == ROLLBACK:
            _end_line_at(line, move.intention.version)
        else:
            line.append(move.intention.version)
    _end_line_at(line, champion)
    return line


def previous(moves: Iterable[Move], champion: int | None) -> int | None:
    """The champion before the present one, or None."""
    line = line_of_champions(moves, champion)
    return line[-2] if len(line) > 1 and champion is not None else None


def rollback_of(moves: Iterable[Move], version: int) -> Move | None:
    """The rollback that removed this version; None if there was none, or if the version went live again afterwards."""
    last = next((move for move in reversed(_done(moves)) if version in (move.intention.version, move.intention.replaces)), None)
    if last is None or last.intention.kind != ROLLBACK or last.intention.replaces != version:
        return None
    return last


def chosen_by_person(moves: Iterable[Move], champion: int | None) -> bool:
    """Whether a person took the present champion live, by a promotion or a rollback."""
    done = _done(moves)
    return bool(done) and done[-1].intention.by_person and done[-1].intention.version == champion


def version_text(version: int | None) -> str:
    """A version, or the absence of one, as words for a message."""
    return "nothing" if version is None else f"version {version}"


def _done(moves: Iterable[Move]) -> list[Move]:
    """The completed moves, oldest first."""
    return sorted((move for move in moves if move.state == DONE), key=lambda move: move.started)


def _end_line_at(line: list[int], version: int | None) -> None:
    """Remove everything after the last occurrence of the version; append the version if the line lacks it."""
    if version is None:
        return
    while line and version in line and line[-1] != version:
        line.pop()
    if not line or line[-1] != version:
        line.append(version)
