"""`car-damage validate`: check a folder of photos as the pipeline does. The base install is enough."""

import json
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
from car_damage.data.photos.labels import Labeller, parse_table
from car_damage.errors import SettingsError, Unavailable
from car_damage.machine import absolute
from car_damage.photo import decoder
from car_damage.settings import Settings


@dataclass(frozen=True)
class Verdict:
    """Result of `validate` for one file."""

    path: str
    verdict: str
    """valid, rejected or unreadable. An unreadable file was not checked."""
    reason: str | None
    """For a rejected photo, one of `car_damage.photo.reasons.REASONS`."""
    detail: str
    label: str | None
    format: str | None
    width: int | None
    """Pixels of the upright photo."""
    height: int | None
    sha256: str | None


def validate(settings: Settings, folder: Path, as_json: bool, with_labels: bool) -> None:
    """Print a verdict on every file below the folder. Tables are neither read nor written.

    Args:
        settings: limits, labels and number of workers.
        folder: contains the photos.
        as_json: print one JSON object per line and file, in the order of checking.
        with_labels: reject photos without a known class, as the pipeline does.

    Raises:
        Unavailable: a file could not be read. All other files have been checked.
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
        say = "Duplicates and photos with two classes are not reported here; the pipeline finds them, because it compares all photos."
        Console().print(say, style="dim", soft_wrap=True)
    if seen["unreadable"]:
        raise Unavailable(f"{seen['unreadable']} of {len(files)} files could not be read, so they were not checked")


def _labeller(settings: Settings, folder: Path) -> Labeller:
    table = None
    if settings.labels.table is not None:
        where = absolute(settings.labels.table)
        if Path(where).is_dir():
            raise SettingsError(f"labels.table is {where}, a Delta table, which validate cannot read: add --no-labels")
        if not where.lower().endswith(".csv"):
            raise SettingsError(f"labels.table: {where} is neither a file ending with .csv nor the folder of a Delta table")
        table = parse_table(Folder().read(where))
    # The listing has absolute paths. With any other spelling the folder itself could pass for the name of a class.
    return Labeller(settings.labels, utf8(absolute(str(folder))), table)


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
        table = Table("file", "reason", "detail", box=None, pad_edge=False)
        for verdict in sorted(rejected, key=lambda one: one.path):
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
