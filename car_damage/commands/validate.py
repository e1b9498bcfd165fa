"""`car-damage validate`: judge a folder of photos as the pipeline would, with the base install alone."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from car_damage.adapters.folder import Folder, utf8
from car_damage.adapters.reading import each
from car_damage.commands.terminal import printable, wide_enough
from car_damage.data.labels import Labeller, parse_table
from car_damage.errors import SettingsError, Unavailable
from car_damage.photo import decoder
from car_damage.settings import Settings


@dataclass(frozen=True)
class Verdict:
    """What `validate` says of one file."""

    path: str
    verdict: str
    """valid, rejected or unreadable; the last is no judgement of the photo."""
    reason: str | None
    """One of `car_damage.photo.reasons.REASONS`, for a rejected photo."""
    detail: str
    label: str | None
    format: str | None
    width: int | None
    """Pixels, upright."""
    height: int | None
    sha256: str | None


def validate(settings: Settings, folder: Path, as_json: bool, with_labels: bool) -> None:
    """Print a verdict on every file below the folder. `car_damage.cli` has the options' meaning.

    Raises:
        Unavailable: a file could not be read; all others have been judged by then.
    """
    errors = Console(stderr=True)
    files = sorted((file.path, file.size) for file in Folder().list(str(folder)))
    labeller = _labeller(settings, folder) if with_labels else None
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
        say = "Duplicates, and photos that lie under two classes, are found by the pipeline, which compares them all."
        Console().print(say, style="dim", soft_wrap=True)
    if seen["unreadable"]:
        raise Unavailable(f"{seen['unreadable']} of {len(files)} files could not be read; they are not judged")


def _labeller(settings: Settings, folder: Path) -> Labeller:
    table = None
    if settings.labels.table is not None:
        if Path(settings.labels.table).is_dir():
            raise SettingsError(f"labels.table is {settings.labels.table}, a Delta table, which validate does not read: add --no-labels")
        table = parse_table(Folder().read(settings.labels.table))
    # Spelt as the listing spells it, or the folder itself would pass for the name of a class.
    return Labeller(settings.labels, utf8(os.path.abspath(folder.expanduser())), table)  # noqa: PTH100 - links stay as they are


def _verdicts(settings: Settings, files: list[tuple[str, int]], labeller: Labeller | None) -> Iterator[Verdict]:
    limits = settings.images.limits()

    def work(_: str, data: bytes) -> decoder.Inspection:
        return decoder.inspect(data, limits)

    def oversize(_: str, size: int) -> decoder.Inspection:
        return decoder.oversize(size, limits)

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
    console = wide_enough()
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
