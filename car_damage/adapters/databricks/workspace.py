"""A Databricks workspace by databricks-sdk: the client, and what its errors are here.

Credentials are those of the SDK's unified authentication: environment variables, a profile, or the identity of the job that
this process runs in.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from car_damage.errors import RequestRefused, SettingsError, Unavailable

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

CALL_TIMEOUT = 60
"""Seconds that one call may take."""
_REFUSED = ("invalid_client", "unauthorized_client", "invalid_grant", "invalid_scope")
"""What is said of credentials that will not do (RFC 6749, 5.2)."""
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
        SettingsError: what is named is not there.
        Unavailable: the workspace does not answer, or not now; nor does what gives out tokens.
    """
    import requests
    from databricks.sdk import errors

    try:
        yield
    except (errors.PermissionDenied, errors.Unauthenticated) as error:
        raise RequestRefused(f"{doing} was refused: {message_of(error)}; check the credentials, and {needs}") from error
    except errors.NotFound as error:
        raise SettingsError(
            f"{doing}: {error}; correct the name in the settings, or let `.venv/bin/python -m deployments bootstrap` make it"
        ) from error
    except errors.BadRequest as error:
        raise RequestRefused(f"{doing} was refused: {error}") from error
    except errors.DatabricksError as error:
        raise Unavailable(f"{doing}: the workspace cannot now: {error}") from error
    except (requests.RequestException, TimeoutError) as error:
        raise Unavailable(f"{doing}: the workspace does not answer: {error}") from error
    except (KeyError, NotImplementedError) as error:  # the SDK's, of an answer to its wish for a token that is none
        raise Unavailable(f"{doing}: no token came: {error!r}") from error
    except ValueError as error:
        # Of an answer other than a token the SDK keeps "code: description" only; and where the workspace has not told where its
        # tokens come from, it goes on and asks the address None.
        unknown = isinstance(_root(error), requests.exceptions.MissingSchema)
        if unknown or (_is_about_a_token(error) and not any(word in str(error) for word in _REFUSED)):
            raise Unavailable(f"{doing}: no token came: {message_of(error)}") from error
        raise RequestRefused(
            f"{doing}: databricks-sdk finds no usable credentials: {message_of(error)}{'; ' if without else ''}{without}"
        ) from error


def message_of(error: Exception) -> str:
    """What Databricks said in an error of databricks-sdk or MLflow. The SDK adds its whole configuration, secrets as stars."""
    return str(error).partition(". Config: ")[0]


def _root(error: BaseException) -> BaseException:
    """The first error of those that led to this one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_about_a_token(error: Exception) -> bool:
    """Whether it was raised where the SDK asks for a token, and not where it looks for credentials."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "retrieve_token":
            return True
        trace = trace.tb_next
    return False
