"""Stage tidy: removes what no run, rollback or audit needs any more, so that disk and time do not grow with the nights.

It runs where the flow runs, also when other stages are jobs in Databricks: there the tables are in Unity Catalog, which tidies them
itself, and the rest is a few requests, for which no compute has to start. A kill leaves less to remove for the next run.
"""

import json
from dataclasses import replace
from datetime import timedelta

from car_damage.data.people.desk import Desk
from car_damage.errors import RegistryError
from car_damage.model.run_files import evidence_file
from car_damage.pipeline import Leftover, TidyReport, TidyRequest
from car_damage.ports import ModelVersion, Platform, RunSummary
from car_damage.promotion.retention import Holdings
from car_damage.stage import Progress, Stage
from car_damage.stages.monitoring import old_requests
from car_damage.stages.training import transfer


def work(request: TidyRequest, platform: Platform, progress: Progress) -> TidyReport:
    """Remove it, or with a dry run only find it."""
    before = platform.clock.now() - timedelta(days=platform.settings.tracking.keep_days)
    holdings = Holdings.of(platform)
    over = holdings.over(before, request.training_key, request.fallback_key)
    trainings = _trainings(request, platform, holdings, over)
    rest = replace(holdings, runs=[run for run in holdings.runs if run not in over])
    needed = holdings.needed_runs
    deleted = [run for run in platform.archive.deleted() if (run.ended or run.started) < before and run.run_id not in needed]
    features = _features(request, platform, holdings)
    tables = _tables(request, platform, rest, progress)
    return TidyReport(
        (*trainings, *_deleted(request, platform, deleted), *features, *_requests(request, platform), *tables, *_kept(request, platform))
    )


def _trainings(request: TidyRequest, platform: Platform, holdings: Holdings, over: list[RunSummary]) -> list[Leftover]:
    """Archive the decisions first: a run whose version is gone after a kill has nothing left to archive, and goes next time."""
    leftovers = [Leftover("training", _named(run, holdings.versions_of(run)), 1, platform.archive.bytes_of(run)) for run in over]
    if request.dry_run or not over:
        return leftovers
    versions = [(run, version) for run in over for version in holdings.versions_of(run)]
    if versions:
        platform.archive.keep({f"version-{version.version}.json": _document(platform, run, version) for run, version in versions})
    for _, version in versions:
        platform.registry.remove(version.version)
    platform.archive.remove(over)
    return leftovers


def _document(platform: Platform, run: RunSummary, version: ModelVersion) -> bytes:
    """All that is left of a decision: the version's tags, the training's numbers, and the evidence as the stage register wrote it."""
    try:
        evidence = json.loads(platform.tracking.fetch(run.run_id, evidence_file(version.version)))
    except RegistryError:  # never decided, or the file was deleted
        evidence = None
    training = {"run_id": run.run_id, "name": run.name, "started": run.started.isoformat(), "tags": run.tags, "metrics": run.metrics}
    document = {"version": version.version, "tags": dict(version.tags), "decision": evidence, "training": training}
    return json.dumps(document, indent=1, default=dict).encode()


def _named(run: RunSummary, versions: list[ModelVersion]) -> str:
    of = ", ".join(f"version {version.version}" for version in versions)
    return f"{run.name}, {of or run.status.lower()}"


def _deleted(request: TidyRequest, platform: Platform, runs: list[RunSummary]) -> list[Leftover]:
    leftovers = [Leftover("deleted training", run.name, 1, platform.archive.bytes_of(run)) for run in runs]
    if runs and not request.dry_run:
        platform.archive.remove(runs)
    return leftovers


def _features(request: TidyRequest, platform: Platform, holdings: Holdings) -> list[Leftover]:
    """Features of photos that left silver, and of backbones that no needed training has. Jobs do this after a training: only they
    have the engine of the tables.
    """
    if platform.settings.databricks.stages == "jobs":
        return []
    keys = transfer.superfluous(platform, holdings.features(request.training_key, request.fallback_key))
    if not request.dry_run:
        transfer.remove(keys, platform)
    return [Leftover("features", platform.settings.tables.features, keys.num_rows, None)] if keys.num_rows else []


def _requests(request: TidyRequest, platform: Platform) -> list[Leftover]:
    """Old rows of the request log. In jobs the stage monitor removes them."""
    if platform.settings.databricks.stages == "jobs":
        return []
    gone = old_requests.found(platform)
    if not request.dry_run:
        old_requests.remove(gone, platform)
    return [Leftover("requests", platform.settings.tables.inference_log, gone.num_rows, None)] if gone.num_rows else []


def _kept(request: TidyRequest, platform: Platform) -> list[Leftover]:
    """Photos that were kept for a person and wait no longer."""
    folder = platform.settings.answers.keep_for_review
    if not folder:
        return []
    desk = Desk(platform.files, platform.settings.answers, platform.clock)
    over = desk.over()
    if not request.dry_run:
        desk.remove(over)
    return [Leftover("photos kept for review", folder, len(over), sum(file.size for file in over))] if over else []


def _tables(request: TidyRequest, platform: Platform, holdings: Holdings, progress: Progress) -> list[Leftover]:
    names, silver, leftovers = platform.settings.tables, holdings.silver_versions(), []
    for done, table in enumerate(names.all, 1):
        space = platform.tables.tidy(table, names.keep_days, silver if table == names.silver else (), dry_run=request.dry_run)
        progress("tables", done, len(names.all), table)
        if space is not None and space.files:
            leftovers.append(Leftover("old versions of a table", table, space.files, space.bytes))
    return leftovers


STAGE = Stage("tidy", TidyRequest, TidyReport, work)
