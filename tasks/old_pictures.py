"""Removes the pictures from the artifacts of old runs, and leaves their text: pictures are most of Prefect's database.

MLflow has the pictures of a training and of a decision as files of their run.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import Artifact

from car_damage.pipeline import Leftover
from tasks.flow_runs import RETRAIN
from tasks.markdown import without_pictures

WITH_PICTURES = ["training-photos", "data-quality", "model", "decision"]
"""Keys of artifacts that have pictures."""
WINDOW = timedelta(days=60)
"""How far before `keep_days` runs are looked at. Earlier ones were looked at on an earlier night, and reading all of them would take
longer each night."""
PAGE = 20
"""Artifacts of a run, at most."""


def remove_pictures(now: datetime, keep_days: int) -> list[Leftover]:
    """Remove them from runs that began more than so many days before `now`, but never on the same day. Returns what was removed."""
    before = now - timedelta(days=max(keep_days, 1))
    shortened, freed = 0, 0
    with get_client(sync_client=True) as client:
        for artifact in _artifacts(client, before - WINDOW, before):
            text = str(artifact.data)
            if (short := without_pictures(text)) != text:
                client.update_artifact(artifact.id, ArtifactUpdate(data=short))
                shortened, freed = shortened + 1, freed + len(text) - len(short)
    return [Leftover("pictures in artifacts", "runs of retrain", shortened, freed)] if shortened else []


def _artifacts(client: SyncPrefectClient, since: datetime, before: datetime) -> Iterator[Artifact]:
    period = FlowRunFilter(start_time=FlowRunFilterStartTime(after_=since, before_=before))
    runs = client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=period)
    for run in runs:
        yield from client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=WITH_PICTURES)),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
            limit=PAGE,
        )
