"""`car-damage tidy`: remove what no run, rollback or audit needs any more."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from car_damage.commands.terminal import printable, wide_enough
from car_damage.pipeline import Leftover, TidyReport, TidyRequest
from car_damage.ports import Platform
from car_damage.stage import silent
from car_damage.stages.tidy import STAGE


def tidy(platform: Platform, dry_run: bool, more: Sequence[Leftover], say: Callable[[str], None]) -> None:
    """Print what was removed, or with `dry_run` what can be. `more` is what the caller has removed or found besides."""
    report = STAGE.run(TidyRequest(dry_run=dry_run), platform, silent)
    report = TidyReport((*report.leftovers, *more))
    if not report.leftovers:
        say("nothing to remove")
        return
    wide_enough().print(_table(report))
    say(f"{'can be' if dry_run else 'were'} removed: {report.bytes:,} bytes")


def _table(report: TidyReport) -> Table:
    table = Table("what", "which", "items", "bytes", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[2:]:
        column.justify = "right"
    for leftover in report.leftovers:
        size = "unknown" if leftover.bytes is None else f"{leftover.bytes:,}"
        cells = (leftover.kind, leftover.name, f"{leftover.items:,}", size)
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    return table
