"""What `doctor` looks at in a workspace beside bootstrap's items: whose the credentials are, their reach, which wheel runs."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import Unseen
from deployments.databricks import needs
from deployments.databricks.principal import Principal, principal
from tasks.workspace import use_credentials

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient


def looks(settings: Settings, client: "Callable[[], WorkspaceClient]" = workspace.client) -> Mapping[str, Callable[[], str]]:
    """Name -> a look that says what was found, or raises one of our errors, whose message says what to do."""
    api = cache(client)
    jobs = (settings.databricks.ingest_job, settings.databricks.train_job, settings.databricks.score_job)
    return {
        "hand-overs": partial(_reach, api, settings.databricks.handovers),
        **{f"wheel of {name}": partial(_wheel, api, name, needs.wheel_path(settings)) for name in jobs},
    }


def credentials(settings: Settings, client: "Callable[[], WorkspaceClient]" = workspace.client) -> str:
    """Whose they are.

    Raises:
        Unseen: they work, and are not the service's: what they see may not be what it sees.
        RequestRefused, SettingsError, Unavailable: they do not work.
    """
    use_credentials(settings.databricks.credentials)
    who, told = sign_in(settings, client)
    if not who.is_caller:
        raise Unseen(f"{told}, and the worker must work as {who.name} (databricks.service_principal): give it that one's credentials")
    return told


def sign_in(settings: Settings, client: "Callable[[], WorkspaceClient]" = workspace.client) -> tuple[Principal, str]:
    """Who asks and whom the service works as; and, to be shown, who asks, in what way, and where.

    Raises:
        RequestRefused, Unavailable: the credentials do not work, or the workspace does not answer.
    """
    with workspace.translated("looking for credentials", needs="that there are some"):
        api = client()
    who = principal(lambda: api, settings)
    return who, f"{who.caller} by {api.config.auth_type} at {api.config.host}"


def _reach(api: "Callable[[], WorkspaceClient]", folder: str) -> str:
    """Listed and not written to: that its volume may be written to is what its grants say."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"listing {folder}", needs="READ VOLUME on the volume"):
        try:
            next(iter(api().files.list_directory_contents(folder)), None)
        except NotFound:
            # A folder below its volume is made with the first file in it.
            volume = "/".join(folder.split("/")[:5])
            next(iter(api().files.list_directory_contents(volume)), None)
    return f"{folder} can be listed"


def _wheel(api: "Callable[[], WorkspaceClient]", name: str, wheel: str) -> str:
    job = needs.find_job(api, name)
    if job is None:
        raise SettingsError(f"the job {name} is not there: `{needs.BOOTSTRAP}` makes it")
    dependencies = [need for environment in job.settings.environments or [] for need in environment.spec.dependencies or []]
    dependencies += [library.whl for task in job.settings.tasks or [] for library in task.libraries or [] if library.whl]
    installed = [need.partition("[")[0] for need in dependencies if ".whl" in need]
    if installed != [wheel]:
        bundle = f"`databricks bundle deploy --var wheel={wheel}`"
        raise SettingsError(
            f"{name} installs {', '.join(installed) or 'no wheel'}, and this checkout's is {wheel}: "
            f"{bundle if needs.of_a_bundle(job) else f'`{needs.BOOTSTRAP}`'} puts it right"
        )
    return wheel.rpartition("/")[2]
