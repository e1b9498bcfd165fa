"""What is asked of Databricks with rights that whoever runs bootstrap may lack: then somebody who has them gets the command."""

import contextlib
import re
from collections.abc import Iterator

from car_damage import workspace
from car_damage.errors import CarDamageError, SettingsError


class NeedsAdministrator(SettingsError):
    """Somebody with more rights must run `command`; everything else goes on without."""

    def __init__(self, message: str, command: str) -> None:
        super().__init__(message)
        self.command = command


class Unseen(CarDamageError):
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
            told = f"{doing} was refused: {said(error)}; it needs {needs}, and who has that runs: {command}"
            raise NeedsAdministrator(told, command) from error


def said(error: Exception) -> str:
    """What Databricks said. The SDK adds its whole configuration, secrets as stars."""
    return str(error).partition(". Config: ")[0]


def quoted(name: str) -> str:
    """A catalog.schema.name as SQL takes it, whatever is in it."""
    return ".".join(part if re.fullmatch(r"\w+", part) else f"`{part}`" for part in name.split("."))
