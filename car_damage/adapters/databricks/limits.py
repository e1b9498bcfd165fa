"""The limits of every call to a workspace, also of the calls that MLflow makes with clients of its own.

databricks-sdk repeats a call for 300 s and asks for tokens without any limit, and MLflow repeats its calls for 500 s. Neither has a
setting for the clients that the other creates, so `impose` puts the limits where all their calls pass.
"""

import contextlib
import functools
import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from car_damage.adapters.databricks import answers

CONNECT = 10.0
"""Seconds that connecting may take, with the TLS handshake."""
CALL = 60
"""Seconds that one call may wait for its answer."""
RETRIES = 15
"""Seconds during which a failed call is repeated. Callers repeat it for longer; this only covers short failures."""
JOB_RETRIES = 300
"""The same, for MLflow's calls in a job: there, nothing but a new run would repeat them."""
_MLFLOW = "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT"
"""The variable that MLflow reads for RETRIES."""

_log = logging.getLogger("databricks.sdk")
_failures = threading.local()
_installing = threading.Lock()
"""Two threads at once would wrap what is wrapped already, and then the wait that an answer asks for is lost."""


def impose() -> None:
    """Limit all calls that this process makes by databricks-sdk, requests and MLflow. Variables of MLflow that are set stay as they are."""
    for name, value in {_MLFLOW: RETRIES, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 3, "MLFLOW_HTTP_REQUEST_TIMEOUT": CALL}.items():
        os.environ.setdefault(name, str(value))
    with _installing:
        _install()


def set_for_a_job() -> None:
    """Give MLflow's calls a job's patience. `impose`, which comes before each client, keeps to it; it would import databricks-sdk here."""
    os.environ.setdefault(_MLFLOW, str(JOB_RETRIES))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")


@contextlib.contextmanager
def failures() -> Iterator[list[Exception]]:
    """The failures of this thread's calls in a with block, as they come, also of those calls whose failure the SDK or MLflow ignores.

    Only failures that may pass: there was no answer, or the status was 429, or 500 and more.
    """
    found: list[Exception] = []
    outer, _failures.found = getattr(_failures, "found", None), found
    try:
        yield found
    finally:
        _failures.found = outer


def of_a_certificate(error: BaseException) -> bool:
    """Whether the host's certificate is not valid here, which no repetition changes."""
    return any(isinstance(link, ssl.SSLCertVerificationError) for link in answers.chain(error))


@functools.cache
def _install() -> None:
    from databricks.sdk import _base_client
    from databricks.sdk.errors.parser import _Parser
    from requests.adapters import HTTPAdapter

    HTTPAdapter.send = _in_time(HTTPAdapter.send)  # type: ignore[method-assign]
    _base_client.retried = _retried
    _Parser.get_api_error = answers.described(_Parser.get_api_error, RETRIES)
    if _log.level == logging.NOTSET:
        _log.setLevel(logging.ERROR)  # its warnings are part of our errors


def _in_time(send: Callable[..., Any]) -> Callable[..., Any]:
    """`HTTPAdapter.send`, which waits for ever unless it is given a limit."""

    @functools.wraps(send)
    def limited(self: Any, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
        if timeout is None:
            timeout = (CONNECT, CALL)
        elif isinstance(timeout, int | float):
            timeout = (min(CONNECT, timeout), timeout)
        return send(self, request, stream=stream, timeout=timeout, **options)

    return limited


def _retried(*, timeout: timedelta, is_retryable: Callable[[BaseException], str | None], **options: Any) -> Callable[..., Any]:
    """In the place of the SDK's `retried`: no longer than our limit, and it raises the last answer instead of "Timed out"."""
    import requests
    from databricks.sdk.retries import retried

    def repeatable(error: BaseException) -> str | None:
        return None if of_a_certificate(error) else is_retryable(error)

    limit = timedelta(seconds=float(os.environ.get(_MLFLOW) or RETRIES))
    repeat = retried(timeout=min(timeout, limit), is_retryable=repeatable, **options)

    def decorated(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return repeat(call)(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = answers.last(error)
            found = getattr(_failures, "found", None)
            if found is not None and (isinstance(failure, requests.ConnectionError | requests.Timeout) or answers.may_pass(failure)):
                found.append(failure)
            context = failure.__context__
            try:
                raise failure
            finally:
                failure.__context__ = context  # Python has replaced it where another exception is being handled

        return wrapper

    return decorated
