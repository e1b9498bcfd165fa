"""MLflow's client for all adapters: without its output, with the stores of the settings, and with its errors translated."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import answers, limits, workspace
from car_damage.errors import CarDamageError, RegistryError, Unavailable
from car_damage.machine import Scratch
from car_damage.settings import Settings
from car_damage.showing import if_possible

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.exceptions import MlflowException

PAGE = 1_000
_READ_ONLY = "attempt to write a readonly database"
"""SQLite's message, also where the file system is read-only."""
_DUPLICATE = ("UNIQUE constraint failed", "UniqueViolation", "Duplicate entry")
"""How SQLite, Postgres and MySQL say that a row exists already."""

EXPERIMENT_KIND, TRAININGS = "mlflow.experimentKind", "custom_model_development"
"""The tag of an experiment for training models: its page opens with runs instead of traces. MLflow's Python code has no names for
the two; they are in ExperimentKind, in the source of the pages."""
FOR_TRAININGS = "workflowType=machine_learning"
"""A part of the links to pages that MLflow 3.17 serves itself. They ignore the tag, and open with what the link names, or with what
the browser opened last, which is traces at first."""

_LATER = "try again when MLflow answers"
_NO_ACCESS = "MLflow's database cannot be written: give this user access, or set home to another folder"

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
"""The error codes of MLflow and of Unity Catalog for an object that does not exist."""


class MlflowAdapter:
    """The base class of the adapters: the settings, and a client that is created on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> "MlflowClient":
        return client(self._settings)

    def _runs(self, condition: str, limit: int | None = None, view: int | None = None) -> "list[Run]":
        """The experiment's runs that meet this condition, latest first; none if the experiment does not exist.

        `view` is a ViewType of MLflow's; None: runs that are not deleted.
        """
        from mlflow.entities import ViewType
        from mlflow.utils import get_results_from_paginated_fn

        experiment = self._client.get_experiment_by_name(self._settings.tracking.experiment)
        if experiment is None:
            return []
        experiments, latest_first = [experiment.experiment_id], ["attributes.start_time DESC"]

        def page(size: int, token: str | None) -> Any:
            return self._client.search_runs(experiments, condition, view or ViewType.ACTIVE_ONLY, size, latest_first, token)

        return list(get_results_from_paginated_fn(page, PAGE, limit))


def client(settings: Settings) -> "MlflowClient":
    """MLflow's client for these settings, without MLflow's output on the terminal."""
    _limit_calls(settings)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # the variables have no effect if MLflow was imported before
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints the traceback of each error that it raises
    logging.getLogger("mlflow.utils.databricks_utils").setLevel(logging.ERROR)  # it warns of what our error says
    if settings.tracking_uri.startswith("sqlite"):
        settings.home.mkdir(parents=True, exist_ok=True)
    if settings.tracking.uri is None and not (settings.home / "mlflow.db").exists():
        _create(settings.home / "mlflow.db", settings.home / "artifacts")
    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.registry_uri)


def _limit_calls(settings: Settings) -> None:
    """Limit the calls to a server. Databases of this machine need no limits, for which each local command would import databricks-sdk."""
    if not all(uri.startswith("sqlite") for uri in (settings.tracking_uri, settings.registry_uri)):
        limits.impose()


def _create(database: Path, artifacts: Path) -> None:
    """Create MLflow's database whole or not at all: MLflow could use none that a full disk or a kill has cut short.

    It is told where artifacts are, because it writes its default, the working directory, into a statement of SQL without quoting it.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".mlflow.") as folder:
        draft = Path(folder) / database.name
        SqlAlchemyStore(f"sqlite:///{draft}", str(artifacts)).engine.dispose()
        try:
            database.hardlink_to(draft)
        except OSError:  # another process was first, or the file system has no links
            if not database.exists():
                draft.rename(database)


def fluent(settings: Settings) -> Any:
    """The module mlflow, for what its client cannot do. Sets the stores of these settings for the whole process."""
    _limit_calls(settings)
    import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    return mlflow


def experiment_id(of: "MlflowClient", settings: Settings) -> str:
    """The id of the experiment of all our runs, which is created if it does not exist. Raises RegistryError if it was deleted.

    An experiment without a kind gets ours: an administrator or an older version of this package may have created it.
    """
    from mlflow.exceptions import MlflowException

    name = settings.tracking.experiment
    if (found := of.get_experiment_by_name(name)) is None:
        # A server knows where to put its artifacts; with SQLite, MLflow would put them below the working directory.
        local = settings.tracking_uri.startswith("sqlite")
        try:
            return str(of.create_experiment(name, str(settings.home / "artifacts") if local else None, {EXPERIMENT_KIND: TRAININGS}))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process has just created it
                raise
            found = of.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise RegistryError(f"the MLflow experiment {name} is deleted: restore it, or set tracking.experiment to another name")
    if EXPERIMENT_KIND not in found.tags:
        with if_possible(f"the kind of the MLflow experiment {name}"):
            of.set_experiment_tag(found.experiment_id, EXPERIMENT_KIND, TRAININGS)
    return str(found.experiment_id)


