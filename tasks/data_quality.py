"""The artifact `data-quality`: which files of the landing folder are not used, why, and what to do about it.

It shows thumbnails of the latest ones, because a person recognises a photo by its content and not by its path.
"""

from collections.abc import Iterator
from textwrap import shorten
from typing import NamedTuple

from prefect.artifacts import create_markdown_artifact

from car_damage.errors import CarDamageError
from car_damage.machine import absolute
from car_damage.photo import reasons
from car_damage.pipeline import SilverReport
from car_damage.ports import Platform
from tasks.markdown import picture, plain, table

PICTURES = 150_000
"""Bytes of all thumbnails together; base64 adds a third. So the artifact stays below 300 kB."""
CELL = 45
"""Characters of a file name or of a detail, because the UI does not wrap lines in a table and hides what is too wide."""


class Explanation(NamedTuple):
    """What a reason means, and what to do about it."""

    meaning: str
    advice: str


EXPLANATIONS = {
    reasons.EMPTY: Explanation("the file has no bytes", "upload it again"),
    reasons.NOT_AN_IMAGE: Explanation("the file is not an image", "upload the photo itself, or delete the file"),
    reasons.UNSUPPORTED_FORMAT: Explanation("the image has a format that is not supported", "save it as JPEG or PNG"),
    reasons.TRUNCATED: Explanation("the file ends before the picture does", "upload it again"),
    reasons.CORRUPT: Explanation("the picture cannot be decoded", "upload the original again"),
    reasons.TOO_SMALL: Explanation("its shorter side is below `images.min_side`", "upload the original"),
    reasons.TOO_MANY_PIXELS: Explanation("it is above `images.max_pixels` and was not decoded", "scale it down"),
    reasons.TOO_MANY_BYTES: Explanation("it is above `images.max_bytes` and was not read", "scale it down"),
    reasons.NO_LABEL: Explanation("it has no label", "move it into the folder of its class, or label it in the table"),
    reasons.UNKNOWN_LABEL: Explanation("its label is neither a class nor an alias", "move it, or add an alias to `labels.aliases`"),
    reasons.DUPLICATE: Explanation("a file with the same bytes is used instead", "nothing; you may delete it"),
    reasons.CONFLICTING_LABELS: Explanation("files with the same bytes have different classes; none is used", "delete the wrong ones"),
    reasons.AMBIGUOUS_SPLIT: Explanation("it resembles photos of two splits, so it would leak one into the other", "nothing"),
    reasons.NOT_A_CAR: Explanation("a person has said that it shows no car", "nothing; that person can take it back"),
    reasons.CANNOT_TELL: Explanation("a person could not tell the class", "ask somebody else"),
    reasons.FORGOTTEN: Explanation("it was to be forgotten", "delete the file"),
}
WITH_THUMBNAIL = reasons.LABEL_REASONS | reasons.SET_REASONS | reasons.REVIEW_REASONS | {reasons.TRUNCATED, reasons.TOO_SMALL}
"""Reasons whose files get a thumbnail; the others cannot be decoded, or are too large to read."""


def data_quality(report: SilverReport, platform: Platform) -> None:
    """Create the artifact."""
    unused = sum(report.rejected.values())
    create_markdown_artifact(
        markdown(report, platform), key="data-quality", description=f"{unused:,} of {report.files:,} files are not used"
    )


def markdown(report: SilverReport, platform: Platform) -> str:
    """The artifact's text: reasons, most frequent first, with counts and advice; then the latest files of each reason."""
    unused = sum(report.rejected.values())
    lines = [f"**{report.files - unused:,} of {report.files:,} files** in the landing folder are used for training.", ""]
    if unused:
        by_count = sorted(report.rejected, key=lambda reason: (-report.rejected[reason], reason))
        lines += table(("reason", "files", "share", "new", "what to do"), [_counted(report, one) for one in by_count], "lrrr")
        lines += ["", *(f"- **{plain(one)}**: {EXPLANATIONS[one].meaning}" for one in by_count if one in EXPLANATIONS), ""]
        lines += ["*new*: first seen by this run.", "", "### The latest files of each reason", ""]
        lines += table(("photo", "file", "reason"), _examples(report, by_count, platform))
    return "\n".join(lines)


def _counted(report: SilverReport, reason: str) -> tuple[str, ...]:
    files = report.rejected[reason]
    share = f"{files / report.files:.1%}" if report.files else ""
    advice = EXPLANATIONS[reason].advice if reason in EXPLANATIONS else ""
    return f"**{plain(reason)}**", f"{files:,}", share, f"{report.rejected_now.get(reason, 0) or ''}", advice


def _examples(report: SilverReport, by_count: list[str], platform: Platform) -> Iterator[tuple[str, ...]]:

    folder = absolute(platform.settings.landing.folder).rstrip("/") + "/"
    left = PICTURES
    for reason in by_count:
        for path in report.examples.get(reason, ()):
            small = _thumbnail(path, platform) if reason in WITH_THUMBNAIL else None
            if small is not None and len(small) > left:
                small = None
            left -= len(small or b"")
            detail = _detail(reason, report.details.get(path, "").removeprefix(folder))
            yield picture(small, "the photo", "jpeg") if small else "", plain(path.removeprefix(folder), CELL), detail


def _detail(reason: str, detail: str) -> str:
    if reason == reasons.DUPLICATE:
        return f"{plain(reason)} of {plain(detail, CELL)}"
    return f"{plain(reason)}: {plain(shorten(detail, CELL, placeholder='…'))}" if detail else plain(reason)


def _thumbnail(path: str, platform: Platform) -> bytes | None:
    """A thumbnail; None if the file no longer exists or cannot be decoded."""
    from car_damage.photo.thumbnails import thumbnail

    try:
        return thumbnail(platform.files.read(path), platform.settings.images.limits())
    except CarDamageError:
        return None
