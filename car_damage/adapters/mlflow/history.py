"""The champion's history in MLflow: each promotion and each rollback is a run, next to the training runs.

A run starts before anything changes and ends after the alias has moved. So a kill leaves a run that is RUNNING, which
the next update continues or abandons.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from car_damage.adapters.mlflow.client import MlflowAdapter, experiment_id, translated
from car_damage.adapters.mlflow.provenance import software, user
from car_damage.moves import ABANDONED, DONE, FAILED, NO_VERSION, ROLLBACK, UNDERWAY, Intention, Move
from car_damage.ports import FLOW_RUN_TAG, TAG_LIMIT

if TYPE_CHECKING:
    from mlflow.entities import Run

KIND_TAG = "move"
"""The tag that distinguishes these runs from trainings."""

_PERSON = "person"
_STATUS: Mapping[str, str] = MappingProxyType({UNDERWAY: "RUNNING", DONE: "FINISHED", FAILED: "FAILED", ABANDONED: "KILLED"})
_STATE = {status: state for state, status in _STATUS.items()}


class MlflowHistory(MlflowAdapter):
    """The port `History` on `MlflowClient`. Every method raises Unavailable or RegistryError: see `client.translated`."""

    def begin(self, intention: Intention) -> Move:
        from mlflow.entities import Metric

        name = f"{'roll back to' if intention.kind == ROLLBACK else 'promote'} version {intention.version}"
        tags = {
            KIND_TAG: intention.kind,
            "model": self._settings.tracking.model,
            "version": str(intention.version),
            "replaces": _named(intention.replaces),
            "displaced": _named(intention.displaced),
            "decided_by": _PERSON if intention.by_person else "rule",
            "reason": intention.reason[:TAG_LIMIT],
            "by": intention.by[:TAG_LIMIT],
            FLOW_RUN_TAG: intention.flow_run,
            "mlflow.user": user(),
        }
        with translated(f"recording that version {intention.version} is to go live"):
            run = self._client.create_run(experiment_id(self._client, self._settings), tags={**software(), **tags}, run_name=name)
            at = run.info.start_time
            self._client.log_batch(run.info.run_id, [Metric(key, value, at, 0) for key, value in intention.metrics.items()])
        return Move(run.info.run_id, intention, _time(at), None, UNDERWAY)

    def close(self, move: Move, state: str, why: str = "") -> None:
        with translated(f"recording how the move to version {move.intention.version} ended"):
            if why:
                self._client.set_tag(move.run_id, "failure", why[:TAG_LIMIT])
            self._client.set_terminated(move.run_id, _STATUS[state])

    def moves(self, state: str | None = None) -> list[Move]:
        with translated("reading the champion's history"):
            wanted = f"tags.{KIND_TAG} LIKE '%' and tags.model = '{self._settings.tracking.model}'"
            if state is not None:
                wanted += f" and attributes.status = '{_STATUS[state]}'"
            return [_move(run) for run in self._runs(wanted)]


def _move(run: "Run") -> Move:
    tags, info = run.data.tags, run.info
    intention = Intention(
        kind=tags[KIND_TAG],
        version=int(tags["version"]),
        replaces=_number(tags["replaces"]),
        reason=tags.get("reason", ""),
        by=tags.get("by", ""),
        flow_run=tags.get(FLOW_RUN_TAG, ""),
        by_person=tags.get("decided_by") == _PERSON,
        displaced=_number(tags.get("displaced", NO_VERSION)),
        metrics=dict(run.data.metrics),
    )
    ended = _time(info.end_time) if info.end_time else None
    return Move(info.run_id, intention, _time(info.start_time), ended, _STATE.get(info.status, UNDERWAY), tags.get("failure", ""))


def _named(version: int | None) -> str:
    return NO_VERSION if version is None else str(version)


def _number(named: str) -> int | None:
    return None if named == NO_VERSION else int(named)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
