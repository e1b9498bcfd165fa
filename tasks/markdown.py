"""Markdown as the Prefect UI shows it: tables, pictures within the text, and words that came from outside."""

import base64
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")
"""What Markdown may take for its own; a backslash before any of it makes it a letter (CommonMark 2.4)."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """Lines of a table.

    Args:
        header: one cell a column.
        rows: cells in Markdown, each as long as the header.
        align: a letter a column: l or r. Left where nothing is said.
    """
    dashes = [{"l": "---", "r": "---:"}[letter] for letter in align.ljust(len(header), "l")]
    return [f"| {' | '.join(cells)} |" for cells in (header, dashes, *rows)]


def picture(data: bytes, title: str, kind: str = "png") -> str:
    """A picture as a data: URI, because the UI shows those, and fetches nothing from elsewhere."""
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def plain(text: str, length: int = 80) -> str:
    """Foreign text, such as a file's name, that is to be read as it is: no link, no picture, no end of the table's cell.

    What cannot be printed becomes a question mark; a long one is shortened in its middle to `length` characters.
    """
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    half = (length - 1) // 2
    if len(text) > length:
        text = f"{text[:half]}…{text[-half:]}"
    return _SPECIAL.sub(r"\\\1", text)
