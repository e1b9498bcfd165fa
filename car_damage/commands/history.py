"""`car-damage history`: which version was live when, and why it changed."""

import json
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from car_damage.commands.terminal import printable, wide_enough
from car_damage.moves import DONE, UNDERWAY, Move
from car_damage.ports import Platform


def history(platform: Platform, limit: int, as_json: bool, say: Callable[[str], None]) -> None:
    """Print the champion's promotions and rollbacks, newest first.

    Args:
        platform: has the history.
        limit: maximum number of moves.
        as_json: print one JSON object per line.
        say: prints a line.
    """
    moves = platform.history.moves()[:limit]
    if as_json:
        for move in moves:
            say(json.dumps(_plain(move)))
    elif moves:
        wide_enough().print(_table(moves))
    else:
        say("no version has gone live yet")


def _plain(move: Move) -> dict[str, object]:
    intention = move.intention
    return {
        "started": move.started.isoformat(),
        "ended": move.ended.isoformat() if move.ended else None,
        "kind": intention.kind,
        "from": intention.replaces,
        "to": intention.version,
        "state": move.state,
        "reason": intention.reason,
        "failure": move.failure,
        "by": intention.by,
        "flow_run": intention.flow_run,
        "metrics": dict(intention.metrics),
        "run_id": move.run_id,
    }


def _table(moves: Sequence[Move]) -> Table:
    table = Table("when (UTC)", "what", "from", "to", "macro-F1", "by", "why", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[2:5]:
        column.justify = "right"
    for column in table.columns[:-2]:
        column.no_wrap = True
    for move in moves:
        intention = move.intention
        score = intention.metrics.get("test_macro_f1")
        what = intention.kind if move.state == DONE else f"{intention.kind}: {move.state}"
        cells = (
            f"{move.started:%Y-%m-%d %H:%M}",
            what,
            "" if intention.replaces is None else str(intention.replaces),
            str(intention.version),
            "" if score is None else f"{score:.3f}",
            intention.by,
            intention.reason if move.state in (DONE, UNDERWAY) else move.failure,
        )
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    return table
