"""The files by which a flow run and a job hand over work, in a folder that both reach.

The flow run writes a request, and the job answers it. For each stage of a flow run, in `<folder>/<flow run>/<stage>/`:

- `<hash>.request.json`: the request, written by the flow run;
- `<hash>.json`: the report, written by the job; a stage has succeeded when this file is there;
- `<hash>.failed.<job run>.json`: why that run of the job failed;
- `<hash>.progress.json`: how far the stage is, the only file that is replaced while it is whole.

`<hash>` is the hash of the request: the same request finds its report again, and another request does not. A volume has no
rename, so a file may be seen, or be left, half written. Each file carries the checksum of its contents; a file with another checksum
counts as missing, and the next writer replaces it. A later flow run removes the folder of a flow run after `databricks.keep_days`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from car_damage import errors
from car_damage.errors import CarDamageError, FileMissing, Terminal, Transient, Unavailable, WorkspaceIncomplete
from car_damage.job import code
from car_damage.pipeline import Leftover, digest
from car_damage.ports import File, Files, Space
from car_damage.settings import Settings

LEFT_OUT = {"spark", "stack", "alerts", "doorbell", "databricks", "workers"}
"""Sections of the settings that no stage reads in a job. Those of Spark are the job's own, and may hold secrets."""


@dataclass(frozen=True)
class Place:
    """Where the files of one request are."""

    folder: str
    """The folder of all hand-overs."""
    flow_run: str
    stage: str
    key: str
    """The hash of the request."""

    @classmethod
    def of(cls, folder: str, stage: str, request: Any) -> "Place":
        """The place of a request, a dataclass with the attribute flow_run."""
        return cls(folder.rstrip("/"), request.flow_run, stage, digest(request))

    @classmethod
    def at(cls, request: str) -> "Place":
        """The place of a request, from the path of the request's file."""
        folder, flow_run, stage, name = request.rsplit("/", 3)
        return cls(folder, flow_run, stage, name.partition(".")[0])

    @property
    def request(self) -> str:
        return self._path("request.json")

    @property
    def report(self) -> str:
        return self._path("json")

    @property
    def progress(self) -> str:
        return self._path("progress.json")

    def failure(self, job_run: int) -> str:
        return self._path(f"failed.{job_run}.json")

    def _path(self, ending: str) -> str:
        return f"{self.folder}/{self.flow_run}/{self.stage}/{self.key}.{ending}"


@dataclass(frozen=True)
class JobRequest:
    """What a job reads: a request, and what the flow run adds to it."""

    stage: str
    request: Mapping[str, Any]
    options: Mapping[str, bool]
    """The parameters of the flow run; the requests of later stages follow from them."""
    settings: Mapping[str, Any]
    folder: str
    """The folder of all hand-overs."""
    code: str
    """`car_damage.job.code.fingerprint` of the flow run: other code might read the request, or train, differently."""


@dataclass(frozen=True)
class Step:
    """How far a stage is: the arguments of `Progress`."""

    step: str
    done: int
    total: int
    message: str = ""


def write_request(files: Files, place: Place, request: Any, options: Mapping[str, bool], settings: Settings) -> None:
    """Write a request, once.

    Raises:
        Unavailable: the folder cannot be written to.
    """
    plain = settings.model_dump(mode="json", exclude=LEFT_OUT)
    _write(files, place.request, asdict(JobRequest(place.stage, asdict(request), dict(options), plain, place.folder, code.fingerprint())))


def read_request(files: Files, path: str) -> JobRequest:
    """Read a request.

    Raises:
        Unavailable: it cannot be read.
        WorkspaceIncomplete: the flow run that wrote it has other code than this job.
    """
    body = _read(files, path)
    if body is None:
        raise Unavailable(f"the request {path} is not there")
    if body.get("code") != code.fingerprint():
        raise WorkspaceIncomplete("the flow run and its job have different code: give the job the wheel of the worker's code")
    return JobRequest(**body)


def write_report(files: Files, place: Place, report: Any) -> None:
    """Write a report, once: where another run of the job was first, its report stays."""
    _write(files, place.report, asdict(report))


