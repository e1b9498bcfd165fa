"""Doctor's checks of a workspace besides bootstrap's items: the credentials, the hand-over folder, and the wheel of each job."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.serving import workspace_host
from car_damage.adapters.databricks.volume import is_elsewhere
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import NotVisible, quoted
from deployments.databricks import jobs, needs, quality_monitors, unity_catalog
from deployments.databricks.principal import Api, Principal, principal
from deployments.items import ABSENT
from tasks.commands import BOOTSTRAP, BUNDLE_DEPLOY
from tasks.workspace import use_credentials


def checks(settings: Settings, client: Api = workspace.client) -> Mapping[str, Callable[[], str]]:
    """Name -> check, which returns what it found, or raises an error whose message says what to do."""
    api = cache(client)
    return {
        "hand-overs": partial(_check_folder, api, settings.databricks.handovers),
        **{f"wheel of {name}": partial(_check_wheel, api, name, needs.wheel_path(settings)) for name in settings.jobs.values()},
    }


def advice(settings: Settings, client: Api = workspace.client) -> Mapping[str, Callable[[], str]]:
    """Name -> check whose failure keeps no run from success."""
    api = cache(client)
    found = {"predictive optimisation": partial(_check_optimisation, api, unity_catalog.tables(settings))}
    if settings.tables.names == "catalog" and not settings.databricks.quality_monitors:
        found["quality monitors"] = partial(quality_monitors.left, settings, api)
    return found


def asking(settings: Settings) -> frozenset[str]:
    """The doctor's other checks that ask the workspace of the credentials."""
    stores = (settings.tracking_uri, settings.registry_uri)
    mlflow = {"registry", "champion"} if any(uri.startswith("databricks") for uri in stores) else set()
    landing = {"landing folder"} if is_elsewhere(settings.landing.folder) else set()
    endpoint = {"endpoint"} if workspace_host(settings) is None else set()
    champion_asked = settings.training.network == "auto" and bool(mlflow)
    backbone = {"backbone"} if champion_asked or any(map(is_elsewhere, settings.training.files.values())) else set()
    return frozenset(mlflow | landing | endpoint | backbone)


def credentials(settings: Settings, client: Api = workspace.client) -> str:
    """Whom the credentials belong to.

    Raises:
        NotVisible: they work but are not the service's, so the other checks may see more or less than the service does.
        RequestRefused, SettingsError, Unavailable: they do not work.
    """
    use_credentials(settings.databricks.credentials)
    who, account = sign_in(settings, client)
    if not who.is_caller:
        raise NotVisible(f"{account}, but the worker must run as {who.name} (databricks.service_principal): give it those credentials")
    return account


def sign_in(settings: Settings, client: Api = workspace.client) -> tuple[Principal, str]:
    """The service's principal, and the caller's account as text: name, way to authenticate, host.

    Raises:
        RequestRefused, Unavailable: the credentials do not work, or the workspace does not answer.
    """
    with workspace.translated("looking for credentials", needs="some way to authenticate"):
        api = client()
    who = principal(lambda: api, settings)
    return who, f"{who.caller} by {api.config.auth_type} at {api.config.host}"


def _check_optimisation(api: Api, tables: Iterable[str]) -> str:
    """Whether the workspace compacts and vacuums the tables. Bootstrap leaves it as it is: it is the company's choice."""
    from databricks.sdk.service.catalog import EnablePredictiveOptimization

    for schema in dict.fromkeys(table.rpartition(".")[0] for table in tables):
        with workspace.translated(f"reading the schema {schema}", needs="USE SCHEMA on it"):
            flag = api().schemas.get(schema).effective_predictive_optimization_flag
        if flag is None:
            return f"the workspace does not tell whether it is on for {schema}"
        if flag.value is EnablePredictiveOptimization.DISABLE:
            above = f", by the {flag.inherited_from_type.value.lower()} {flag.inherited_from_name}" if flag.inherited_from_type else ""
            command = f"ALTER SCHEMA {quoted(schema)} ENABLE PREDICTIVE OPTIMIZATION;"
            raise SettingsError(
                f"it is off for {schema}{above}, so nothing compacts and vacuums the tables there: an owner can run {command}"
            )
    return "on"


def _check_folder(api: Api, folder: str) -> str:
    """List the folder. Writing is not tried, because the item for its grants checks that."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"listing {folder}", needs="READ VOLUME on the volume"):
        try:
            next(iter(api().files.list_directory_contents(folder)), None)
        except NotFound:
            # A folder on a volume is created with its first file.
            volume = "/".join(folder.split("/")[:5])
            next(iter(api().files.list_directory_contents(volume)), None)
    return f"{folder} can be listed"


def _check_wheel(api: Api, name: str, wheel: str) -> str:
    job = jobs.find(api, name)
    if job is None:
        raise SettingsError(f"the job {name} {ABSENT}: `{BOOTSTRAP}` creates it")
    dependencies = [need for environment in job.settings.environments or [] for need in environment.spec.dependencies or []]
    dependencies += [library.whl for task in job.settings.tasks or [] for library in task.libraries or [] if library.whl]
    installed = [need.partition("[")[0] for need in dependencies if ".whl" in need]
    if installed != [wheel]:
        command = f"{BUNDLE_DEPLOY} --var wheel={wheel}" if jobs.of_a_bundle(job) else BOOTSTRAP
        raise SettingsError(
            f"{name} installs {', '.join(installed) or 'no wheel'}, and the wheel of this checkout is {wheel}: `{command}` fixes it"
        )
    return wheel.rpartition("/")[2]
