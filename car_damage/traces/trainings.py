"""Files of trainings that show or name a photo: lists, pictures, reports, the photo for testing an endpoint, and the example of a model.

A list loses the photo's rows, a report its picture; a contact sheet goes. Another test photo takes the place of the one for testing.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import parquet
from car_damage.data.photos.checked import readable
from car_damage.model.report.page import without
from car_damage.model.run_files import PREDICTIONS_FILE, SHOWING_PHOTOS, SMOKE_PHOTO_FILE, TRAINED_FILE
from car_damage.pipeline import Trace
from car_damage.ports import Platform, RunSummary
from car_damage.promotion.retention import ENDLESS
from car_damage.traces import examples, lists
from car_damage.traces.rows import HASH, PATH
from car_damage.traces.sought import SoughtPhoto, unreadable

_ORDER = (".png", ".html", ".txt", ".csv", ".md", ".json", "", ".parquet")
"""Suffixes of the files that are looked at. What tells whether a picture shows the photo comes after the pictures, so that the call after a
killed one still knows."""
_STAYS = "Unity Catalog keeps the files of a version as they are: remove the version when another one is live"

_UNFINISHED = ("FAILED", "KILLED")
"""Statuses of runs that may have half a file, of which nobody can tell which photo it shows."""

Changes = dict[str, bytes | None]
"""File -> its content without the photo; None: it goes."""
Lists = dict[str, pa.Table]
"""File -> its rows."""


class Trainings:
    """All trainings of the experiment, also those that a person has deleted and whose files are still there."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        found = []
        for run in self._runs():
            changes, broken = self._changes(run, sought)
            found += [*self._traces(run, changes), *(unreadable(f"training {run.name}, {file}", run.run_id) for file in broken)]
        return found

    def remove(self, sought: SoughtPhoto) -> None:
        for run in self._runs():
            for file, data in self._changes(run, sought)[0].items():
                self._platform.archive.replace(run, file, data)

    def underway(self) -> tuple[str, ...]:
        """The names of the trainings in progress."""
        since = self._platform.clock.now() - ENDLESS
        return tuple(run.name for run in self._platform.tracking.recent() if run.status == "RUNNING" and run.started >= since)

    def _runs(self) -> Iterator[RunSummary]:
        yield from self._platform.tracking.recent()
        yield from self._platform.archive.deleted()

    def _traces(self, run: RunSummary, changes: Changes) -> Iterator[Trace]:
        place = f"training {run.name}"
        versions = self._platform.registry.versions_for(run.run_id) if changes else []
        for file in changes:
            name = file.rpartition("/")[2]
            if name == TRAINED_FILE:
                trained = "was trained with it"
                stays = "a model cannot unlearn: train again without it"
                for number in [version.version for version in versions]:
                    yield Trace(f"version {number}", trained, stays=stays, version=number)
            if name in examples.FILES and self._platform.settings.registry_uri.startswith("databricks-uc"):
                yield from (Trace(f"version {version.version}", f"has it in {name}", stays=_STAYS) for version in versions)
            yield Trace(place, name, run=run.run_id)

    def _changes(self, run: RunSummary, sought: SoughtPhoto) -> tuple[Changes, list[str]]:
        """In the order in which they are to be made; and the lists that cannot be read."""
        archive, names = self._platform.archive, self._platform.archive.files(run)
        looked_at = sorted((_ORDER.index(suffix), file) for file in names if (suffix := _suffix(file)) in _ORDER)
        files = {file: archive.read(run, file) for _, file in looked_at if _suffix(file) != ".png"}
        listed, broken = _listed(files)
        here = SoughtPhoto(sought.holds, sought.paths | {path for rows in listed.values() for path in _paths(rows, sought)})
        changes: Changes = {}
        for file, data in files.items():
            changed = _list_without(listed[file], data, here) if file in listed else self._without(file, data, listed, here)
            if changed != data and file not in broken:
                changes[file] = changed
        shown = any(_suffix(file) == ".json" and file.startswith("run/") for file in changes) or any(map(_mistaken, _named(listed, here)))
        pictures: Changes = {file: None for file in names if shown and file.rpartition("/")[2] in SHOWING_PHOTOS}
        return pictures | changes | self._half(run, names), broken

    def _half(self, run: RunSummary, names: Sequence[str]) -> Changes:
        """Without all that may show a photo, of a training that has not finished. Nobody needs it, and no version has it."""
        if run.status not in _UNFINISHED:
            return {}
        showing = [file for file in names if _shows_photos(file.rpartition("/")[2])]
        return {file: None for file in showing if self._platform.archive.read(run, file)}  # a workspace keeps an empty file

    def _without(self, file: str, data: bytes, listed: Lists, sought: SoughtPhoto) -> bytes | None:
        name = file.rpartition("/")[2]
        if name == SMOKE_PHOTO_FILE:
            is_it = sought.holds(hashlib.sha256(data).hexdigest())
            return self._another(listed, sought) if is_it else data
        if name in examples.FILES and examples.shows(data, sought):
            return examples.with_another(data, self._another(listed, sought) or examples.drawn())
        if name.endswith(".html"):
            return without(data, sought.paths)
        if not sought.named_in(data):
            return data
        if name.endswith(".json"):
            with suppress(ValueError):  # half a file is blotted like a text
                return json.dumps(_json_without(json.loads(data), sought), indent=1).encode()
        return sought.blotted(data)

    def _another(self, listed: Lists, sought: SoughtPhoto) -> bytes | None:
        """The bytes of another test photo that can be read; None if there is none, so that the version cannot be tested any more."""
        predicted = [rows for file, rows in listed.items() if file.rpartition("/")[2] == PREDICTIONS_FILE]
        if not predicted:
            return None
        rows = predicted[0].filter(pc.invert(lists.among(predicted[0], sought)))
        limit = self._platform.settings.serving.max_request_bytes * 3 // 4 - 4096
        photos = readable(self._platform.files, rows[PATH].to_pylist(), rows[HASH].to_pylist(), {})
        return next((photo for photo in photos if len(photo) <= limit), None)


