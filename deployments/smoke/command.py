"""The command `python -m deployments smoke`: the steps, the removal, and the report, whatever happens between them."""

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from prefect.logging import disable_run_logger

from car_damage.errors import CarDamageError
from car_damage.settings import Settings
from deployments.release import version
from deployments.smoke import place as places
from deployments.smoke import redaction, report
from deployments.smoke.calls import Calls, recorded
from deployments.smoke.removal import Removal, remove
from deployments.smoke.report import FAILED, NOT_REACHED, OK, Done, Report
from deployments.smoke.steps import Smoke


def smoke(settings: Settings, folder: Path, *, endpoint: bool, show: Callable[[str], None] = print) -> Report:
    """Try everything in a new schema, remove it, and write the report into the folder.

    Args:
        settings: of the workspace. Credentials are in the environment, as databricks-sdk finds them.
        folder: for the two files of the report.
        endpoint: also create an endpoint, which takes up to an hour and costs as long as it is up.
        show: called with each line for the person who waits.

    Raises:
        SettingsError: the settings are not for a workspace.
    """
    place = places.new(settings)
    hidden = redaction.of(settings, place.name)
    calls, done, removals = Calls(), list[Done](), list[Removal]()
    run = Smoke(place, settings.databricks.service_principal)
    interrupted = True
    show(f"working in the new schema {place.schema}, in jobs, an experiment and an endpoint of this name; all of it is removed at the end")
    with recorded(calls), disable_run_logger():
        try:
            _take_steps(run, calls, done, hidden, endpoint=endpoint, show=show)
            interrupted = False
        finally:
            if "sign in" in run.found:  # without credentials nothing was made
                removals = remove(run, lambda what: setattr(calls, "step", what))
            found = Report(version(), _cloud(calls.host), interrupted, done, calls.made, removals)
            for one in found.left:
                show(f"LEFT  {one.what}: {one.error}")
            for path in report.write(found, folder, place.name, hidden):
                show(f"the report, without names and secrets of your workspace: {path}")
    return found


def _take_steps(
    run: Smoke, calls: Calls, done: list[Done], hidden: redaction.Redaction, *, endpoint: bool, show: Callable[[str], None]
) -> None:
    for step in run.steps(endpoint=endpoint):
        if lacking := [name for name in step.after if name not in run.found]:
            done.append(Done(step.name, NOT_REACHED, error=f"needs: {', '.join(lacking)}"))
            continue
        calls.step, start = step.name, time.monotonic()
        if step.name == "sign in":
            _know(run, calls, hidden)
        state, told = FAILED, "interrupted"
        try:
            run.found[step.name] = step.work()
            state, told = OK, ""
            if step.name == "sign in":
                hidden.known |= {run.found[step.name][0].caller: "<caller>", run.found[step.name][0].name: "<principal>"}
        except CarDamageError as error:
            told = str(error)
        except Exception as error:  # noqa: BLE001 - a report of the unexpected is what the test is for
            told = f"{type(error).__name__}: {error}"
        finally:
            done.append(Done(step.name, state, round(time.monotonic() - start, 1), told))
            show(f"{state:6} {step.name}{': ' if told else ''}{told}")


def _know(run: Smoke, calls: Calls, hidden: redaction.Redaction) -> None:
    """Learn the workspace's host, and what the credentials hold."""
    try:
        config = run.client().config
    except (ValueError, OSError):  # the step itself says so; errors of the SDK and of requests are OSErrors
        return
    calls.host = urlsplit(config.host).netloc
    hidden.known[calls.host] = "<host>"
    for name in ("token", "client_id", "client_secret", "azure_client_id", "azure_client_secret", "azure_tenant_id", "password"):
        if value := getattr(config, name, None):
            hidden.known[str(value)] = f"<{name}>"


def _cloud(host: str) -> str:
    """The cloud of a workspace by the end of its host's name."""
    name = host.partition(":")[0]
    clouds = {".azuredatabricks.net": "Azure", ".gcp.databricks.com": "Google Cloud", ".databricks.com": "AWS"}
    return next((cloud for ending, cloud in clouds.items() if name.endswith(ending)), "an unknown cloud")
