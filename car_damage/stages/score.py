"""Stage score: scores the photos of a folder or a table with one model version, and keeps the answers in the predictions table. Where
claims are known, it says what the photos of each claim say together, in the table of claims.

The model runs in processes of its own, which decode as the endpoint does: with delta-rs in one on the driver, with Spark in one for
each of its Python workers. Answers are written chunk by chunk, so the run after a kill continues after the last chunk.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers.claims import by_column, by_folder
from car_damage.data.answers.predictions import ANSWER, FILE, KEY, PREDICTIONS, of_paths, unscored
from car_damage.data.forgotten import marked
from car_damage.data.photos import ledger
from car_damage.errors import SettingsError, Terminal
from car_damage.machine import Scratch, absolute
from car_damage.pipeline import UNREADABLE_SHOWN, ScoreReport, ScoreRequest
from car_damage.ports import ModelVersion, Platform
from car_damage.stage import HOUR, Progress, Stage
from car_damage.stages.photos import claims
from car_damage.traces.marks import marks as forgotten_marks

EXAMPLES = 10

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
    source = _source(request.source or settings.scoring.source or settings.landing.folder)
    version = _version(request, platform)
    photos, of_claims = _photos(source, platform)
    known, at = tables.read(settings.tables.predictions, [*FILE, "model_version"])
    wanted = unscored(photos, known, version.version)
    labels: Counter[str] = Counter()
    examples: list[tuple[str, str]] = []
    unreadable: list[str] = []
    forgotten: list[str] = []
    done = 0
    progress("score", 0, wanted.num_rows, f"version {version.version}")
    with closing(_answers(version, wanted, platform)) as given:
        for answers in given:
            unread = pc.is_valid(answers["unreadable"])
            if not unreadable and pc.any(unread).as_py():
                why = answers["unreadable"].drop_null()[0].as_py()
                _log.warning("a photo could not be read; the next run tries it, and all others like it, again: %s", why)
            unreadable += answers["path"].filter(unread).to_pylist()
            unknown = marked(answers["sha256"], forgotten_marks(platform))  # a photo may be forgotten between two chunks
            forgotten += answers["path"].filter(unknown).to_pylist()
            answered = answers.filter(pc.invert(pc.or_(unread, unknown)))
            at = tables.merge(settings.tables.predictions, _rows(request, version, wanted, answered, platform), KEY)
            labels.update(answered["label"].drop_null().to_pylist())
            refused = answered.filter(pc.is_valid(answered["refused"]))
            examples = heapq.nsmallest(
                EXAMPLES, [*examples, *zip(refused["path"].to_pylist(), refused["refused"].to_pylist(), strict=True)]
            )
            done += answered.num_rows
            progress("score", done, wanted.num_rows, f"version {version.version}")
    if at < 0:
        at = tables.merge(settings.tables.predictions, PREDICTIONS.empty_table(), KEY)
    of_claims = of_claims.filter(pc.invert(pc.is_in(of_claims["path"], value_set=pa.array(forgotten, pa.string()))))
    together = claims.write(request, source, version.version, photos, of_claims, platform) if of_claims.num_rows else of_claims
    return ScoreReport(
        version=version.version,
        source=source,
        found=photos.num_rows,
        scored=sum(labels.values()),
        # From mildest to worst; then the labels of an older model.
        labels={name: labels[name] for name in dict.fromkeys([*settings.labels.classes, *sorted(labels)]) if labels[name]},
        refused=done - sum(labels.values()),
        examples=dict(examples),
        unreadable=tuple(sorted(unreadable)[:UNREADABLE_SHOWN]),
        unreadable_count=len(unreadable),
        predictions_version=at,
        claims=together.num_rows,
        claims_for_review=pc.sum(together["review"]).as_py() if together.num_rows else 0,
    )


def _source(named: str) -> str:
    """A folder as the paths of its files have it, so that claims are known by one source; a table as it is."""
    return absolute(named) if "/" in named else named


def _version(request: ScoreRequest, platform: Platform) -> ModelVersion:
    if request.version != "champion":
        return platform.registry.get(request.version)
    champion = platform.registry.champion()
    if champion is None:
        raise Terminal("no version is live yet: run retrain first, or name a version")
    return champion


def _photos(source: str, platform: Platform) -> tuple[pa.Table, pa.Table]:
    """The columns `FILE`, one row a path; and `LINK`, which of them belong to which claim."""
    if "/" in source:
        try:
            photos = ledger.listing_of(platform.files.list(source)).select(list(FILE))
        except SettingsError as error:
            raise SettingsError(f"{source}, the source to score, is no folder on this machine: mount it, or name another source") from error
        in_folders = platform.settings.scoring.claims == "folder"
        return photos, by_folder(photos["path"].to_pylist() if in_folders else [], source)
    if source.count(".") != 2:
        raise SettingsError(f"{source} is no source to score: name a folder, with a /, or a table as catalog.schema.table")
    rows, version = platform.tables.read(source, ["path", "claim"], optional=["claim"])
    if version < 0:
        raise SettingsError(f"the table {source} is not there; name a folder (with a /), or a table with a column path")
    return of_paths(rows["path"]), by_column(rows)


def _answers(version: ModelVersion, wanted: pa.Table, platform: Platform) -> Generator[pa.Table]:
    if not wanted.num_rows:
        return
    tracking, chunk = platform.settings.tracking, platform.settings.scoring.chunk
    with Scratch("score") as folder:
        model = platform.registry.download(version.uri, folder)
        yield from platform.tables.answers(wanted, model, tracking.check_timeout, tracking.champion_environment, chunk)


def _rows(request: ScoreRequest, version: ModelVersion, wanted: pa.Table, answered: pa.Table, platform: Platform) -> pa.Table:
    """The rows of the predictions table."""
    files = wanted.take(pc.index_in(answered["path"], value_set=wanted["path"]))
    same = {"model_version": version.version, "flow_run": request.flow_run, "scored": platform.clock.now()}
    columns = {name: pa.repeat(pa.scalar(value, PREDICTIONS.field(name).type), answered.num_rows) for name, value in same.items()}
    columns |= {name: files[name] for name in FILE} | {name: answered[name] for name in ANSWER.names}
    return pa.table(columns).select(PREDICTIONS.names).cast(PREDICTIONS)


STAGE = Stage("score", ScoreRequest, ScoreReport, work, job="score", deadline=23.5 * HOUR)
