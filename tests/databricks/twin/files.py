"""Files API: the files on volumes, and those of MLflow's runs and registered models.

Source: https://docs.databricks.com/api/workspace/files
"""

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.databricks.twin.core import Handle, Refused, folded_path, page
from tests.databricks.twin.permissions import Permissions

INTERNAL = ("/WorkspaceInternal/Mlflow/Artifacts/", "/Models/")
"""MLflow's client keeps its files here through the same API, and need not create directories first."""
ROOTS = ("/Volumes/", *INTERNAL)


class FilesApi(Permissions):
    """Files and directories of volumes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.signed: dict[str, Path] = {}
        """Last part of a presigned URL -> the file that it serves without credentials."""

    def presigned(self, path: str) -> bytes:
        """Return the file of a presigned URL, as cloud storage does."""
        try:
            return self.signed[path.removeprefix("/presigned/")].read_bytes()
        except (KeyError, OSError) as error:
            raise Refused(404, "NOT_FOUND", f"{path} is not there") from error

    def _of_files(self) -> dict[tuple[str, str], Handle]:
        return {
            ("POST", "/api/2.0/fs/create-download-url"): self._download_url,
            ("POST", "/api/2.0/fs/create-upload-url"): self._upload_url,
        }

    def _at_a_path(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        for start, handle in (("/api/2.0/fs/files", self._file), ("/api/2.0/fs/directories", self._directory)):
            if path.startswith(tuple(start + root for root in ROOTS)):
                return handle(method, folded_path(unquote(path.removeprefix(start))), query, body)
        return None

    def _file(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        where = self.place(path)
        self._may_reach(path, "WRITE_VOLUME" if method in {"PUT", "DELETE"} else "READ_VOLUME")
        if method == "DELETE":
            if not where.is_file():
                raise Refused(404, "NOT_FOUND", f"The file {path} does not exist")
            where.unlink()
            return b""
        if method == "PUT":
            self._only(query, {"overwrite"})
            if where.is_dir():
                raise Refused(409, "ALREADY_EXISTS", f"{path} is a directory")
            # The documentation says this of directories only. The twin also refuses an upload into a missing directory.
            if path.startswith(INTERNAL):
                where.parent.mkdir(parents=True, exist_ok=True)
            if not where.parent.is_dir():
                raise Refused(404, "NOT_FOUND", f"The parent directory of {path} does not exist")
            with self.lock:
                if where.exists() and query.get("overwrite") != "true":
                    raise Refused(409, "ALREADY_EXISTS", f"The file {path} already exists")
                part = self.folder / uuid.uuid4().hex  # an upload appears whole or not at all
                part.write_bytes(body or b"")
                part.replace(where)
            return b""
        if method in {"GET", "HEAD"}:
            if not where.is_file():
                raise Refused(404, "NOT_FOUND", f"The file {path} does not exist")
            return where.read_bytes()
        self.strange.append(f"{method} {path}")
        raise Refused(405, "METHOD_NOT_ALLOWED", method)

    def _directory(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        where = self.place(path)
        self._may_reach(path, "WRITE_VOLUME" if method in {"PUT", "DELETE"} else "READ_VOLUME")
        if method == "DELETE":
            if not where.is_dir():
                raise Refused(404, "NOT_FOUND", f"The directory {path} does not exist")
            if any(where.iterdir()):
                raise Refused(400, "BAD_REQUEST", f"The directory {path} is not empty")
            where.rmdir()
            return b""
        if method == "PUT":
            if len(Path(path).parts) < 5 or not self.volume("/".join(Path(path).parts[:5])[1:]).is_dir():
                raise Refused(404, "NOT_FOUND", f"The volume of {path} does not exist")
            where.mkdir(parents=True, exist_ok=True)
            return b""
        if method == "HEAD":
            if not where.is_dir():
                raise Refused(404, "NOT_FOUND", f"The directory {path} does not exist")
            return b""
        if method != "GET":
            self.strange.append(f"{method} {path}")
            raise Refused(405, "METHOD_NOT_ALLOWED", method)
        self._only(query, {"page_token", "page_size"})
        if not where.is_dir():
            raise Refused(404, "NOT_FOUND", f"The directory {path} does not exist")
        entries = []
        for child in sorted(where.iterdir()):
            told = {"path": f"{path.rstrip('/')}/{child.name}", "name": child.name, "is_directory": child.is_dir()}
            if child.is_file():
                told |= {"file_size": child.stat().st_size, "last_modified": int(child.stat().st_mtime * 1000)}
            entries.append(told)
        return page("contents", entries, query)

    def _download_url(self, query: dict[str, str], body: Any) -> Any:
        path = self._path_of(query, body)
        self._may_reach(path, "READ_VOLUME")
        if not self.place(path).is_file():
            raise Refused(404, "NOT_FOUND", f"The file {path} does not exist")
        return self._signed(path)

    def _upload_url(self, query: dict[str, str], body: Any) -> Any:
        path = self._path_of(query, body)
        self._may_reach(path, "WRITE_VOLUME")
        return self._signed(path)

    def _path_of(self, query: dict[str, str], body: bytes) -> str:
        """databricks-sdk names the path in the query, MLflow's client in the body."""
        given = query or json.loads(body)
        self._only(given, {"path", "expire_time"}, {"path"})
        return str(given["path"])

    def _signed(self, path: str) -> Any:
        self.signed[name := uuid.uuid4().hex] = self.place(path)
        return {"url": f"{self.host}/presigned/{name}", "headers": []}

    def _may_reach(self, path: str, privilege: str) -> None:
        """Refuse a caller without the privilege, if the volume exists."""
        parts = Path(folded_path(path)).parts[2:5]
        if len(parts) == 3 and self.storage.joinpath(*parts).is_dir():
            self.need("volume", ".".join(parts), privilege)
