"""The runner that does stages as runs of Databricks jobs, and waits for their reports.

A stage has succeeded when its report is there, wherever it comes from. So the runner looks for the report first, then for a live
run of the job that works for this flow run, and only then does it start a run, from this stage on. Each start has an idempotency
token that is made of the request and the number of the attempt: a start that is repeated after a lost answer or a kill finds the
run that it has started, instead of starting a second one. Databricks keeps the token of a run that somebody has deleted, and refuses
it; then the next attempt's token counts.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from prefect.logging import get_run_logger

from car_damage.errors import CarDamageError, RequestRefused, Terminal, Transient, Unavailable, WorkspaceIncomplete
from car_damage.job import handover
from car_damage.job.handover import Place
from car_damage.job.jobs import FLOW_RUN, JobRun, Jobs
from car_damage.patience import Patience
from car_damage.ports import Files, Platform
from car_damage.stage import HOUR, Progress, Stage
from car_damage.stages import job_chain
from tasks import commands

Req = TypeVar("Req")
Rep = TypeVar("Rep")

STARTS = 8
"""Runs of a job that are started for one request of one flow run."""
CANCEL_RETRIES = 5
"""Times that each call is repeated which ends the work of a cancelled flow run, while the workspace does not answer."""
ENDING = 600.0
"""Seconds that a cancelled run may take to end."""


class StartRefused(RequestRefused):
    """The workspace refused to start a run, or has deleted the run that this token started: the refusal does not say which."""


@dataclass(frozen=True)
class Workspace:
    """A workspace, and the flow run, as the runner needs them."""

    files: Files
    """Reaches the folder of hand-overs."""
    jobs: Jobs
    start: Callable[[int, Mapping[str, str], str], int]
    """Starts a run of a job from its id, parameters and a token, and returns the run's id; where the token has started a run before,
    that run's id. Raises Unavailable, StartRefused, or RequestRefused."""
    options: Mapping[str, bool]
    """The parameters of the flow run; the requests of later stages follow from them."""
    cancelled: Callable[[], bool]
    """Whether the flow run is being cancelled."""
    linked: Callable[[str, JobRun], None]
    """Called with the stage and its run as soon as the run is known."""
    since: Callable[[], datetime]
    """A moment before which no run can have worked for this flow run."""


class DatabricksJobs:
    """Does stages as runs of jobs. Stages that only talk to services run in this process."""

    def __init__(self, platform: Platform, workspace: Workspace) -> None:
        self.platform = platform
        self._workspace = workspace

    @property
    def jobs(self) -> Jobs:
        """The jobs of its workspace."""
        return self._workspace.jobs

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        """Run a stage to its end and return its report.

        Raises:
            CarDamageError: what the stage raised in the job; or that no run of the job ended with a report.
        """
        with commands.advised():
            if stage.job is None:
                return stage.run(request, self.platform, progress)
            name = f"stage {stage.name}: "
            job = self.platform.settings.databricks.jobs[stage.job]
            try:
                report: Rep = _Wait(self.platform, self._workspace, stage, job, request, progress).report()
            except CarDamageError as error:
                if str(error).startswith(name):
                    raise
                raise type(error)(f"{name}{error}") from error
            return report

    def cancel(self, flow_run: str) -> None:
        """End the runs of jobs that work for a flow run.

        Raises:
            CarDamageError: the runs of a job could not be ended. Those of all other jobs were ended before it is raised.
        """
        jobs, settings = self._workspace.jobs, self.platform.settings.databricks
        # Retried here, because nothing else will retry it.
        patiently = Patience(self.platform.clock, [settings.poll] * CANCEL_RETRIES)
        problems: list[CarDamageError] = []
        for name in settings.jobs.values():
            try:
                for run in patiently(jobs.live, patiently(jobs.find, name), flow_run):
                    patiently(jobs.cancel, run.run_id)
            except CarDamageError as error:
                problems.append(error)
        if problems:
            with commands.advised():
                raise type(problems[0])("; ".join(map(str, problems)))

    def underway(self) -> list[str]:
        """The addresses of all runs of the jobs that have not ended, whatever flow run they work for.

        Raises:
            CarDamageError: the workspace does not answer, or refuses.
        """
        jobs, settings, found = self._workspace.jobs, self.platform.settings.databricks, list[str]()
        patiently = Patience(self.platform.clock, [settings.poll], settings.patience)
        for name in settings.jobs.values():
            with suppress(WorkspaceIncomplete):  # a job that is not there has no run
                found += [run.url for run in patiently(jobs.live, patiently(jobs.find, name))]
        return found


