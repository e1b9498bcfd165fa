"""The transaction log of a Delta table in a folder: which of its files are needed to read a version.

A version is read from the latest checkpoint at or before it, and the commits after that checkpoint. All other files of the log can
go, also from the middle. The engines only remove what is older than any version that stays, and only by time, so one version that
must stay readable for years would keep every commit after it.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_FILE = re.compile(r"\.?(\d{20})\.")
"""A commit, a checkpoint, or a checksum of Spark's, which may start with a dot."""
_DRAFT = re.compile(r"_commit_|\.?\d{20}\.json\.[0-9a-f-]{36}\.tmp$|\.\d{20}\.json\..*\.tmp")
"""What delta-rs and Spark write before they give it the name of a commit."""
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


class Log:
    """The files of `<table>/_delta_log` at this moment; none where there is no table."""

    def __init__(self, table: Path) -> None:
        folder = table / "_delta_log"
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        self._drafts = [path for path in paths if _DRAFT.match(path.name)]
        self._files = [(path, int(found[1])) for path in paths if (found := _FILE.match(path.name))]
        self._commits = {version: path for path, version in self._files if _COMMIT.fullmatch(path.name)}
        self._checkpoints = sorted(version for path, version in self._files if _CHECKPOINT.fullmatch(path.name))

    @property
    def checkpoint(self) -> int:
        """The latest version with a checkpoint; -1 without one."""
        return self._checkpoints[-1] if self._checkpoints else -1

    @property
    def latest(self) -> int:
        """The latest version with a commit; -1 without one."""
        return max(self._commits, default=-1)

    def holds(self, version: int) -> bool:
        """Whether the log has all files that this version is read from."""
        start = self._start(version)
        commits = range(start + 1 if start in self._checkpoints else 0, version + 1)
        return version <= self.latest and all(commit in self._commits for commit in commits)

    def commits(self, after: int) -> list[Mapping[str, Any]]:
        """What the writers of the commits after a version noted, such as `operationParameters`; and `version`. Newest first."""
        newer = sorted((version for version in self._commits if version > after), reverse=True)
        return [{**_noted(self._commits[version]), "version": version} for version in newer]

    def superfluous(self, stay: Collection[int], since: float) -> list[Path]:
        """The files from which none of these versions is read, and none that was committed after a time (seconds since 1970)."""
        latest = self.latest
        young = min((version for version, path in self._commits.items() if path.stat().st_mtime >= since), default=latest)
        read = {commit for version in (*stay, *range(young, latest + 1)) for commit in range(self._start(version), version + 1)}
        return [path for path, version in self._files if version <= latest and version not in read]

    def drafts(self) -> list[Path]:
        """Commits that a killed writer has begun to write."""
        return self._drafts

    def removed(self) -> set[str]:
        """The names of the table's files that the log's commits have removed from it."""
        return {unquote(action["path"]) for path in self._commits.values() for action in _actions(path, "remove")}

    def _start(self, version: int) -> int:
        """The version of the latest checkpoint at or before this version; 0 without one."""
        return max((checkpoint for checkpoint in self._checkpoints if checkpoint <= version), default=0)


def _noted(commit: Path) -> Mapping[str, Any]:
    return next(_actions(commit, "commitInfo"), {})


def _actions(commit: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    start = f'{{"{kind}"'.encode()
    return (json.loads(line)[kind] for line in commit.read_bytes().splitlines() if line.startswith(start))
