"""Which version a rollback goes back to: the line of champions, told from the history of their moves.

A promotion lengthens the line by one; a rollback cuts it behind the version that it goes back to. So a version that was
rolled back from is not in the line any more, and is never taken for the previous one.
"""

from collections.abc import Iterable

from car_damage.ports import DONE, ROLLBACK, Move


def line_of_champions(moves: Iterable[Move], champion: int | None) -> list[int]:
    """The present champion, last, and before it those that it would be rolled back to, the next one nearest.

    Args:
        moves: in any order; only those that are DONE count.
        champion: the version that is live. Where it is not the one that the moves lead to, somebody moved the alias by hand.
    """
    line: list[int] = []
    for move in sorted((move for move in moves if move.state == DONE), key=lambda move: move.started):
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


def _arrive_at(line: list[int], version: int | None) -> None:
    """Cut the line behind the last place of this version; a version that is not in it is put at its end."""
    if version is None:
        return
    while line and version in line and line[-1] != version:
        line.pop()
    if not line or line[-1] != version:
        line.append(version)