def read_report(files: Files, place: Place, report: type[Any]) -> Any:
    """The report, of this type; None while there is none.

    Raises:
        Terminal: the file is there and holds another type.
    """
    body = _read(files, place.report)
    if body is None:
        return None
    try:
        return TypeAdapter(report).validate_python(body)
    except ValidationError as error:
        raise Terminal(f"{place.report} is no {report.__name__}: another version of car-damage wrote it; start a new run") from error


def write_failure(files: Files, place: Place, job_run: int, error: CarDamageError) -> None:
    """Write why a run of the job failed."""
    kind = "Transient" if isinstance(error, Transient) else "Terminal"
    _write(files, place.failure(job_run), {"kind": kind, "error": type(error).__name__, "message": str(error)})


def read_failure(files: Files, place: Place, job_run: int) -> CarDamageError | None:
    """The error by which a run of the job failed; None where it left no such file."""
    body = _read(files, place.failure(job_run))
    if body is None:
        return None
    kind: type[CarDamageError] = Transient if body["kind"] == "Transient" else Terminal
    named = getattr(errors, body["error"], kind)
    # Whether the task retries depends on the kind, so a class of the other kind is not used.
    error: type[CarDamageError] = named if isinstance(named, type) and issubclass(named, kind) else kind
    return error(body["message"])


def write_progress(files: Files, place: Place, step: Step) -> None:
    """Write how far a stage is, in place of what was there before."""
    files.replace(place.progress, _sealed(asdict(step)))


def read_progress(files: Files, place: Place) -> Step | None:
    """How far a stage is; None where that is not known."""
    body = _read(files, place.progress)
    try:
        return None if body is None else Step(**body)
    except TypeError:  # of another version
        return None


def remove_old(files: Files, settings: Settings, now: datetime, *, dry_run: bool = False) -> list[Leftover]:
    """Remove what flow runs and jobs exchanged more than `databricks.keep_days` before `now`, or with `dry_run` only find it.

    Nothing where no stage runs in a job.
    """
    if settings.databricks.stages != "jobs":
        return []
    folder = settings.databricks.handovers
    old = _of_flow_runs(files, folder, now - timedelta(days=settings.databricks.keep_days))
    if not dry_run:
        for path in old:
            files.remove(path)
    spaces = old.values()
    return [Leftover("hand-overs to jobs", folder, sum(of.files for of in spaces), sum(of.bytes for of in spaces))] if old else []


def _of_flow_runs(files: Files, folder: str, before: datetime) -> dict[str, Space]:
    """The folder of each flow run whose latest file was written before this moment, with what it holds."""
    of: dict[str, list[File]] = {}
    for file in files.list(folder):
        flow_run = file.path.removeprefix(folder.rstrip("/") + "/").partition("/")[0]
        of.setdefault(f"{folder.rstrip('/')}/{flow_run}", []).append(file)
    old = {path: those for path, those in of.items() if max(file.modified for file in those) < before}
    return {path: Space(len(those), sum(file.size for file in those)) for path, those in old.items()}


def _sealed(body: Mapping[str, Any]) -> bytes:
    return json.dumps({"body": body, "sha256": digest(body)}, indent=1).encode()


def _write(files: Files, path: str, body: Mapping[str, Any]) -> None:
    """Write a file that stays as it is once it is whole: the first writer wrote the same, or its decision counts.

    A half-written file is replaced. Two writers at the same moment can spoil the file only on a mounted volume, which has no hard links.
    """
    try:
        files.write_once(path, _sealed(body))
    except FileExistsError:
        if _read(files, path) is None:
            files.replace(path, _sealed(body))
            if _read(files, path) is None:
                raise Unavailable(f"{path} was left half written again: see whether the folder's storage is full") from None


def _read(files: Files, path: str) -> dict[str, Any] | None:
    """The contents of a file; None where it is missing or not whole. Raises Unavailable when it cannot be read at present."""
    try:
        sealed = json.loads(files.read(path))
        body: dict[str, Any] = sealed["body"]
        whole = sealed["sha256"] == digest(body)
    except (FileMissing, ValueError, TypeError, KeyError):
        return None
    return body if whole else None
