"""The base of every API of the twin: refusals, faults, pages, and the record of requests."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLOW = 2.0
"""Seconds by which a slow answer is delayed."""
PAGE = 2
"""Entries on a page: few, so that listings have several pages."""

Handle = Callable[[dict[str, str], Any], Any]
"""(query, body) -> answer."""


class Refused(Exception):
    """An error answer, with the workspace's status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class WithHeaders:
    """An answer with extra response headers."""

    body: Any
    headers: dict[str, str]


@dataclass
class Fault:
    """A fault that replaces, delays or follows the next matching calls."""

    method: str
    path: str
    """Prefix of the path without /api/2.x or, if `whole`, the complete result of `call`."""
    kind: int | str
    """An HTTP status, "slow", or a connection reset before or after the effect: "reset before", "reset after"."""
    times: int = 1
    whole: bool = False
    seen: int = 0


_NAMED = re.compile(r"/(?=[^/]*\d)[^/]{6,}(?=/|$)|/\d+(?=/|$)|/(serving-endpoints)/[\w-]+")


def call(path: str) -> str:
    """A path without the names and ids of single objects: "/jobs/runs/get", "/fs/files/Volumes/insurance_uc/ops/runs"."""
    plain = "/" + path.removeprefix("/api/").partition("/")[2] if path.startswith("/api/") else path
    if found := re.match(r"/fs/(files|directories)/(Volumes/\w+/\w+/\w+|Models|WorkspaceInternal)", plain):
        return found[0]
    return _NAMED.sub(lambda found: f"/{found[1]}/*" if found[1] else "/*", plain)


def folded(name: str) -> str:
    """The name of a securable as Unity Catalog stores it.

    Source: https://docs.databricks.com/aws/en/sql/language-manual/sql-ref-names, "Unity Catalog stores all object names as lowercase"
    """
    return name.lower()


def folded_path(path: str) -> str:
    """A path with the names of its catalog, schema and volume or model as Unity Catalog stores them."""
    start = "/Volumes/" if path.startswith("/Volumes/") else "/Models/" if path.startswith("/Models/") else path
    names = path.removeprefix(start).split("/", 3)
    return start + "/".join([*map(folded, names[:3]), *names[3:]])


class Core:
    """The state and checks that all APIs of the twin share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "volumes"
        self.faults: list[Fault] = []
        self.strange: list[str] = []
        self.asked: list[str] = []
        self.host = ""
        self._next = 1000
        self.lock = threading.RLock()

    def volume(self, path: str) -> Path:
        """The local path of a file on a volume."""
        return self.storage / folded_path(path).removeprefix("/Volumes/")

    def place(self, path: str) -> Path:
        """The local path of any file that the Files API serves."""
        return self.volume(path) if path.startswith("/Volumes/") else self.folder / "internal" / folded_path(path).lstrip("/")

    def fault(self, method: str, path: str, kind: int | str, times: int = 1, *, whole: bool = False) -> Fault:
        fault = Fault(method, path, kind, times, whole)
        self.faults.append(fault)
        return fault

    def _id(self) -> int:
        with self.lock:
            self._next += 1
            return self._next

    def _only(self, given: dict[str, Any], known: set[str], needed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        if not isinstance(given, dict):
            raise Refused(400, "MALFORMED_REQUEST", "a JSON object is expected")
        if unknown := set(given) - known:
            self.strange.append(f"fields {sorted(unknown)}")
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"unknown fields {sorted(unknown)}")
        if missing := needed - set(given):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"missing fields {sorted(missing)}")

    @staticmethod
    def _typed(given: dict[str, Any], **kinds: type) -> None:
        """Refuse fields whose values have another type."""
        for name, kind in kinds.items():
            if name in given and type(given[name]) is not kind:
                raise Refused(400, "MALFORMED_REQUEST", f"Could not parse request object: expected {kind.__name__} in {name}")


def page(name: str, entries: list[Any], query: dict[str, str]) -> dict[str, Any]:
    start = int(query.get("page_token", "0"))
    more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(entries) else {}
    return {name: entries[start : start + PAGE], **more} if entries else {}
