"""Removes the pictures from the artifacts of old runs, and leaves their text: pictures are most of Prefect's database.

MLflow has the pictures of a training and of a decision as files of their run.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from car_damage.pipeline import Leftover
from tasks.flow_runs import PICTURED
from tasks.markdown import without_pictures

T = TypeVar("T")

WITH_PICTURES = ("training-photos", "data-quality", "model", "decision", "monitoring")
RUNS, ARTIFACTS = 200, 20
"""In one answer of Prefect's server. It gives 200 at most, and a picture has up to 2 MB."""


def remove_pictures(now: datetime, keep_days: int) -> list[Leftover]:
    """Remove them from runs that began more than so many days before `now`, but never on the same day. Returns what was removed.

    Looks at the latest of these runs first, and ends with the first page of runs that have no picture: earlier runs lost theirs on an
    earlier night, and to look at all of them would take longer each night.
    """
    began = FlowRunFilter(start_time=FlowRunFilterStartTime(before_=now - timedelta(days=max(keep_days, 1))))
    shortened, freed = 0, 0
    with get_client(sync_client=True) as client:
        read = partial(client.read_flow_runs, flow_filter=PICTURED, flow_run_filter=began, sort=FlowRunSort.START_TIME_DESC)
        for runs in pages(read, RUNS):
            before = shortened
            for artifact in artifacts(client, runs):
                text = str(artifact.data)
                if (short := without_pictures(text)) != text:
                    client.update_artifact(artifact.id, ArtifactUpdate(data=short))
                    shortened, freed = shortened + 1, freed + len(text) - len(short)
            if shortened == before:
                break
    return [Leftover("pictures in artifacts", "runs of retrain and monitor", shortened, freed)] if shortened else []


def artifacts(client: SyncPrefectClient, runs: list[FlowRun] | None = None, keys: Sequence[str] = WITH_PICTURES) -> Iterator[Artifact]:
    """The artifacts of these runs, or of all, that have one of these keys."""
    named = ArtifactFilter(key=ArtifactFilterKey(any_=[*keys]))
    of = None if runs is None else FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))
    read = partial(client.read_artifacts, artifact_filter=named, flow_run_filter=of, sort=ArtifactSort.ID_DESC)
    for page in pages(read, ARTIFACTS):
        yield from page


def pages(read: Callable[..., list[T]], size: int) -> Iterator[list[T]]:
    """All pages that a call of Prefect's client gives."""
    for page in count():
        found = read(limit=size, offset=page * size)
        if found:
            yield found
        if len(found) < size:
            return
