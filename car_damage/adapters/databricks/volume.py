"""Files of a Unity Catalog volume, by Databricks' Files API: for a worker on a machine that has not mounted it.

Credentials are those of databricks-sdk's unified authentication. Names that start with `_` or `.` are skipped, folders
with all that is below them, as `adapters.folder` does, so that both list the same of one volume.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import workspace
from car_damage.adapters.folder import EPOCH, Folder, is_draft
from car_damage.errors import FileMissing, SettingsError, Unavailable
from car_damage.ports import File, Files

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

ROOT = "/Volumes/"


def is_elsewhere(folder: str) -> bool:
    """Whether a folder lies on a volume that is not mounted on this machine."""
    # The catalog, because macOS has a folder /Volumes of its own.
    return folder.startswith(ROOT) and not Path(*Path(folder).parts[:3]).is_dir()


class Volume:
    """The port `Files` on volumes. Any other path, such as that of a table of labels, is a file of this machine.

    Besides the port's errors, every method raises RequestRefused if the workspace refuses the credentials or the permission.

    Args:
        client: makes the workspace client; called when a volume is first touched.
    """

    def __init__(self, client: "Callable[[], WorkspaceClient] | None" = None) -> None:
        self._make = client or workspace.client
        self._here: Files = Folder()

    def list(self, folder: str) -> Iterator[File]:
        if not folder.startswith(ROOT):
            yield from self._here.list(folder)
            return
        yield from self._walk(folder, lambda name: name[:1] not in "._")

    def drafts(self, folder: str) -> Iterator[File]:
        """See the port. Only those who write to a mounted volume leave any."""
        if not folder.startswith(ROOT):
            yield from self._here.drafts(folder)
            return
        with contextlib.suppress(SettingsError):
            yield from self._walk(folder, is_draft)

    def _walk(self, folder: str, wanted: Callable[[str], bool]) -> Iterator[File]:
        from databricks.sdk.errors import NotFound

        root = folder.rstrip("/")
        waiting = [root]
        while waiting:
            here = waiting.pop()
            with _translated(f"listing {here}"):
                try:
                    for entry in self._files.list_directory_contents(here):
                        name = entry.name or ""
                        if entry.is_directory:
                            waiting += [f"{here}/{name}"] if name[:1] not in "._" else []
                        elif wanted(name):
                            yield File(f"{here}/{name}", entry.file_size or 0, EPOCH + timedelta(milliseconds=entry.last_modified or 0))
                except NotFound as error:
                    if here == root:
                        raise SettingsError(f"the folder {root} is not in the workspace: create it, or set landing.folder") from error
                    raise Unavailable(f"the folder {here} vanished while it was listed") from error

    def read(self, path: str) -> bytes:
        if not path.startswith(ROOT):
            return self._here.read(path)
        from databricks.sdk.errors import NotFound

        with _translated(f"reading {path}"):
            try:
                contents = self._files.download(path).contents
                if contents is None:
                    raise Unavailable(f"{path} came without contents")
                with contents:
                    data: bytes = contents.read()
                    return data
            except NotFound as error:
                raise FileMissing(f"{path} does not exist, or was removed since it was listed") from error

    def write_once(self, path: str, data: bytes) -> None:
        if not path.startswith(ROOT):
            self._here.write_once(path, data)
            return
        from databricks.sdk.errors import AlreadyExists

        with _translated(f"writing {path}", "WRITE VOLUME"):
            try:
                self._upload(path, data, overwrite=False)
            except AlreadyExists as error:
                raise FileExistsError(path) from error

    def replace(self, path: str, data: bytes) -> None:
        if not path.startswith(ROOT):
            self._here.replace(path, data)
            return
        with _translated(f"writing {path}", "WRITE VOLUME"):
            self._upload(path, data, overwrite=True)

    def remove(self, path: str) -> None:
        """See the port. A workspace removes only one file, or one empty directory, in one request."""
        if not path.startswith(ROOT):
            self._here.remove(path)
            return
        with _translated(f"removing {path}", "WRITE VOLUME"):
            self._remove(path)

    def _remove(self, path: str) -> None:
        from databricks.sdk.errors import NotFound

        try:
            for entry in list(self._files.list_directory_contents(path)):  # whole: removing shifts later pages
                below = f"{path}/{entry.name}"
                if entry.is_directory:
                    self._remove(below)
                else:
                    self._delete(self._files.delete, below)
            self._delete(self._files.delete_directory, path)
        except NotFound:  # a file, or gone
            self._delete(self._files.delete, path)

    @staticmethod
    def _delete(delete: Callable[[str], None], path: str) -> None:
        from databricks.sdk.errors import NotFound

        with contextlib.suppress(NotFound):  # an earlier try has removed it
            delete(path)

    def _upload(self, path: str, data: bytes, *, overwrite: bool) -> None:
        from databricks.sdk.errors import NotFound

        try:
            self._files.upload(path, io.BytesIO(data), overwrite=overwrite)
        except NotFound:
            self._files.create_directory(path.rpartition("/")[0])
            self._files.upload(path, io.BytesIO(data), overwrite=overwrite)

    @cached_property
    def _files(self) -> Any:
        return self._make().files


def _translated(doing: str, needs: str = "READ VOLUME") -> "contextlib.AbstractContextManager[None]":
    return workspace.translated(
        doing, needs=f"{needs} on the volume", without="mount the volume here, give credentials, or set landing.folder to another folder"
    )
