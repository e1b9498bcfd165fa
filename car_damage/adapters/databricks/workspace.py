"""A Databricks workspace by databricks-sdk: the client, and the translation of its errors.

The credentials come from the SDK's unified authentication: environment variables, a profile, or the identity of the job that
this process runs in.
"""

import contextlib
from collections.abc import Iterator
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import answers, limits
from car_damage.adapters.databricks.answers import because
from car_damage.errors import CarDamageError, RequestRefused, Terminal, Unavailable, WorkspaceIncomplete

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_REFUSED = ("invalid_client", "unauthorized_client", "invalid_grant", "invalid_scope")
"""Error codes for credentials that are not valid (RFC 6749, 5.2)."""


def client(host: str | None = None, call: float = limits.CALL) -> "WorkspaceClient":
    """A client of the workspace. What it raises is handled by `translated`; without usable credentials it is a ValueError.

    Args:
        host: the workspace's URL; None: the workspace of the credentials.
        call: seconds that one call may wait for its answer.
    """
    limits.impose()
    import requests
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config

    config = None
    with limits.failures() as failed:
        try:
            config = Config(host=host, http_timeout_seconds=call, retry_timeout_seconds=limits.RETRIES)
        except ValueError as error:
            if not (failed and _names_no_token_service(error)):
                raise
    if failed and (config is None or isinstance(failed[0], requests.RequestException)):
        # The SDK goes on without the workspace's description of itself. The next call would meet the same, or miss the token service.
        raise failed[0]
    return WorkspaceClient(config=config)


@contextlib.contextmanager
def translated(doing: str, *, needs: str, without: str = "") -> Iterator[None]:
    """Translate the errors of databricks-sdk.

    Args:
        doing: the action, as the start of the message.
        needs: the permission that the action needs.
        without: what to do if there are no credentials.

    Raises:
        RequestRefused: the credentials, a permission or the request are not valid; or a proxy or a gateway refused the call.
        SettingsError: the object that the settings name does not exist.
        Terminal: the workspace took the request, and could not do what it asked for.
        Unavailable: the workspace, or its token service, does not answer or is temporarily unable to.
    """
    import requests
    from databricks.sdk import errors

    try:
        yield
    except (errors.DatabricksError, requests.RequestException, TimeoutError) as error:
        cause = answers.last(error)
        raise (_of_an_answer if isinstance(cause, errors.DatabricksError) else _of_no_answer)(doing, needs, cause) from error
    except errors.OperationFailed as error:
        raise Terminal(f"{doing} failed in the workspace{because(error)}") from error
    except (KeyError, NotImplementedError) as error:  # the SDK raises them if the response to a token request has no token
        raise Unavailable(f"{doing}: the workspace issued no token: {error!r}") from error
    except ValueError as error:
        # From a failed token request the SDK keeps only "code: description".
        nameless = _names_no_token_service(error)
        if nameless or (_is_about_a_token(error) and not any(word in str(error) for word in _REFUSED)):
            why = "; it does not name its token service" if nameless else because(error)
            raise Unavailable(f"{doing}: the workspace issued no token{why}") from error
        raise RequestRefused(
            f"{doing}: databricks-sdk finds no usable credentials{because(error)}{'; ' if without else ''}{without}"
        ) from error


def unavailable(message: str, error: object) -> Unavailable:
    """The error with the seconds that the answer asks to wait."""
    told = Unavailable(message)
    told.retry_after = answers.wait_of(error)
    return told


def _of_an_answer(doing: str, needs: str, error: Any) -> CarDamageError:
    from databricks.sdk import errors

    if answers.is_foreign(error) and not answers.may_pass(error):
        return RequestRefused(f"{doing} was refused{answers.in_full(error)}; check that this machine may reach the workspace")
    if isinstance(error, errors.PermissionDenied | errors.Unauthenticated):
        return RequestRefused(f"{doing} was refused{because(error)}; check the credentials, and {needs}")
    if isinstance(error, errors.NotFound):
        return WorkspaceIncomplete(f"{doing}{because(error)}; correct the name in the settings, or create the missing object")
    if isinstance(error, errors.BadRequest):
        return RequestRefused(f"{doing} was refused{because(error)}")
    return unavailable(f"{doing}: the workspace is temporarily unavailable{answers.in_full(error)}", error)


def _of_no_answer(doing: str, _needs: str, error: Any) -> CarDamageError:
    if limits.of_a_certificate(error):
        return RequestRefused(
            f"{doing}: the workspace's certificate is not valid here{answers.of_a_connection(error)}; check DATABRICKS_HOST, and "
            "REQUESTS_CA_BUNDLE if a proxy signs certificates"
        )
    return Unavailable(f"{doing}: the workspace does not answer{answers.of_a_connection(error)}")


def _names_no_token_service(error: BaseException) -> bool:
    """Whether the SDK sent its request for a token to the address None, as the workspace has not described itself."""
    from requests.exceptions import MissingSchema

    return any(isinstance(link, MissingSchema) for link in answers.chain(error))


def _is_about_a_token(error: Exception) -> bool:
    """Whether the SDK raised the error when it requested a token, not when it looked for credentials."""
    return any(frame.f_code.co_name == "retrieve_token" for frame, _ in walk_tb(error.__traceback__))
