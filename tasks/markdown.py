"""Markdown for the Prefect UI: tables, embedded pictures, and escaped text from outside."""

import base64
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")
"""Characters that may have a meaning in Markdown; a backslash before one makes it literal (CommonMark 2.4)."""

_PICTURE = re.compile(r"!\[([^]]*)\]\(data:image/[^)]*\)")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """Lines of a table.

    Args:
        header: one cell for each column.
        rows: cells in Markdown, as many in each row as in the header.
        align: l or r for each column; l for columns without a letter.
    """
    dashes = [{"l": "---", "r": "---:"}[letter] for letter in align.ljust(len(header), "l")]
    return [f"| {' | '.join(cells)} |" for cells in (header, dashes, *rows)]


def picture(data: bytes, title: str, kind: str = "png") -> str:
    """A picture as a data: URI, because the UI loads no pictures from other servers."""
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def without_pictures(text: str) -> str:
    """The text with the title of each picture of `picture` in its place."""
    return _PICTURE.sub(r"*\1: removed*", text)


def plain(text: str, length: int = 80) -> str:
    """Escape text from outside, such as a file name, so that it makes no link, no picture and no end of a table cell.

    A character that cannot be printed becomes a question mark; a long text is shortened in the middle to `length` characters.
    """
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    half = (length - 1) // 2
    if len(text) > length:
        text = f"{text[:half]}…{text[-half:]}"
    return _SPECIAL.sub(r"\\\1", text)
