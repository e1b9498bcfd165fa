"""The jobs of a workspace and their runs, as far as a flow run needs them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError, Unavailable, WorkspaceIncomplete

if TYPE_CHECKING:
    import contextlib

    from databricks.sdk import WorkspaceClient

FLOW_RUN = "flow_run"
"""The job parameter that names the flow run for which a run of the job works."""
TRACE = 1500
"""Characters of an error, and of the end of its trace, that a message carries."""
_ENDED = frozenset({"TERMINATED"})
_ENDED_BEFORE = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
"""The same, as values of `life_cycle_state`, which older workspaces give."""
_PASSING = frozenset(
    {
        "CLOUD_FAILURE",
        "CLUSTER_ERROR",
        "CLUSTER_REQUEST_LIMIT_EXCEEDED",
        "DRIVER_ERROR",
        "INTERNAL_ERROR",
        "MAX_CONCURRENT_RUNS_EXCEEDED",
        "MAX_JOB_QUEUE_SIZE_EXCEEDED",
        "MAX_SPARK_CONTEXTS_EXCEEDED",
        "REPOSITORY_CHECKOUT_FAILED",
        "STORAGE_ACCESS_ERROR",
        "WORKSPACE_RUN_LIMIT_EXCEEDED",
    }
)
"""Termination codes after which another run may succeed. Without a code the termination's type decides."""
_INTERNAL = "INTERNAL_ERROR"
"""The code of a failure of the platform, and also of an ordinary failure of a task: then its type is another one."""
_OF_THE_PLATFORM = frozenset({"CLOUD_FAILURE", _INTERNAL})
"""Termination types for which neither the user nor the job is at fault."""


@dataclass(frozen=True)
class JobRun:
    """A run of a job, as it stands."""

    run_id: int
    url: str
    """Where a person looks at it."""
    ended: bool
    succeeded: bool = False
    why: str = ""
    """How it ended, in the workspace's words: code and message."""
    passing: bool = False
    """The cause of its end may pass by itself."""
    waiting: bool = False
    """It is queued, or its compute is still starting."""


class Jobs:
    """Jobs by databricks-sdk.

    Args:
        client: makes the workspace client; called once.
    """

    def __init__(self, client: "Callable[[], WorkspaceClient]" = workspace.client) -> None:
        self._make = client

    def find(self, name: str) -> int:
        """The id of the one job of this name.

        Raises:
            WorkspaceIncomplete: there is none.
            SettingsError: there is more than one.
        """
        with _translated(f"looking for the job {name}"):
            found = [job.job_id for job in named(self._api, name)]
        if not found:
            raise WorkspaceIncomplete(f"there is no job {name} in the workspace")
        if len(found) > 1:
            raise SettingsError(
                f"there are {len(found)} jobs {name} in the workspace ({', '.join(map(str, found))}), and it must be one: "
                "doctor says which of them to delete"
            )
        return int(found[0] or 0)

    def live(self, job: int, flow_run: str | None = None) -> list[JobRun]:
        """The runs of this job that work for this flow run, or for any, and have not ended, the latest first."""
        with _translated(f"looking for runs of the job {job}"):
            found = self._api.list_runs(job_id=job, active_only=True)
            runs = [_run(run) for run in found if flow_run is None or _works_for(run, flow_run)]
        return [run for run in runs if not run.ended]

    def ended(self, job: int, flow_run: str, since: datetime) -> frozenset[int]:
        """The runs of this job that worked for this flow run and have ended."""
        with _translated(f"looking for runs of the job {job}"):
            runs = self._api.list_runs(job_id=job, completed_only=True, start_time_from=int(since.timestamp() * 1000))
            return frozenset(run.run_id for run in runs if _works_for(run, flow_run))

    def look(self, run_id: int) -> JobRun:
        """The state of a run. Raises Unavailable also for a run that is not there: a workspace may show it late."""
        from databricks.sdk.errors import NotFound

        with _translated(f"looking at the run {run_id}"):
            try:
                return _run(self._api.get_run(run_id))
            except NotFound as error:
                raise Unavailable(f"the run {run_id} is not there: {error}") from error

    def output(self, run_id: int) -> str:
        """The error of the run's task and the end of its trace; empty where there is none.

        Raises:
            RequestRefused, SettingsError, Unavailable: as `workspace.translated`.
        """
        with _translated(f"looking at the output of the run {run_id}"):
            # A job's run has no output of its own. A task that was retried is listed once for each try.
            tasks = self._api.get_run(run_id).tasks or ()
            if not tasks:
                return ""
            said = self._api.get_run_output(max(tasks, key=lambda task: task.attempt_number or 0).run_id)
        return "\n".join(filter(None, ((said.error or "")[:TRACE], (said.error_trace or "").strip()[-TRACE:])))

    def cancel(self, run_id: int) -> None:
        """Cancel a run. It may go on for a while. A run that has ended stays as it is."""
        with _translated(f"cancelling the run {run_id}", "CAN MANAGE RUN"):
            self._api.cancel_run(run_id)

    @cached_property
    def _api(self) -> Any:
        with _translated("reaching the workspace"):
            return self._make().jobs


