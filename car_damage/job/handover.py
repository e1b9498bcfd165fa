"""What passes between a flow run and the job that does a stage's work elsewhere: files in a folder that both reach.

For each stage of a flow run that was asked for, in `<folder>/<flow run>/<stage>/`:

- `<hash>.request.json` what is to be done, written by the flow run;
- `<hash>.json` the report, written by the job: that it is there is what success means;
- `<hash>.failed.<job run>.json` why that run of the job failed;
- `<hash>.progress.json` how far it is, the only one that is written more than once.

`<hash>` is that of the request, so that whoever asks the same again finds the answer, and whoever asks something else
does not. A volume can rename nothing, so a file may be seen, or left, half written: each carries the checksum of its
own contents, and one that does not agree with it is not there. Nothing is removed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from car_damage import errors
from car_damage.errors import CarDamageError, FileMissing, SettingsError, Terminal, Transient, Unavailable
from car_damage.job import code
from car_damage.pipeline import digest
from car_damage.ports import Files
from car_damage.settings import Settings

NOT_TOLD = {"spark", "stack", "alerts", "doorbell", "databricks"}
"""Sections of the settings that no stage reads in a job. Those of Spark are the job's own, and may hold secrets."""
ANEW = 8
"""Times that a file which was left half written is written anew, beside it."""


@dataclass(frozen=True)
class Place:
    """Where the files of one request are.

    Args:
        folder: of all hand-overs.
        flow_run: the flow run's id.
        stage: the stage's name.
        key: hash of the request.
    """

    folder: str
    flow_run: str
    stage: str
    key: str

    @classmethod
    def of(cls, folder: str, stage: str, request: Any) -> "Place":
        """The place of a request, a dataclass with the attribute flow_run."""
        return cls(folder.rstrip("/"), request.flow_run, stage, digest(request))

    @classmethod
    def at(cls, request: str) -> "Place":
        """The place of a request, by the request's path."""
        folder, flow_run, stage, name = request.rsplit("/", 3)
        return cls(folder, flow_run, stage, name.partition(".")[0])

    @property
    def request(self) -> str:
        """Path of the request."""
        return self._path("request.json")

    @property
    def report(self) -> str:
        """Path of the report."""
        return self._path("json")

    @property
    def progress(self) -> str:
        """Path of the progress."""
        return self._path("progress.json")

    def failure(self, job_run: int) -> str:
        """Path of the failure of one run of the job."""
        return self._path(f"failed.{job_run}.json")

    def _path(self, ending: str) -> str:
        return f"{self.folder}/{self.flow_run}/{self.stage}/{self.key}.{ending}"


@dataclass(frozen=True)
class Asked:
    """What a job is told: a request, and what the flow run knows beside it."""

    stage: str
    request: Mapping[str, Any]
    options: Mapping[str, bool]
    """The flow run's own parameters, from which later requests follow."""
    settings: Mapping[str, Any]
    folder: str
    """Of all hand-overs."""
    code: str
    """`car_damage.job.code.fingerprint` where the request comes from: other code might read it, or train, differently."""


@dataclass(frozen=True)
class Told:
    """How far a stage is: what `Progress` is told."""

    step: str
    done: int
    total: int
    message: str = ""


def ask(files: Files, place: Place, request: Any, options: Mapping[str, bool], settings: Settings) -> None:
    """Write a request down, once.

    Raises:
        Unavailable: the folder cannot be written to.
    """
    told = settings.model_dump(mode="json", exclude=NOT_TOLD)
    _put(files, place.request, asdict(Asked(place.stage, asdict(request), dict(options), told, place.folder, code.fingerprint())))


def asked(files: Files, path: str) -> Asked:
    """Read a request.

    Raises:
        Unavailable: it cannot be read.
        SettingsError: it was written by other code than this.
    """
    body = _get(files, path)
    if body is None:
        raise Unavailable(f"the request {path} is not there")
    if body.get("code") != code.fingerprint():
        raise SettingsError(
            "the flow run and its job have different code: run `.venv/bin/python -m deployments bootstrap` where the worker's code is, "
            "so that the job gets its wheel"
        )
    return Asked(**body)


def answer(files: Files, place: Place, report: Any) -> None:
    """Write a report down, once: where another run of the job was first, its report stands."""
    _put(files, place.report, asdict(report))


def answered(files: Files, place: Place, report: type[Any]) -> Any:
    """The report, of this type; None while there is none.

    Raises:
        Terminal: there is one that is not of this type.
    """
    body = _get(files, place.report)
    if body is None:
        return None
    try:
        return TypeAdapter(report).validate_python(body)
    except ValidationError as error:
        raise Terminal(f"{place.report} is no {report.__name__}: another version of car-damage wrote it; start a new run") from error


def fail(files: Files, place: Place, job_run: int, error: CarDamageError) -> None:
    """Write down why a run of the job failed."""
    kind = "Transient" if isinstance(error, Transient) else "Terminal"
    _put(files, place.failure(job_run), {"kind": kind, "error": type(error).__name__, "message": str(error)})


def failed(files: Files, place: Place, job_run: int) -> CarDamageError | None:
    """Why a run of the job failed, as the error that it was; None where it left no word."""
    body = _get(files, place.failure(job_run))
    if body is None:
        return None
    kind: type[CarDamageError] = Transient if body["kind"] == "Transient" else Terminal
    named = getattr(errors, body["error"], kind)
    # What a retry depends on is the kind, whatever the name says.
    error: type[CarDamageError] = named if isinstance(named, type) and issubclass(named, kind) else kind
    return error(body["message"])


def tell(files: Files, place: Place, told: Told) -> None:
    """Write down how far a stage is, in place of what was said before."""
    files.replace(place.progress, _sealed(asdict(told)))


def told(files: Files, place: Place) -> Told | None:
    """How far a stage is; None where that is not known."""
    try:
        body = _read(files, place.progress)
    except FileMissing:
        return None
    return None if body is None else Told(**body)


def _sealed(body: Mapping[str, Any]) -> bytes:
    return json.dumps({"body": body, "sha256": digest(body)}, indent=1).encode()


def _put(files: Files, path: str, body: Mapping[str, Any]) -> None:
    data = _sealed(body)
    for beside in _names(path):
        try:
            files.write_once(beside, data)
        except FileExistsError:
            if _read(files, beside) is not None:
                return  # whole: whoever was first has said the same, or decided it
        else:
            return
    raise Unavailable(f"{path} was left half written {ANEW + 1} times: see whether the folder's storage is full")


def _get(files: Files, path: str) -> dict[str, Any] | None:
    for beside in _names(path):
        try:
            body = _read(files, beside)
        except FileMissing:
            return None
        if body is not None:
            return body
    return None


def _names(path: str) -> list[str]:
    """The file, and those written anew beside one that was left half written."""
    stem = path.removesuffix(".json")
    return [path, *(f"{stem}.{again}.json" for again in range(1, ANEW + 1))]


def _read(files: Files, path: str) -> dict[str, Any] | None:
    """The contents of a file; None where it is not whole. Raises FileMissing, or Unavailable when it cannot be read now."""
    data = files.read(path)
    try:
        sealed = json.loads(data)
        body: dict[str, Any] = sealed["body"]
        whole = sealed["sha256"] == digest(body)
    except (ValueError, TypeError, KeyError):
        return None
    return body if whole else None