def requirements(settings: Settings, model_uri: str) -> str:
    """The requirements.txt of a logged or registered model, without the model's other files."""
    fluent(settings)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    # Not mlflow.artifacts: it takes no path below a logged model.
    with Scratch("requirements") as folder:
        return Path(get_artifact_repository(model_uri).download_artifacts("requirements.txt", str(folder))).read_text()


def repeated(error: "MlflowException") -> bool:
    """Whether MLflow's client repeated a call that had succeeded, because the response was lost."""
    return any(name in error.message for name in _DUPLICATE)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Translate MLflow's errors.

    Args:
        doing: the action, as the start of the message: "registering ...".

    Raises:
        Unavailable: the store or server did not answer, was busy or locked, or failed (429, 5xx).
        RegistryError: the store or server refused for another reason.
    """
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    with limits.failures() as failed:
        try:
            yield
        except MlflowException as error:
            raise _of_mlflow(doing, error, failed) from error
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            if status == 429 or status >= 500:
                raise Unavailable(f"{doing}: MLflow's artifact store is unavailable ({error}); {_LATER}") from error
            raise RegistryError(f"{doing}: MLflow's artifact store refused: {error}") from error
        except requests.RequestException as error:
            raise _of_no_answer(doing, error) from error
        except sqlalchemy.exc.DBAPIError as error:
            if _READ_ONLY in str(error.orig):
                raise RegistryError(f"{doing}: {_NO_ACCESS}") from error
            raise Unavailable(f"{doing}: MLflow's database failed ({error.orig}); {_LATER}") from error
        except OSError as error:  # errors of the file system and of other connections
            raise Unavailable(f"{doing}: {error}; {_LATER}") from error


def _of_mlflow(doing: str, error: "MlflowException", failed: Sequence[Exception]) -> CarDamageError:
    """Our error for MLflow's, with the failures of the calls before it."""
    from mlflow.exceptions import RestException
    from requests import RequestException

    said = error.message.partition("\n[SQL:")[0].rstrip(": ")  # the statement has many lines, and its values
    if why := _of_this_machine(error):
        return RegistryError(f"{doing}: {why}")
    if failed and not isinstance(error, RestException):  # MLflow then says that there are no credentials
        return _of_no_answer(doing, failed[-1]) if isinstance(failed[-1], RequestException) else _unavailable(doing, failed[-1])
    status = error.get_http_status_code()
    if status == 429 or status >= 500:
        return workspace.unavailable(f"{doing}: MLflow is unavailable ({said}); {_LATER}", failed[-1] if failed else None)
    if repeated(error):
        return Unavailable(f"{doing}: MLflow's client repeated a call after a lost response ({said}); {_LATER}")
    return RegistryError(f"{doing}: MLflow refused with {error.error_code}: {answers.message_of(error)}")


def _of_this_machine(error: "MlflowException") -> str:
    """What to put right here, where MLflow calls it an internal error and retries do not help; empty for other errors."""
    if _READ_ONLY in error.message:
        return _NO_ACCESS
    if "out-of-date database schema" in error.message:
        return (
            "MLflow's database is of another version than the installed MLflow: install the MLflow that wrote it, or make a "
            f"backup and run `mlflow db upgrade` with the database's address ({error.message.partition(').')[0]}))"
        )
    if isinstance(error.__cause__, ImportError):
        return (
            "the workspace keeps models in storage of its cloud, and MLflow reaches it only with the package "
            f"{error.__cause__.name}: install it here, and for a job add it to the job's dependencies"
        )
    return ""


def _unavailable(doing: str, error: Exception) -> Unavailable:
    return workspace.unavailable(f"{doing}: MLflow is unavailable{answers.in_full(error)}; {_LATER}", error)


def _of_no_answer(doing: str, error: Exception) -> CarDamageError:
    why = answers.of_a_connection(error)
    if limits.of_a_certificate(error):
        return RegistryError(f"{doing}: the server's certificate is not valid here{why}; check its address, and REQUESTS_CA_BUNDLE")
    return Unavailable(f"{doing}: MLflow does not answer{why}; {_LATER}")
