"""What every room of the twin stands on: refusals, faults, pages, and what is kept of what was asked."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLOW = 2.0
"""Seconds that a slow answer takes."""
PAGE = 2
"""Entries a page, so that every listing has several."""

Handle = Callable[[dict[str, str], Any], Any]
"""(query, body) -> answer."""


class Refused(Exception):
    """An answer other than 200, as the workspace words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class WithHeaders:
    """An answer whose headers say something."""

    body: Any
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens instead of, or after, the next calls that fit."""

    method: str
    path: str
    """The start of the path without /api/2.x; or, if `whole`, what `call` makes of it."""
    kind: int | str
    """A status; "reset before" and "reset after" the effect; or "slow"."""
    times: int = 1
    whole: bool = False
    seen: int = 0


_NAMED = re.compile(r"/(?=[^/]*\d)[^/]{6,}(?=/|$)|/\d+(?=/|$)|/(serving-endpoints)/[\w-]+")


def call(path: str) -> str:
    """What is called, whichever thing it is called for: "/jobs/runs/get", "/fs/files/Volumes/insurance_uc/ops/runs"."""
    plain = "/" + path.removeprefix("/api/").partition("/")[2] if path.startswith("/api/") else path
    if found := re.match(r"/fs/(files|directories)/(Volumes/\w+/\w+/\w+|Models|WorkspaceInternal)", plain):
        return found[0]
    return _NAMED.sub(lambda found: f"/{found[1]}/*" if found[1] else "/*", plain)


class Core:
    """The part of the twin that its rooms share."""

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
        """Where a file of a volume is on this disk."""
        return self.storage / path.removeprefix("/Volumes/")

    def place(self, path: str) -> Path:
        """Where anything that the Files API reaches is on this disk."""
        return self.volume(path) if path.startswith("/Volumes/") else self.folder / "internal" / path.lstrip("/")

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
        """Refuse fields whose values are of another kind."""
        for name, kind in kinds.items():
            if name in given and type(given[name]) is not kind:
                raise Refused(400, "MALFORMED_REQUEST", f"Could not parse request object: expected {kind.__name__} in {name}")


def page(name: str, entries: list[Any], query: dict[str, str]) -> dict[str, Any]:
    start = int(query.get("page_token", "0"))
    more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(entries) else {}
    return {name: entries[start : start + PAGE], **more} if entries else {}
