"""What all commands share: how an error is told, and what may be printed on a terminal."""

import os
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from car_damage.errors import CarDamageError

NO_TERMINAL = 400
"""Columns of a table in a pipe or a file."""


class Commands(TyperGroup):
    """Tells an error of ours as its message, with exit code 1 and without a traceback, once for all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CarDamageError as error:
            typer.echo("error: " + "\n".join(printable(line) for line in str(error).splitlines()), err=True)
            raise typer.Exit(1) from error


def wide_enough() -> Console:
    """The terminal, as wide as it is; and what is no terminal, such as a pipe or a file, wide enough that no word is cut in two."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=NO_TERMINAL)


def printable(text: str) -> str:
    """Text without characters that could steer a terminal: they are shown escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
