"""A Databricks workspace by databricks-sdk: the client, and the translation of its errors.

The credentials come from the SDK's unified authentication: environment variables, a profile, or the identity of the job that
this process runs in.
"""

import contextlib
from collections.abc import Iterator
from traceback import walk_tb
from typing import TYPE_CHECKING

from car_damage.errors import RequestRefused, Unavailable, WorkspaceIncomplete

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

CALL_TIMEOUT = 60
"""Seconds that one call may take."""
_REFUSED = ("invalid_client", "unauthorized_client", "invalid_grant", "invalid_scope")
"""Error codes for credentials that are not valid (RFC 6749, 5.2)."""
RETRIES = 15
"""Seconds during which the SDK itself retries a call. Callers retry for longer; this only covers short failures."""


def client() -> "WorkspaceClient":
    """A client of the workspace. Without usable credentials it raises ValueError, which `translated` handles."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config

    return WorkspaceClient(config=Config(http_timeout_seconds=CALL_TIMEOUT, retry_timeout_seconds=RETRIES))


@contextlib.contextmanager
def translated(doing: str, *, needs: str, without: str = "") -> Iterator[None]:
    """Translate the errors of databricks-sdk.

    Args:
        doing: the action, as the start of the message.
        needs: the permission that the action needs.
        without: what to do if there are no credentials.

    Raises:
        RequestRefused: the credentials, a permission or the request are not valid.
        SettingsError: the object that the settings name does not exist.
        Unavailable: the workspace, or its token service, does not answer or is temporarily unable to.
    """
    import requests
    from databricks.sdk import errors

    try:
        yield
    except (errors.PermissionDenied, errors.Unauthenticated) as error:
        raise RequestRefused(f"{doing} was refused: {message_of(error)}; check the credentials, and {needs}") from cause_of(error)
    except errors.NotFound as error:
        raise WorkspaceIncomplete(
            f"{doing}: {message_of(error)}; correct the name in the settings, or create the missing object"
        ) from cause_of(error)
    except errors.BadRequest as error:
        raise RequestRefused(f"{doing} was refused: {message_of(error)}") from cause_of(error)
    except errors.DatabricksError as error:
        raise Unavailable(f"{doing}: the workspace is temporarily unavailable: {message_of(error)}") from cause_of(error)
    except (requests.RequestException, TimeoutError) as error:
        raise Unavailable(f"{doing}: the workspace does not answer: {message_of(error)}") from cause_of(error)
    except (KeyError, NotImplementedError) as error:  # the SDK raises them if the response to a token request has no token
        raise Unavailable(f"{doing}: the workspace issued no token: {error!r}") from error
    except ValueError as error:
        # From a failed token request the SDK keeps only "code: description". And if the workspace does not name its token service,
        # the SDK sends the request to the address None.
        unknown = isinstance(_root(error), requests.exceptions.MissingSchema)
        if unknown or (_is_about_a_token(error) and not any(word in str(error) for word in _REFUSED)):
            raise Unavailable(f"{doing}: the workspace issued no token: {message_of(error)}") from cause_of(error)
        raise RequestRefused(
            f"{doing}: databricks-sdk finds no usable credentials: {message_of(error)}{'; ' if without else ''}{without}"
        ) from cause_of(error)


def message_of(error: Exception) -> str:
    """Databricks' message in an error of databricks-sdk or MLflow, without what the SDK adds: its configuration, and the whole request
    where it cannot read the answer, with up to 10 kB of a photo.
    """
    message = str(error).partition(". Config: ")[0]
    if "Request log:" in message:
        return "the answer is not in Databricks' form; a proxy or a gateway may have sent it"
    return message


def cause_of(error: BaseException) -> BaseException | None:
    """What to raise from: the error, or None if it or one of its causes contains the whole request. A log prints every cause."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return None if any("Request log:" in str(one) for one in links) else error


def _root(error: BaseException) -> BaseException:
    """The first error in the chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_about_a_token(error: Exception) -> bool:
    """Whether the SDK raised the error when it requested a token, not when it looked for credentials."""
    return any(frame.f_code.co_name == "retrieve_token" for frame, _ in walk_tb(error.__traceback__))
