"""Removes what a smoke test made, as far as it exists, and says what is left.

It looks for everything that the test could have made, by name, and not only for what it knows of: an answer may have been lost.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from car_damage.adapters.databricks import workspace
from car_damage.errors import CarDamageError, Unavailable
from car_damage.job.jobs import named
from car_damage.patience import Patience
from car_damage.ports import CHALLENGER, CHAMPION
from deployments.databricks import access_control, unity_catalog
from deployments.databricks.principal import Api
from deployments.smoke.steps import Smoke
from tasks.databricks_jobs import ENDING

REMOVED, ABSENT, LEFT = "removed", "was not there", "LEFT"
_WAITS = (5.0, 15.0, 30.0)
"""Seconds between the tries of a removal while the workspace does not answer."""


@dataclass(frozen=True)
class Removal:
    """What became of one thing."""

    what: str
    state: str
    error: str = ""


def remove(smoke: Smoke, begin: Callable[[str], None]) -> list[Removal]:
    """Remove everything, one after the other; a failure does not stop the rest.

    Args:
        smoke: what ran.
        begin: called with the name of each thing before it is removed.
    """
    done = []
    patiently = Patience(smoke.target.clock, _WAITS)
    for what, work in _things(smoke):
        begin(f"remove: {what}")
        try:
            state = patiently(work)
        except CarDamageError as error:
            done.append(Removal(what, LEFT, str(error)))
            if isinstance(error, Unavailable):
                patiently = Patience(smoke.target.clock, ())  # a workspace that is away is waited for once
        except Exception as error:  # noqa: BLE001 - whatever it is, a person must know what is left
            done.append(Removal(what, LEFT, f"{type(error).__name__}: {error}"))
        else:
            done.append(Removal(what, state))
    return done


def _things(smoke: Smoke) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name and removal of everything, what uses something before what it uses."""
    place, settings = smoke.place, smoke.place.settings
    api = cache(smoke.client)
    yield "runs of the jobs", lambda: _end_runs(smoke)
    for name in settings.databricks.jobs.values():
        yield f"job {name}", partial(_jobs, api, name)
    yield f"endpoint {settings.serving.endpoint}", _gone(lambda: api().serving_endpoints.delete(settings.serving.endpoint))
    yield f"registered model {settings.tracking.model}", lambda: _model(smoke, api)
    for name in access_control.experiments(settings):
        yield f"experiment {name}", _gone(partial(_experiment, api, name))
    yield f"tables of {place.schema}", lambda: _tables(api, place.catalog, place.name)
    for name in [*unity_catalog.landing(settings), *unity_catalog.volumes(settings)]:
        yield f"volume {name}", _gone(partial(_volume, api, name))
    yield f"schema {place.schema}", _gone(lambda: api().schemas.delete(place.schema))


def _gone(delete: Callable[[], Any]) -> Callable[[], str]:
    """A removal of what one call deletes."""

    def work() -> str:
        from databricks.sdk.errors import NotFound

        with workspace.translated("removing it", needs="ownership of it"):
            try:
                delete()
            except NotFound:
                return ABSENT
        return REMOVED

    return work


def _end_runs(smoke: Smoke) -> str:
    jobs, clock = smoke.runner.jobs, smoke.target.clock
    names, limit = smoke.place.settings.databricks.jobs.values(), clock.monotonic() + ENDING
    with workspace.translated("looking for the jobs", needs="CAN VIEW on them"):
        found = [job.job_id for name in names for job in named(smoke.client().jobs, name)]
    cancelled = False
    while live := [run for job in found for run in jobs.live(job, smoke.flow_run)]:
        if not cancelled:
            for run in live:
                jobs.cancel(run.run_id)
            cancelled = True
        if clock.monotonic() > limit:
            raise Unavailable(f"{len(live)} runs have not ended {ENDING:.0f} s after they were cancelled")
        clock.sleep(smoke.place.settings.databricks.poll)
    return REMOVED if cancelled else ABSENT


def _jobs(api: Api, name: str) -> str:
    with workspace.translated("removing it", needs="CAN MANAGE on it"):
        found = named(api().jobs, name)
        for job in found:
            api().jobs.delete(job.job_id)
    return REMOVED if found else ABSENT


def _model(smoke: Smoke, api: Api) -> str:
    from databricks.sdk.errors import NotFound

    name, registry = smoke.place.settings.tracking.model, smoke.target.registry
    with workspace.translated("removing it", needs="ownership of it"):
        try:
            api().registered_models.get(name)
        except NotFound:
            return ABSENT
        api().registered_models.update(name, owner=smoke.found["sign in"][0].caller)  # only an owner may remove versions
    for alias in (CHAMPION, CHALLENGER):
        registry.move(alias, None)
    for version in registry.all_versions():
        registry.remove(version.version)
    return _gone(lambda: api().registered_models.delete(name))()


def _experiment(api: Api, name: str) -> None:
    api().experiments.delete_experiment(api().experiments.get_by_name(name).experiment.experiment_id)


def _volume(api: Api, name: str) -> None:
    api().volumes.delete(name)


def _tables(api: Api, catalog: str, schema: str) -> str:
    from databricks.sdk.errors import NotFound

    with workspace.translated("removing them", needs="ownership of them"):
        try:
            found = list(api().tables.list(catalog, schema))
        except NotFound:  # the schema
            return ABSENT
        for table in found:
            api().tables.delete(table.full_name)
    return REMOVED if found else ABSENT
