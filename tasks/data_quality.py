"""The artifact `data-quality`: which files of the landing folder are not used, what they look like, and what to do about them."""

import base64
from pathlib import PurePosixPath

from prefect.artifacts import create_markdown_artifact

from car_damage import reasons
from car_damage.errors import CarDamageError
from car_damage.pipeline import SilverReport
from car_damage.ports import Files
from car_damage.thumbnails import LIMITS, thumbnail

MOST_BYTES = 250_000
"""Bytes of all thumbnails in one artifact, in base64: a page that opens at once."""
NAME_LENGTH = 24
TO_DO = {
    reasons.EMPTY: "upload it again",
    reasons.NOT_AN_IMAGE: "take it out of the folder, or convert it to JPEG",
    reasons.UNSUPPORTED_FORMAT: "convert it to JPEG, PNG or WebP",
    reasons.TRUNCATED: "upload it again: its end is missing",
    reasons.CORRUPT: "upload it again from the camera",
    reasons.TOO_SMALL: "take a larger version, or lower images.min_side",
    reasons.TOO_MANY_PIXELS: "scale it down, or raise images.max_pixels",
    reasons.TOO_MANY_BYTES: "scale it down, or raise images.max_bytes",
    reasons.NO_LABEL: "put it into the folder of its class",
    reasons.UNKNOWN_LABEL: "move it into a folder of a class, or add the word to labels.aliases",
    reasons.DUPLICATE: "nothing: the same photo is used once",
    reasons.CONFLICTING_LABELS: "decide on one label and remove the other file",
    reasons.AMBIGUOUS_SPLIT: "nothing: it resembles photos of two splits, so it would leak from one into the other",
    reasons.FORGOTTEN: "nothing: a person decided so",
}
"""Reason -> what a person can do."""


def data_quality(report: SilverReport, files: Files) -> None:
    """Show every reason, most frequent first, with its latest files. What cannot be read or drawn is named without a picture."""
    unused = sum(report.rejected.values())
    lines = [f"**{unused:,} of {report.files:,} files** in the landing folder are not used ({_share(unused, report.files)})."]
    if report.rejected:
        lines += ["", "| why | files | share | latest |", "|---|---:|---:|---|"]
    left = MOST_BYTES
    for reason, count in sorted(report.rejected.items(), key=lambda item: (-item[1], item[0])):
        shown = []
        for path in report.examples.get(reason, ()):
            picture = _picture(path, files, left)
            left -= len(picture)
            shown.append(f"{picture} {_name(path)}".strip())
        lines.append(f"| {reason} | {count:,} | {_share(count, report.files)} | {'<br>'.join(shown)} |")
    # Below the table, whose cells do not wrap.
    lines += ["", *(f"- **{reason}**: {TO_DO[reason]}" for reason in sorted(report.rejected) if reason in TO_DO)]
    description = f"{unused:,} of {report.files:,} files are not used" if unused else f"all {report.files:,} files are used"
    create_markdown_artifact("\n".join(lines), key="data-quality", description=description)


def _picture(path: str, files: Files, left: int) -> str:
    try:
        data = files.read(path)
    except CarDamageError:  # gone since, or unreadable: its name says enough
        return ""
    drawn = thumbnail(data) if len(data) <= LIMITS.max_bytes else None
    picture = f"![](data:image/jpeg;base64,{base64.b64encode(drawn).decode()})" if drawn else ""
    return picture if len(picture) <= left else ""


def _name(path: str) -> str:
    """The file's folder and name, short, with nothing in it that Markdown would take for its own."""
    name = "/".join(PurePosixPath(path).parts[-2:])
    name = "".join(letter if letter.isalnum() or letter in "/._- " else "?" for letter in name)
    return f"`{name if len(name) <= NAME_LENGTH else '...' + name[-NAME_LENGTH + 3 :]}`"


def _share(count: int, files: int) -> str:
    return f"{count / files:.1%}" if files else "none"
