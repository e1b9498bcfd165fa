"""Calls to Databricks that may need more rights than the caller has: the error then carries the command for somebody who has them."""

import contextlib
import re
from collections.abc import Iterator
from typing import Self

from car_damage.adapters.databricks import answers, workspace
from car_damage.errors import SettingsError, Terminal


class NeedsAdministrator(SettingsError):
    """The caller lacks a permission. Somebody who has it must run `command`; bootstrap continues with the other items."""

    command: str = ""

    @classmethod
    def to_run(cls, command: str, message: str) -> Self:
        """The error with its command. Its only argument is the message, as for every error of this project."""
        error = cls(message)
        error.command = command
        return error


class NotVisible(Terminal):
    """The caller's credentials may not read this, or it is not there yet, so the check cannot find out whether it is right."""


@contextlib.contextmanager
def permitted(doing: str, *, needs: str, command: str) -> Iterator[None]:
    """Translate errors of databricks-sdk. When Databricks refuses the call, the message names the permission and the command.

    Args:
        doing: the action, for the message.
        needs: the permission that the action needs.
        command: what somebody with this permission runs: SQL, or a command of Databricks' CLI.

    Raises:
        NeedsAdministrator: the caller lacks the permission.
        RequestRefused, SettingsError, Unavailable: as `workspace.translated`.
    """
    from databricks.sdk.errors import PermissionDenied

    with workspace.translated(doing, needs=needs):
        try:
            yield
        except PermissionDenied as error:
            message = f"{doing} was refused{answers.because(error)}; it needs {needs}; somebody who has that must run: {command}"
            raise NeedsAdministrator.to_run(command, message) from error


def quoted(name: str) -> str:
    """A catalog.schema.name for SQL, with backticks around each part that needs them."""
    return ".".join(part if re.fullmatch(r"\w+", part) else f"`{part}`" for part in name.split("."))
