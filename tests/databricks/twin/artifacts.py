"""Files of runs and logged models by presigned URLs, which MLflow's client uses when the Files API fails.

Source: mlflow's databricks_artifacts.proto and store/artifact/databricks_artifact_repo_resources.py
"""

import re
import uuid
from pathlib import Path
from typing import Any

from tests.databricks.twin.core import Refused
from tests.databricks.twin.tracking import PREFIX, TrackingApi

_OF_A_RUN = re.compile(r"POST artifacts/credentials-for-(read|write)")
_OF_A_MODEL = re.compile(r"POST logged-models/(m-\w+)/artifacts/credentials-for-(download|upload)")
_LIST_OF_A_MODEL = re.compile(r"GET logged-models/(m-\w+)/artifacts/directories")


class ArtifactsApi(TrackingApi):
    """Access to the files below /WorkspaceInternal/Mlflow/Artifacts."""

    signed: dict[str, Path]

    def _of_artifacts(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        asked = f"{method} {path.removeprefix(PREFIX)}"
        if _OF_A_RUN.fullmatch(asked):
            self._only(body, {"run_id", "path", "page_token"}, {"run_id", "path"})
            root = self._of_run(body["run_id"])
            return {"credential_infos": [self._sign(root, name) | {"run_id": body["run_id"]} for name in body["path"]]}
        if found := _OF_A_MODEL.fullmatch(asked):
            self._only(body, {"paths", "page_token", "model_id"}, {"paths"})
            root = self._of_model(found[1])
            return {"credentials": [{"credential_info": self._sign(root, name)} for name in body["paths"]]}
        if asked == "GET artifacts/list":
            self._only(query, {"run_id", "path", "page_token"}, {"run_id"})
            return {"files": _listed(self._of_run(query["run_id"]), query.get("path", ""))}
        if found := _LIST_OF_A_MODEL.fullmatch(asked):
            self._only(query, {"artifact_directory_path", "page_token", "model_id"})
            return {"files": _listed(self._of_model(found[1]), query.get("artifact_directory_path", ""))}
        return None

    def take_upload(self, path: str, data: bytes) -> bytes:
        """Store an upload to a presigned URL, as cloud storage does."""
        try:
            where = self.signed[path.removeprefix("/presigned/")]
        except KeyError as error:
            raise Refused(403, "PERMISSION_DENIED", "the address was not signed here") from error
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
        return b""

    def _sign(self, root: Path, name: str) -> dict[str, Any]:
        self.signed[address := uuid.uuid4().hex] = root / name
        return {"path": name, "signed_uri": f"{self.host}/presigned/{address}", "headers": [], "type": "AWS_PRESIGNED_URL"}

    def _of_run(self, run_id: str) -> Path:
        run = self._tracking_server().ask("GET", f"{PREFIX}runs/get", {"run_id": run_id}, None)["run"]
        return self.place(f"/WorkspaceInternal/Mlflow/Artifacts/{run['info']['experiment_id']}/Runs/{run_id}/artifacts")

    def _of_model(self, model_id: str) -> Path:
        model = self._tracking_server().ask("GET", f"{PREFIX}logged-models/{model_id}", {}, None)["model"]
        return self.place(f"/WorkspaceInternal/Mlflow/Artifacts/{model['info']['experiment_id']}/LoggedModels/{model_id}/artifacts")


def _listed(root: Path, name: str) -> list[dict[str, Any]]:
    """The entries of a folder, or the one entry of a file."""
    where = root / name
    found = sorted(where.iterdir()) if where.is_dir() else [where] if where.is_file() else []
    return [
        {"path": str(path.relative_to(root)), "is_dir": path.is_dir()} | ({} if path.is_dir() else {"file_size": path.stat().st_size})
        for path in found
    ]
