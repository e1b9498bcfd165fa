"""A Databricks workspace by databricks-sdk: the client, and what its errors are here.

Credentials are those of the SDK's unified authentication: environment variables, a profile, or the identity of the job that
this process runs in.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from car_damage.errors import RequestRefused, Unavailable

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

CALL_TIMEOUT = 60
"""Seconds that one call may take."""
RETRIES = 15
"""Seconds over which the SDK repeats a call by itself. Callers retry with patience; this only bridges a hiccup."""


def client() -> "WorkspaceClient":
    """A client of the workspace. Raises ValueError, which `translated` knows, without usable credentials."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config

    return WorkspaceClient(config=Config(http_timeout_seconds=CALL_TIMEOUT, retry_timeout_seconds=RETRIES))


@contextlib.contextmanager
def translated(doing: str, *, needs: str, without: str = "") -> Iterator[None]:
    """Foreign errors become ours.

    Args:
        doing: what was being done, for the message.
        needs: the permission that it needs.
        without: what to do where there are no credentials.

    Raises:
        RequestRefused: the credentials or the request will not do.
        Unavailable: the workspace does not answer, or not now.
    """
    import requests
    from databricks.sdk import errors

    try:
        yield
    except (errors.PermissionDenied, errors.Unauthenticated) as error:
        raise RequestRefused(f"{doing} was refused: {error}; check the credentials, and {needs}") from error
    except errors.BadRequest as error:
        raise RequestRefused(f"{doing} was refused: {error}") from error
    except errors.DatabricksError as error:
        raise Unavailable(f"{doing}: the workspace cannot now: {error}") from error
    except (requests.RequestException, TimeoutError) as error:
        raise Unavailable(f"{doing}: the workspace does not answer: {error}") from error
    except ValueError as error:
        raise RequestRefused(f"{doing}: databricks-sdk finds no usable credentials: {error}{'; ' if without else ''}{without}") from error
