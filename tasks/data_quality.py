"""The artifact `data-quality`: which files of the landing folder are not used, why, and what to do about it.

With small pictures of the latest ones, because a person knows a photo by its looks and not by its path.
"""

from collections.abc import Iterator
from textwrap import shorten
from typing import NamedTuple

from prefect.artifacts import create_markdown_artifact

from car_damage.data import ledger
from car_damage.errors import CarDamageError
from car_damage.photo import reasons
from car_damage.photo.thumbnails import thumbnail
from car_damage.pipeline import SilverReport
from car_damage.ports import Platform
from tasks.markdown import picture, plain, table

PICTURES = 150_000
"""Bytes of all pictures together, a third more as text: the artifact stays below 300 kB, whatever the photos are."""
CELL = 45
"""Characters of a file's name, or of what is the matter with it: the UI breaks no lines in a table, and hides what is too wide."""


class Told(NamedTuple):
    """A reason in a person's words."""

    meaning: str
    advice: str


TOLD = {
    reasons.EMPTY: Told("the file has no bytes", "upload it again"),
    reasons.NOT_AN_IMAGE: Told("the bytes are of no image format", "upload the photo itself, or delete the file"),
    reasons.UNSUPPORTED_FORMAT: Told("an image, but of a format that is not read", "save it as JPEG or PNG"),
    reasons.TRUNCATED: Told("the file ends before the picture does", "upload it again"),
    reasons.CORRUPT: Told("the picture cannot be decoded", "upload it again from where it came"),
    reasons.TOO_SMALL: Told("its shorter side is below `images.min_side`", "upload the original"),
    reasons.TOO_MANY_PIXELS: Told("it is above `images.max_pixels` and was not decoded", "scale it down"),
    reasons.TOO_MANY_BYTES: Told("it is above `images.max_bytes` and was not read", "scale it down"),
    reasons.NO_LABEL: Told("its class is not said", "move it into a folder of its class, or label it in the table"),
    reasons.UNKNOWN_LABEL: Told("its label is no class and no alias of one", "move it, or add an alias to `labels.aliases`"),
    reasons.DUPLICATE: Told("the same bytes are there under another path, which is used", "nothing; it may be deleted"),
    reasons.CONFLICTING_LABELS: Told("the same bytes are there under two classes; neither is used", "delete the wrong one"),
    reasons.AMBIGUOUS_SPLIT: Told("it resembles photos of two splits, and would leak from one into the other", "nothing"),
    reasons.FORGOTTEN: Told("a person decided that it is not used", "nothing"),
}
"""Reason -> what it means, and what to do."""
DRAWN = reasons.LABEL_REASONS | reasons.SET_REASONS | {reasons.TRUNCATED, reasons.TOO_SMALL}
"""Of the other ones there is nothing to draw, or they are too large to be read."""


def data_quality(report: SilverReport, platform: Platform) -> None:
    """Every file that is not used, by reason."""
    unused = sum(report.rejected.values())
    create_markdown_artifact(
        markdown(report, platform), key="data-quality", description=f"{unused:,} of {report.files:,} files are not used"
    )


def markdown(report: SilverReport, platform: Platform) -> str:
    """Reasons, commonest first, with counts and advice; then the latest files of each."""
    unused = sum(report.rejected.values())
    lines = [f"**{report.files - unused:,} of {report.files:,} files** in the landing folder are used for training.", ""]
    if unused:
        by_count = sorted(report.rejected, key=lambda reason: (-report.rejected[reason], reason))
        lines += table(("not used because", "files", "of all", "new", "what to do"), [_counted(report, one) for one in by_count], "lrrr")
        lines += ["", *(f"- **{plain(one)}**: {TOLD[one].meaning}" for one in by_count if one in TOLD), ""]
        lines += ["*new*: seen first by this run.", "", "### The latest of each", ""]
        lines += table(("photo", "file", "not used because"), _examples(report, by_count, platform))
    return "\n".join(lines)


def _counted(report: SilverReport, reason: str) -> tuple[str, ...]:
    files = report.rejected[reason]
    share = f"{files / report.files:.1%}" if report.files else ""
    advice = TOLD[reason].advice if reason in TOLD else ""
    return f"**{plain(reason)}**", f"{files:,}", share, f"{report.rejected_now.get(reason, 0) or ''}", advice


def _examples(report: SilverReport, by_count: list[str], platform: Platform) -> Iterator[tuple[str, ...]]:
    folder = ledger.absolute(platform.settings.landing.folder).rstrip("/") + "/"
    left = PICTURES
    for reason in by_count:
        for path in report.examples.get(reason, ()):
            drawn = _picture(path, platform) if reason in DRAWN else None
            if drawn is not None and len(drawn) > left:
                drawn = None
            left -= len(drawn or b"")
            why = _why(reason, report.details.get(path, "").removeprefix(folder))
            yield picture(drawn, "the photo", "jpeg") if drawn else "", plain(path.removeprefix(folder), CELL), why


def _why(reason: str, detail: str) -> str:
    if reason == reasons.DUPLICATE:
        return f"{plain(reason)}: as {plain(detail, CELL)}"
    return f"{plain(reason)}: {plain(shorten(detail, CELL, placeholder='…'))}" if detail else plain(reason)


def _picture(path: str, platform: Platform) -> bytes | None:
    """None where the file is gone, or cannot be drawn: the table goes without."""
    try:
        return thumbnail(platform.files.read(path), platform.settings.images.limits())
    except CarDamageError:
        return None
