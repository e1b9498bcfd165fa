"""Stage score: scores the photos of a folder or a table with one model version, and keeps the answers in the predictions table.

The model runs in a process of its own, which is started once and decodes as the endpoint does. Photos are read a few ahead
of it, and answers are written chunk by chunk, so the run after a kill continues after the last chunk. All of that happens on the
driver, with every table engine.
"""

import json
import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from car_damage.data import ledger
from car_damage.data.predictions import FILE, KEY, PREDICTIONS, of_paths, unscored
from car_damage.errors import SettingsError, Terminal, Unavailable
from car_damage.machine import Scratch
from car_damage.model.process import ModelAnswer, stream
from car_damage.photo.reasons import EMPTY
from car_damage.pipeline import UNREADABLE_SHOWN, ScoreReport, ScoreRequest
from car_damage.ports import ModelVersion, Platform
from car_damage.stage import HOUR, Progress, Stage

EXAMPLES = 10
AHEAD = 64
"""Photos that are read before the model takes them."""
READERS = 8
"""Threads that read them."""

_log = logging.getLogger(__name__)


def work(request: ScoreRequest, platform: Platform, progress: Progress) -> ScoreReport:
    """Do what the module describes.

    Raises:
        Terminal: there is no champion, or the table has no column path.
        SettingsError: the folder or the table is not there.
        RegistryError: there is no such version.
        ModelRefused: the model's process ended, or gave no answer in time.
    """
    settings, tables = platform.settings, platform.tables
    source = request.source or settings.scoring.source or settings.landing.folder
    version = _version(request, platform)
    photos = _photos(source, platform)
    known, at = tables.read(settings.tables.predictions, [*FILE, "model_version"])
    wanted = unscored(photos, known, version.version)
    labels: Counter[str] = Counter()
    examples: dict[str, str] = {}
    reader = _Reader(wanted, platform)
    done = 0
    progress("score", 0, wanted.num_rows, f"version {version.version}")
    with closing(_answers(version, reader, platform)) as answers:
        while chunk := list(islice(answers, settings.scoring.chunk)):
            rows = pa.Table.from_pylist([_row(request, version, file, answer, platform) for file, answer in chunk], schema=PREDICTIONS)
            at = tables.merge(settings.tables.predictions, rows, KEY)
            labels.update(answer.label for _, answer in chunk if not answer.refused)
            refused = ((file["path"], answer.refused) for file, answer in chunk if answer.refused)
            examples |= islice(refused, EXAMPLES - len(examples))
            done += len(chunk)
            progress("score", done, wanted.num_rows, f"version {version.version}")
    if at < 0:
        at = tables.merge(settings.tables.predictions, PREDICTIONS.empty_table(), KEY)
    return ScoreReport(
        version=version.version,
        source=source,
        found=photos.num_rows,
        scored=sum(labels.values()),
        # From mildest to worst; then the labels of an older model.
        labels={name: labels[name] for name in dict.fromkeys([*settings.labels.classes, *sorted(labels)]) if labels[name]},
        refused=done - sum(labels.values()),
        examples=examples,
        unreadable=tuple(reader.unreadable[:UNREADABLE_SHOWN]),
        unreadable_count=len(reader.unreadable),
        predictions_version=at,
    )


def _version(request: ScoreRequest, platform: Platform) -> ModelVersion:
    if request.version != "champion":
        return platform.registry.get(request.version)
    champion = platform.registry.champion()
    if champion is None:
        raise Terminal("no version is live yet: run retrain first, or name a version")
    return champion


def _photos(source: str, platform: Platform) -> pa.Table:
    """The columns `FILE`, one row a path."""
    if "/" in source:
        try:
            return ledger.listing_of(platform.files.list(source)).select(list(FILE))
        except SettingsError as error:
            raise SettingsError(f"{source}, the source to score, is no folder on this machine: mount it, or name another source") from error
    if source.count(".") != 2:
        raise SettingsError(f"{source} is no source to score: name a folder, with a /, or a table as catalog.schema.table")
    rows, version = platform.tables.read(source, ["path"])
    if version < 0:
        raise SettingsError(f"the table {source} is not there; name a folder (with a /), or a table with a column path")
    return of_paths(rows["path"])


class _Reader:
    """Reads the photos in their order, and keeps which ones went to the model and which could not be read."""

    def __init__(self, files: pa.Table, platform: Platform) -> None:
        self.files, self._platform = files, platform
        self.given: deque[Mapping[str, Any]] = deque()
        self.empty: list[Mapping[str, Any]] = []
        """Files without a byte: they do not go to the model."""
        self.unreadable: list[str] = []

    def read(self) -> Iterator[bytes]:
        """The bytes of each photo that can be read; a few photos are read ahead."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="score") as pool:
            ahead: deque[tuple[Mapping[str, Any], Future[bytes]]] = deque()
            try:
                for file in chain.from_iterable(batch.to_pylist() for batch in self.files.to_batches(max_chunksize=1024)):
                    ahead.append((file, pool.submit(self._platform.files.read, file["path"])))
                    if len(ahead) >= AHEAD:
                        yield from self._one(*ahead.popleft())
                while ahead:
                    yield from self._one(*ahead.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _one(self, file: Mapping[str, Any], reading: "Future[bytes]") -> Iterator[bytes]:
        try:
            data = reading.result()
        except Unavailable as error:
            if not self.unreadable:
                _log.warning("a photo could not be read; the next run tries it, and all others like it, again: %s", error)
            self.unreadable.append(file["path"])
            return
        if data:
            self.given.append(file)
            yield data
        else:
            self.empty.append(file)


def _answers(version: ModelVersion, reader: _Reader, platform: Platform) -> Generator[tuple[Mapping[str, Any], ModelAnswer]]:
    if not reader.files.num_rows:
        return
    tracking = platform.settings.tracking
    with Scratch("score") as folder:
        model = platform.registry.download(version.uri, folder)
        for answer in stream(model, reader.read(), tracking.check_timeout, tracking.champion_environment):
            yield reader.given.popleft(), answer
    yield from ((file, ModelAnswer("", 0.0, {}, "", EMPTY)) for file in reader.empty)


def _row(request: ScoreRequest, version: ModelVersion, file: Mapping[str, Any], answer: ModelAnswer, platform: Platform) -> dict[str, Any]:
    row = {**file, "model_version": version.version, "flow_run": request.flow_run, "scored": platform.clock.now()}
    if answer.refused:
        return row | {"refused": answer.refused}
    fields = {"label": answer.label, "probability": answer.probability, "probabilities": json.dumps(answer.probabilities)}
    return row | fields | {"sha256": answer.sha256}


STAGE = Stage("score", ScoreRequest, ScoreReport, work, job="score", deadline=23.5 * HOUR)
