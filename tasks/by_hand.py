"""Runs a flow in a terminal, and shows errors there without a traceback."""

import contextlib
import copy
import logging
import secrets
from collections.abc import Iterator
from typing import Any, cast

import typer
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from car_damage.commands.terminal import one_line
from car_damage.errors import CarDamageError, UnexpectedError
from car_damage.pipeline import LAST_VERSION
from car_damage.settings_sources import load
from tasks import local_server
from tasks.runner import runner_for
from tasks.stages import ENDPOINT_LIMIT

SERVER_START = 120
"""Seconds that Prefect's temporary server may take to start; Prefect's default of 20 is too short on a busy machine."""


def run(flow: "Flow[..., Any]", *args: Any, **kwargs: Any) -> "State[Any]":
    """Run the flow once, in this process, and return its final state, also when it failed.

    For an error of this project the terminal shows the message, which says what to do; the log on the Prefect server has the
    traceback too. The Prefect server is the one that `PREFECT_API_URL` or a profile names, else the one of `make up`. If there is none,
    Prefect starts a temporary one, on which this creates what the flow needs.
    """
    with one_line():
        local_server.use(load().home)
        temporary = PREFECT_API_URL.value() is None
        password = dict.fromkeys((PREFECT_SERVER_API_AUTH_STRING, PREFECT_API_AUTH_STRING), secrets.token_urlsafe()) if temporary else {}
        start = {PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: SERVER_START}
        with _without_tracebacks(), temporary_settings(updates=password, set_defaults=start):
            if temporary:
                with get_client(sync_client=True) as client:
                    client.upsert_global_concurrency_limit_by_name(ENDPOINT_LIMIT, 1)
            return cast("State[Any]", _cancelled_by_ctrl_c(flow)(*args, return_state=True, **kwargs))


def _cancelled_by_ctrl_c(flow: "Flow[..., Any]") -> "Flow[..., Any]":
    """The flow with the clean-up of a cancelled run also where it crashes: nobody starts a run by hand again, and Ctrl-C is a crash."""
    hooks = dict.fromkeys([*flow.on_cancellation_hooks, *flow.on_crashed_hooks])
    return flow.with_options(on_crashed=list(hooks))


def check_endpoint() -> None:
    """Check that the endpoint's server answers, so that a run does not fail at its last stage.

    Raises:
        SystemExit: it does not answer, or the settings are wrong; with a one-line message.
    """
    with one_line():
        runner_for(load()).platform.serving.state()


def version(text: str, word: str) -> int | str:
    """Parse a model version from the command line: a number, or the word that stands for one.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text == word:
        return text
    if not (text.isdecimal() and 1 <= int(text) <= LAST_VERSION):
        raise typer.BadParameter(f"{text} is neither a version number nor {word}", param_hint="--version")
    return int(text)


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """During the block Prefect's console handlers print no traceback for an error of this project."""
    before = [(handler, handler.formatter) for handler in _handlers()]
    for handler, original in before:
        handler.setFormatter(_MessageFormatter(original or logging.Formatter()))
    try:
        yield
    finally:
        for handler, original in before:
            handler.setFormatter(original)


def _handlers() -> set[logging.Handler]:
    named = (logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger))
    return {handler for logger in (logging.root, *named) for handler in logger.handlers if isinstance(handler, PrefectConsoleHandler)}


class _MessageFormatter(logging.Formatter):
    def __init__(self, original: logging.Formatter) -> None:
        super().__init__()
        self._original = original

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CarDamageError) and not isinstance(error, UnexpectedError):
            record = copy.copy(record)  # the other handlers get the same record
            record.exc_info = record.exc_text = None
        return self._original.format(record)
