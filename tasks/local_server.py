"""Finds the Prefect server that `make up` runs, for commands in another terminal.

Prefect reads its settings when it is imported, so this module imports it only where they are known.
"""

import os
from pathlib import Path

from tasks.run_processes import variable, with_variable

SERVICE_LOG = "SERVICE_LOG"
"""The variable that tells the processes of a service from others: the children that it starts have it, too."""
_VARIABLES = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


def prefect_log(home: Path) -> Path:
    """The log of the Prefect server that runs with this home folder."""
    return home / "logs" / "prefect-server.log"


def variables(home: Path) -> dict[str, str]:
    """Environment variables with which a process uses the Prefect server of this home folder; empty if none runs.

    They are those of the server's own process. So a server that has ended is not found, and only its user learns the password.
    """
    for process in with_variable(SERVICE_LOG, str(prefect_log(home))):
        found = {name: value for name in _VARIABLES if (value := variable(process, name))}
        if len(found) == len(_VARIABLES):
            return found
    return {}


def use(home: Path) -> None:
    """Let this process use the Prefect server of this home folder, if it runs and neither a variable nor a profile names another one."""
    import prefect.context
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value() is None and (found := variables(home)):
        os.environ |= found
        prefect.context.refresh_global_settings_context()
