"""What the answer to a failed call says, and whether it is Databricks' answer at all."""

import functools
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

_CODE = re.compile(r"[A-Z_]+: ")
"""How an older API of Databricks begins an error. Its pages have the message in <pre>."""
_TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
_LONGEST = 100
"""Characters of a page's title in a message, at most."""


def described(parse: Callable[..., Any], patience: float) -> Callable[..., Any]:
    """databricks-sdk's `parse`, which makes an error of an answer, with more attributes.

    - http_status: the status of the answer.
    - retry_after: seconds that the answer asks to wait; 0 if it asks for nothing. The SDK waits only for up to `patience` seconds.
    - foreign: whether something else than Databricks has answered. The SDK would take the words of a proxy for Databricks', or call
      the answer a bug of its own and repeat the whole request in the message, with up to 10 kB of a photo.
    """

    @functools.wraps(parse)
    def get_api_error(self: Any, response: Any) -> Any:
        foreign = not response.ok and not _is_of_databricks(response.content)
        error = _of_a_gateway(response) if foreign else parse(self, response)
        if error is None:
            return None
        error.http_status, error.foreign, error.retry_after = response.status_code, foreign, error.retry_after_secs or 0
        if error.retry_after > patience:
            error.retry_after_secs = None
        return error

    return get_api_error


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, down to the first one."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def error_of(answer: Any) -> Exception:
    """databricks-sdk's error for an answer that httpx got."""
    import requests
    from databricks.sdk.errors.parser import _Parser

    same = requests.Response()
    same.request = requests.Request(answer.request.method, str(answer.url)).prepare()
    same.url, same.status_code, same.reason = str(answer.url), answer.status_code, answer.reason_phrase
    same.raw = io.BytesIO(answer.content)
    same.headers.update(answer.headers)
    error: Exception = _Parser().get_api_error(same)
    return error


def last(error: Exception) -> Exception:
    """The last answer before databricks-sdk gave up; the error itself if it is one."""
    cause = error.__cause__
    return cause if isinstance(error, TimeoutError | RuntimeError) and isinstance(cause, OSError) else error


def message_of(error: BaseException) -> str:
    """Databricks' message in an error of databricks-sdk, without the SDK's configuration, which it adds. Empty if there is none."""
    message = str(error).partition(". Config: ")[0]
    return "" if message == "None" else message


def because(error: BaseException) -> str:
    """The message with a colon in front of it; empty if there is none."""
    message = message_of(error)
    return f": {message}" if message else ""


def status_of(error: Any) -> int:
    """The HTTP status of the answer that became this error; 0 if there was no answer."""
    return getattr(error, "http_status", 0)


def is_foreign(error: Any) -> bool:
    """Whether something else than Databricks has answered."""
    return getattr(error, "foreign", False)


def may_pass(error: Any) -> bool:
    """Whether the answer is that of a service which may be there later: its status is 429, or 500 and more."""
    return status_of(error) == 429 or status_of(error) >= 500


def wait_of(error: Any) -> float:
    """Seconds that the answer asks to wait."""
    return float(getattr(error, "retry_after", 0))


def in_full(error: BaseException) -> str:
    """With a colon in front: the status, the message, and a wait that the answer asks for, as far as they are known."""
    status, wait = status_of(error), wait_of(error)
    words = [f"HTTP {status}" if status and not is_foreign(error) else "", message_of(error)]
    said = ": ".join(filter(None, words)) + (f"; it asks to wait {wait:g} s" if wait > 1 else "")
    return f": {said}" if said else ""


def of_a_connection(error: Any) -> str:
    """The host that does not answer, and why, of an error of requests: the socket's error, because the others repeat the whole address."""
    from requests import RequestException

    sockets = (link for link in chain(error) if isinstance(link, OSError) and not isinstance(link, RequestException))
    host = urlsplit(str(getattr(getattr(error, "request", None), "url", ""))).netloc
    return f"{f' at {host}' if host else ''}{because(next(sockets, error))}"


def _is_of_databricks(body: bytes) -> bool:
    text = body.decode("utf-8", "replace").strip()
    if not text or _CODE.match(text) or "<pre>" in text:
        return True
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _of_a_gateway(response: Any) -> Any:
    """An error of no particular kind, because a gateway's 403 or 404 says nothing about permissions and objects in the workspace."""
    from databricks.sdk.errors import DatabricksError
    from databricks.sdk.errors.customizer import _RetryAfterCustomizer

    title = _TITLE.search(response.content.decode("utf-8", "replace"))
    page = f" (its title: {title[1][:_LONGEST]})" if title and title[1] else ""
    given = {"message": f"HTTP {response.status_code} from a proxy or a gateway, and not from Databricks{page}"}
    _RetryAfterCustomizer().customize_error(response, given)
    return DatabricksError(**given)