class _Wait:
    """The wait for one stage's report."""

    def __init__(  # noqa: PLR0917 - what, where, and how
        self, platform: Platform, workspace: Workspace, stage: Stage[Any, Any], job: str, request: Any, progress: Progress
    ) -> None:
        self._platform, self._workspace, self._stage, self._request = platform, workspace, stage, request
        self._files, self._jobs, self._clock = workspace.files, workspace.jobs, platform.clock
        self._settings = platform.settings.databricks
        self._place = Place.of(self._settings.handovers, stage.name, request)
        self._job_name = job
        self._deadline = self._clock.monotonic() + stage.deadline
        self._patiently = Patience(self._clock, [self._settings.poll], self._settings.patience, self._retrying)
        self._progress = progress
        self._step: handover.Step | None = None
        self._log = get_run_logger()

    def report(self) -> Any:
        if (report := self._written_report()) is not None:
            return report
        job = self._patiently(self._jobs.find, self._job_name)
        for run in self._patiently(self._jobs.live, job, self._place.flow_run):
            self._log.info("a run of the job %s works for this flow run already", self._job_name)
            if (report := self._follow(run)) is not None:
                return report
        # Only now is it known that none is still to be written: a run may have ended since the first look.
        if (report := self._written_report()) is not None:
            return report
        return self._follow(self._start(job), last=True)

    def _written_report(self) -> Any:
        return self._patiently(handover.read_report, self._files, self._place, self._stage.report)

    def _start(self, job: int) -> JobRun:
        """A run for this request that had not ended when it was started."""
        stages = ",".join(stage.name for stage in job_chain(self._stage))
        parameters = {FLOW_RUN: self._place.flow_run, "request": self._place.request, "stages": stages}
        options, settings = self._workspace.options, self._platform.settings
        self._patiently(handover.write_request, self._files, self._place, self._request, options, settings)
        ended = self._patiently(self._jobs.ended, job, self._place.flow_run, self._patiently(self._workspace.since))
        if self._workspace.cancelled():
            raise Terminal("the flow run is being cancelled")
        refusals: list[StartRefused] = []
        for attempt in range(STARTS):
            words = "\n".join((self._place.flow_run, str(job), self._stage.name, self._place.key, str(attempt)))
            try:
                run_id = self._patiently(self._workspace.start, job, parameters, hashlib.sha256(words.encode()).hexdigest())
            except StartRefused as error:
                refusals.append(error)
                continue
            if run_id not in ended:
                return self._patiently(self._jobs.look, run_id)
        if len(refusals) == STARTS:
            raise refusals[0]
        raise Terminal(
            f"{STARTS} runs of the job {self._job_name} have ended without a report for this flow run: see why, and start a new run"
        )

    def _follow(self, run: JobRun, last: bool = False) -> Any:
        """Wait for the run, and return the report.

        None where another run may do what this one has not done. That is so when this run is not the last one to follow, has left no
        failure for this request, and either succeeded (it had another request) or ended by something that may pass.
        """
        self._workspace.linked(self._stage.name, run)
        self._log.info("stage %s runs in Databricks: %s", self._stage.name, run.url)
        while True:
            # In this order: a run that has ended before its report is looked for writes none after it.
            if (report := self._written_report()) is not None:
                return report
            if run.ended:
                if error := self._patiently(handover.read_failure, self._files, self._place, run.run_id):
                    raise type(error)(f"{error} ({run.url})")
                if last or not (run.succeeded or run.passing):
                    raise self._without_report(run)
                self._log.warning("the run %s ended without a report of this stage: %s", run.url, run.why)
                return None
            self._show_progress(run)
            if self._workspace.cancelled():
                raise Terminal(f"the flow run is being cancelled, and its run in Databricks {self._cancel(run)}: {run.url}")
            if self._clock.monotonic() > self._deadline:
                hours = self._stage.deadline / HOUR
                raise Terminal(f"it took longer than {hours:g} hours, and its run in Databricks {self._cancel(run)}: see {run.url}")
            self._clock.sleep(self._settings.poll)
            run = self._patiently(self._jobs.look, run.run_id)

    def _show_progress(self, run: JobRun) -> None:
        try:
            step = handover.read_progress(self._files, self._place)
        except CarDamageError:
            return  # it is only shown
        if step is None and run.waiting and self._step is None:
            self._step = handover.Step("", 0, 0)
            self._log.info("waiting for the job's compute, which takes minutes when it is cold")
        elif step is not None and step != self._step:
            self._step = step
            self._progress(step.step, step.done, step.total, step.message)

    def _cancel(self, run: JobRun) -> str:
        """Cancel a run, and wait until it has ended, because a run that goes on could still write. Returns what came of it."""
        limit = self._clock.monotonic() + ENDING
        try:
            Patience(self._clock, [self._settings.poll], ENDING)(self._jobs.cancel, run.run_id)
        except Unavailable:
            return "could not be cancelled, as the workspace does not answer"
        while self._clock.monotonic() < limit:
            try:
                if self._jobs.look(run.run_id).ended:
                    return "was cancelled"
            except Unavailable as error:
                self._log.warning("the workspace does not answer; trying again: %s", error)
            self._clock.sleep(self._settings.poll)
        return "is being cancelled, and has not ended yet"

    def _without_report(self, run: JobRun) -> CarDamageError:
        """The error of a run that has ended with neither report nor failure."""
        name = f"the run {run.url or run.run_id} of the job {self._job_name}"
        if run.succeeded:
            return Terminal(
                f"{name} succeeded and left no report in {self._place.folder}: see its output, whether its identity has WRITE VOLUME "
                f"there, and whether the job is the one that `{commands.BOOTSTRAP}` makes"
            )
        try:
            output = self._jobs.output(run.run_id)
        except CarDamageError as error:
            self._log.warning("the output of the run's task could not be read: %s", error)
            output = ""
        message = f"{name} ended without a report: {run.why}"
        return (Transient if run.passing else Terminal)(f"{message}\n{output}" if output else message)

    def _retrying(self, error: Unavailable, seconds: float) -> None:
        if self._workspace.cancelled():
            raise Terminal("the flow run is being cancelled") from error
        self._log.warning("the workspace does not answer; trying again in %.0f s: %s", seconds, error)
