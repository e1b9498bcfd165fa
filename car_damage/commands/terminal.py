"""What all commands share: printing errors, tables and untrusted text on a terminal."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from car_damage.errors import CarDamageError

NO_TERMINAL = 400
"""Width of a table in a pipe or a file, in columns."""


class Commands(TyperGroup):
    """Commands that end as `one_line` says."""

    def invoke(self, ctx: Any) -> Any:
        with one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """End this process with exit code 1 and one message without a traceback on a CarDamageError, and where the file system refuses: a
    home folder that cannot be written, a full disk.
    """
    try:
        yield
    except CarDamageError as error:
        typer.echo("error: " + "\n".join(printable(line) for line in str(error).splitlines()), err=True)
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader of the output has gone; typer ends quietly
        advice = "make room, give access, or set CAR_DAMAGE_HOME to another folder"
        typer.echo(f"error: {printable(str(error))}; {advice}", err=True)
        raise SystemExit(1) from error


def plain(width: int | None = None) -> Console:
    """A console that prints text as it is: paths and reasons may have what Rich takes for markup and for emoji."""
    return Console(width=width, markup=False, emoji=False)


def wide_enough() -> Console:
    """A plain console with the width of the terminal. A pipe or a file gets a width at which no word is cut in two."""
    console = plain()
    return console if console.is_terminal or "COLUMNS" in os.environ else plain(NO_TERMINAL)


def printable(text: str) -> str:
    """Text in which control characters are escaped, so that they have no effect on the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
