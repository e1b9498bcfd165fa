"""A flow that a person starts in a terminal, and how its errors look there."""

import contextlib
import copy
import logging
from collections.abc import Iterator
from typing import Any, cast

import typer
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

from car_damage.errors import CarDamageError, UnexpectedError
from car_damage.pipeline import LAST_VERSION
from car_damage.settings_sources import load
from tasks.runner import runner_for
from tasks.stages import ENDPOINT_LIMIT

SERVER_START = 120
"""Seconds that a server which Prefect starts for this run alone may take; by default 20, too few for a machine that is busy."""


def run(flow: "Flow[..., Any]", *args: Any, **kwargs: Any) -> "State[Any]":
    """Run the flow once, in this process, and return its last state, whatever it is.

    Of an error that was foreseen the terminal shows the sentence, which says what to do; the flow run's log on the
    Prefect server has the traceback as well. A server that Prefect starts for this run alone is given what the flow needs of one.
    """
    with _sentences_only(), temporary_settings(set_defaults={PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: SERVER_START}):
        if PREFECT_API_URL.value() is None:
            with get_client(sync_client=True) as client:
                client.upsert_global_concurrency_limit_by_name(ENDPOINT_LIMIT, 1)
        return cast("State[Any]", flow(*args, return_state=True, **kwargs))


def see_endpoint() -> None:
    """Look whether the endpoint's server is there, before anything is done for which it is needed in the end.

    Raises:
        SystemExit: it is not, or the settings are wrong, in one sentence.
    """
    try:
        runner_for(load()).platform.serving.state()
    except CarDamageError as error:
        raise SystemExit(f"error: {error}") from None


def version(text: str, word: str) -> int | str:
    """A model version from the command line: a number, or the one word that stands for one.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text == word:
        return text
    if not (text.isdecimal() and 1 <= int(text) <= LAST_VERSION):
        raise typer.BadParameter(f"{text} is neither the number of a version nor {word}", param_hint="--version")
    return int(text)


@contextlib.contextmanager
def _sentences_only() -> Iterator[None]:
    """For the length of the block Prefect's handlers print no traceback of an error that was foreseen."""
    before = [(handler, handler.formatter) for handler in _handlers()]
    for handler, whole in before:
        handler.setFormatter(_WithoutTraceback(whole or logging.Formatter()))
    try:
        yield
    finally:
        for handler, whole in before:
            handler.setFormatter(whole)


def _handlers() -> set[logging.Handler]:
    named = (logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger))
    return {handler for logger in (logging.root, *named) for handler in logger.handlers if isinstance(handler, PrefectConsoleHandler)}


class _WithoutTraceback(logging.Formatter):
    def __init__(self, whole: logging.Formatter) -> None:
        super().__init__()
        self._whole = whole

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CarDamageError) and not isinstance(error, UnexpectedError):
            record = copy.copy(record)  # the other handlers are given the same one
            record.exc_info = record.exc_text = None
        return self._whole.format(record)