def named(jobs: Any, name: str) -> list[Any]:
    """The jobs of exactly this name, by databricks-sdk's JobsAPI, whose list takes capitals for the same name."""
    return [job for job in jobs.list(name=name) if job.settings.name == name]


def _works_for(run: Any, flow_run: str) -> bool:
    return any(given.name == FLOW_RUN and given.value == flow_run for given in run.job_parameters or ())


def _run(run: Any) -> JobRun:
    url = run.run_page_url or ""
    state = run.status.state.value if run.status and run.status.state else ""
    if not state or (state in _ENDED and not run.status.termination_details):
        return _by_old_words(run, url)
    if state not in _ENDED:
        return JobRun(run.run_id, url, ended=False, waiting=state in {"BLOCKED", "PENDING", "QUEUED", "WAITING"})
    details = run.status.termination_details
    code = details.code.value if details.code else ""
    kind = details.type.value if details.type else ""
    why = ": ".join(filter(None, (code, details.message))) or "it ended without a reason"
    return JobRun(run.run_id, url, True, code == "SUCCESS", why, _may_pass(code, kind))


def _may_pass(code: str, kind: str) -> bool:
    if code == _INTERNAL:
        return kind != "CLIENT_ERROR"
    return code in _PASSING or (not code and kind in _OF_THE_PLATFORM)


def _by_old_words(run: Any, url: str) -> JobRun:
    """A run whose answer has only `state`, as older workspaces give it."""
    life = run.state.life_cycle_state.value if run.state and run.state.life_cycle_state else ""
    if life not in _ENDED_BEFORE:
        return JobRun(run.run_id, url, ended=False, waiting=life in {"PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY"})
    result = run.state.result_state.value if run.state.result_state else life
    why = ": ".join(filter(None, (result, run.state.state_message)))
    passing = life == _INTERNAL and not _has_failed_by_itself(run, result)
    return JobRun(run.run_id, url, True, result == "SUCCESS", why, passing)


def _has_failed_by_itself(run: Any, result: str) -> bool:
    """Whether the task has failed, and not the platform, where a run's life ended with INTERNAL_ERROR.

    It ends so also where the task ran and failed. Then the run's result is FAILED, and the task's own life ended with TERMINATED. If the
    platform could not run the task, that ends with INTERNAL_ERROR, too.
    """
    last = max(run.tasks or (), key=lambda task: task.attempt_number or 0, default=None)
    life = last.state.life_cycle_state if last and last.state else None
    return result == "FAILED" and (life is None or life.value != _INTERNAL)


def _translated(doing: str, needs: str = "CAN VIEW") -> "contextlib.AbstractContextManager[None]":
    return workspace.translated(doing, needs=f"{needs} on the job", without="name a credentials block in databricks.credentials")
