"""Ends this process when its flow run has been started again elsewhere.

A run that seems lost is started again, and `attempts.take_over` kills its earlier process. It reaches only processes of its own machine:
not one in another container or pod, or with another worker. So each process of a run also looks whether it still is the latest one.
"""

import os
import threading
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException

from tasks import run_processes

LOOK = 15.0
"""Seconds between two looks."""


def watch(run: FlowRun) -> None:
    """End this process, with its descendants, as soon as the server counts a later start of its flow run than this one.

    Does nothing where no worker has started this process for the run: a person who starts a flow has one process.
    """
    if os.environ.get(run_processes.FLOW_RUN) == str(run.id):
        threading.Thread(target=_watch, args=(run.id, run.run_count), name="succession", daemon=True).start()


def _watch(run: UUID, start: int) -> None:
    pause = threading.Event()
    while not pause.wait(LOOK):
        if starts(run) > start:
            os.write(2, b"this flow run was started again elsewhere, so this process ends\n")
            run_processes.end(psutil.Process().children(recursive=True))
            # With success, and without a state: the worker would report a failure as the end of the run, which goes on.
            os._exit(0)


def starts(run: UUID) -> int:
    """How often the flow run has begun; 0 where the server does not say."""
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run).run_count
    except (httpx.HTTPError, PrefectException):
        return 0
