"""What is asked of Databricks with rights that whoever runs bootstrap may lack: then somebody who has them gets the command."""

import contextlib
import re
from collections.abc import Iterator
from typing import Self

from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError, Terminal


class NeedsAdministrator(SettingsError):
    """Somebody with more rights must run `command`; everything else goes on without."""

    command: str = ""

    @classmethod
    def to_run(cls, command: str, message: str) -> Self:
        """The error with its command. The message alone is its argument, as of every error here."""
        error = cls(message)
        error.command = command
        return error


class Unseen(Terminal):
    """These credentials may not look, so that nobody can say whether something is wrong."""


@contextlib.contextmanager
def permitted(doing: str, *, needs: str, command: str) -> Iterator[None]:
    """Foreign errors become ours, and a refusal names who can do it, and how.

    Args:
        doing: what was being done, for the message.
        needs: the permission that it needs.
        command: what somebody who has it runs: SQL, or Databricks' CLI.

    Raises:
        NeedsAdministrator: the caller lacks the permission.
        RequestRefused, SettingsError, Unavailable: as `workspace.translated`.
    """
    from databricks.sdk.errors import PermissionDenied

    with workspace.translated(doing, needs=needs):
        try:
            yield
        except PermissionDenied as error:
            told = f"{doing} was refused: {workspace.message_of(error)}; it needs {needs}, and who has that runs: {command}"
            raise NeedsAdministrator.to_run(command, told) from error


def quoted(name: str) -> str:
    """A catalog.schema.name as SQL takes it, whatever is in it."""
    return ".".join(part if re.fullmatch(r"\w+", part) else f"`{part}`" for part in name.split("."))