def _listed(files: dict[str, bytes]) -> tuple[Lists, list[str]]:
    """The lists among the files; and those that cannot be read."""
    listed, broken = {}, []
    for file, data in files.items():
        if _suffix(file) == ".parquet":
            try:
                listed[file] = parquet.from_bytes(data)
            except ValueError:
                broken.append(file)
    return listed, broken


def _shows_photos(name: str) -> bool:
    return name in {SMOKE_PHOTO_FILE, *examples.FILES, *SHOWING_PHOTOS} or name.endswith(".html")


def _suffix(file: str) -> str:
    name = file.rpartition("/")[2]
    return f".{name.rpartition('.')[2]}" if "." in name else "" if name == SMOKE_PHOTO_FILE else "?"


def _list_without(rows: pa.Table, data: bytes, sought: SoughtPhoto) -> bytes | None:
    """The file with these rows, without those of the photo."""
    mask = lists.among(rows, sought)
    return parquet.to_bytes(rows.filter(pc.invert(mask))) if pc.any(mask).as_py() else data


def _paths(rows: pa.Table, sought: SoughtPhoto) -> list[str]:
    return rows.filter(lists.among(rows, sought))[PATH].to_pylist() if PATH in rows.column_names else []


def _named(listed: Lists, sought: SoughtPhoto) -> Iterator[dict[str, Any]]:
    for rows in listed.values():
        yield from rows.filter(lists.among(rows, sought)).to_pylist()


def _mistaken(row: dict[str, Any]) -> bool:
    return row.get("predicted", row.get("label")) != row.get("label")


def _json_without(value: Any, sought: SoughtPhoto) -> Any:
    """The value without the objects that name the photo."""
    if isinstance(value, dict):
        return {key: _json_without(one, sought) for key, one in value.items() if not sought.named_in(str(key).encode())}
    if isinstance(value, list):
        return [_json_without(one, sought) for one in value if not _names(one, sought)]
    return None if isinstance(value, str) and sought.named_in(value.encode()) else value


def _names(value: Any, sought: SoughtPhoto) -> bool:
    """Whether a member of a list names the photo: itself, or one of its own fields."""
    texts = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(text, str) and sought.named_in(text.encode()) for text in texts)
