"""The console script `car-damage`.

What is imported here is light: `--help` answers at once, and `validate` needs nothing but the base install. An error
of ours ends any command with its message on stderr and exit code 1, without a traceback.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from car_damage import __version__
from car_damage.errors import CarDamageError

if TYPE_CHECKING:
    from car_damage.images import Inspection
    from car_damage.labels import Labeller
    from car_damage.settings import Settings


class _Commands(TyperGroup):
    """Says what went wrong, once for all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CarDamageError as error:
            typer.echo(f"error: {printable(str(error))}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"car-damage {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Severity of car damage from a photo."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file name that the terminal's encoding lacks is shown escaped; it is no reason to fail.
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Text without characters that could steer a terminal: they are shown escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


@dataclass(frozen=True)
class Verdict:
    """What `validate` says of one file."""

    path: str
    verdict: str
    """valid, rejected or unreadable; the last is no judgement of the photo."""
    reason: str | None
    """One of `car_damage.images.REASONS`, for a rejected photo."""
    detail: str
    label: str | None
    format: str | None
    width: int | None
    """Pixels, upright."""
    height: int | None
    sha256: str | None


@app.command()
def validate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photos; everything below it is judged.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file and line, in the order in which files are done.")] = False,
    labels: Annotated[bool, typer.Option(help="Reject photos whose class cannot be told, as the pipeline does.")] = True,
) -> None:
    """Judge every photo below DIR as the pipeline would, without touching any table.

    Exit code 1 if a file could not be read; rejected photos are a result, not a failure.
    """
    from rich.console import Console
    from rich.progress import Progress

    from car_damage.engines.folder import Folder
    from car_damage.settings import load

    settings, errors = load(), Console(stderr=True)
    files = sorted((file.path, file.size) for file in Folder().list(str(folder)))
    labeller = _labeller(settings, folder) if labels else None
    seen: Counter[str] = Counter()
    rejected: list[Verdict] = []
    watched = errors.is_terminal and not (as_json and sys.stdout.isatty())
    with Progress(console=errors, transient=True, disable=not watched, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task("validating", total=len(files))
        for verdict in _verdicts(settings, files, labeller):
            progress.advance(task)
            seen[verdict.reason or verdict.verdict] += 1
            if as_json:
                sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
            elif verdict.verdict != "valid":
                rejected.append(verdict)
    if not as_json:
        _print_summary(seen, rejected)
    if seen["unreadable"]:
        errors.print(f"error: {seen['unreadable']} of {len(files)} files could not be read; they are not judged")
        raise typer.Exit(1)


def _labeller(settings: "Settings", folder: Path) -> "Labeller":
    from car_damage.engines.folder import Folder, utf8
    from car_damage.errors import SettingsError
    from car_damage.labels import Labeller, parse_table

    table = None
    if settings.labels.table is not None:
        if Path(settings.labels.table).is_dir():
            raise SettingsError(f"labels.table is {settings.labels.table}, a Delta table, which validate does not read: add --no-labels")
        table = parse_table(Folder().read(settings.labels.table))
    # Spelt as the listing spells it, or the folder itself would pass for the name of a class.
    return Labeller(settings.labels, utf8(os.path.abspath(folder.expanduser())), table)  # noqa: PTH100 - links stay as they are


def _verdicts(settings: "Settings", files: list[tuple[str, int]], labeller: "Labeller | None") -> Iterator[Verdict]:
    from car_damage import images
    from car_damage.engines.folder import Folder, each

    limits = images.Limits(settings.images.min_side, settings.images.max_pixels, settings.images.max_bytes)

    def work(_: str, data: bytes) -> "Inspection":
        return images.inspect(data, limits)

    def oversize(_: str, size: int) -> "Inspection":
        return images.oversize(size, limits)

    for path, found, unreadable in each(Folder(), files, work, settings.images.workers, limits.max_bytes, oversize):
        if found is None:
            yield Verdict(path, "unreadable", None, unreadable or "", None, None, None, None, None)
            continue
        label = labeller.label(path) if labeller else None
        reason = found.reason or (label.reason if label else None)
        yield Verdict(
            path=path,
            verdict="rejected" if reason else "valid",
            reason=reason,
            detail=found.detail,
            label=label.label if label else None,
            format=found.format,
            width=found.width,
            height=found.height,
            sha256=found.sha256,
        )


def _print_summary(seen: Counter[str], rejected: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if rejected:
        table = Table("file", "why not", "detail", box=None, pad_edge=False)
        for verdict in sorted(rejected, key=lambda one: one.path):
            # As Text, because a file name with brackets in it is no markup.
            cells = (verdict.path, verdict.reason or verdict.verdict, verdict.detail)
            table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
        console.print(table)
        console.print()
    summary = Table("verdict", "files", box=None, pad_edge=False)
    summary.columns[1].justify = "right"
    for name, count in sorted(seen.items(), key=lambda item: (item[0] != "valid", -item[1], item[0])):
        summary.add_row(name if name in ("valid", "unreadable") else f"rejected: {name}", str(count))
    summary.add_row("all", str(sum(seen.values())))
    console.print(summary)
