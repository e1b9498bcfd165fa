"""A workspace on loopback: HTTPS, tokens and permissions, jobs that run as processes, the files of volumes, Unity Catalog.

It accepts only what the documentation names. It refuses other or missing paths, fields and values with the documented code.
Unknown paths and fields are also kept in `strange`, which must be empty when a test ends. Where the documentation is ambiguous,
the twin follows the stricter reading.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.databricks.twin.approvals import ApprovalsApi
from tests.databricks.twin.apps import AppsApi
from tests.databricks.twin.artifacts import ArtifactsApi
from tests.databricks.twin.core import Refused
from tests.databricks.twin.entity_tags import EntityTagsApi
from tests.databricks.twin.files import FilesApi
from tests.databricks.twin.jobs import Job, Run
from tests.databricks.twin.permissions import ADMIN, CLIENT, OTHER
from tests.databricks.twin.quality import QualityApi
from tests.databricks.twin.removal import RemovalApi
from tests.databricks.twin.server import ADMIN_TOKEN, OTHER_TOKEN, SECRET, Server
from tests.databricks.twin.statements import StatementsApi

__all__ = ["ADMIN", "ADMIN_TOKEN", "CLIENT", "OTHER", "OTHER_TOKEN", "SECRET", "Job", "Run", "Twin", "workspace"]


class Twin(AppsApi, ApprovalsApi, FilesApi, EntityTagsApi, QualityApi, RemovalApi, ArtifactsApi, StatementsApi, Server):
    """The workspace, a context manager. `environment` holds the variables that a client needs."""

    def __enter__(self) -> "Twin":
        self.storage.mkdir(parents=True)
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_serving()
        self.stop_tracking()
        self.hang_up()
        for run in self.runs():
            if run.process and run.process.poll() is None:
                run.process.kill()
                run.process.wait()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Return the answer of the API that has the path."""
        for room in (
            self._of_removal,
            self._at_a_path,
            self._of_tags,
            self._named,
            self._with_permissions,
            self._of_artifacts,
            self._of_tracking,
            self._of_serving,
            self._of_statements,
            self._of_apps,
            self._of_quality,
        ):
            answer = room(method, path, query, body)
            if answer is not None:
                return answer
        routes = (
            self._of_approvals()
            | self._of_jobs()
            | self._of_runs()
            | self._of_files()
            | self._of_catalog()
            | self._of_registry()
            | self._of_workspace()
            | self._of_files_of_apps()
        )
        if (method, path) not in routes:
            self.strange.append(f"{method} {path}")
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        return routes[method, path](query, body)

    def _schema_of(self, name: str) -> None:
        schema = name.rpartition(".")[0]
        if schema not in self.schemas and not self.storage.joinpath(*schema.split(".")).is_dir():
            raise Refused(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Twin]:
    """A workspace for a with block. The block fails at its end if a request was unknown."""
    with Twin(folder) as twin:
        yield twin
    shutil.rmtree(twin.storage, ignore_errors=True)
    assert not twin.strange, "\n".join(twin.strange)
