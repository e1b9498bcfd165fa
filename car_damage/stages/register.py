"""Stage register: judges a run's model against the present champion, and registers it with the decision.

A kill is safe because of the order of the writes: the version, the evidence, its tags, the alias for the intention, and last the tag
`decision`. A version without that tag is undecided, and the next run decides on it. Before a second decision the tag is taken back.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from pydantic import TypeAdapter

from car_damage.data.photos.checked import readable
from car_damage.errors import CarDamageError, ModelRefused, RegistryError, TooFewPhotos
from car_damage.machine import Scratch
from car_damage.model.quality import plots
from car_damage.model.quality.evaluation import macro_f1
from car_damage.model.run_files import confusion_plot_file, evidence_file
from car_damage.model.served.process import answers
from car_damage.moves import DONE, NO_VERSION, rollback_of
from car_damage.pipeline import AWAIT, KEEP, PROMOTE, Evidence, RegisterReport, RegisterRequest, StoredEvidence
from car_damage.ports import CHALLENGER, FLOW_RUN_TAG, KEY_TAG, SILVER_TAG, ModelVersion, Platform
from car_damage.promotion.rule import Decision
from car_damage.promotion.tags import (
    APPROVAL,
    DECISION,
    DRY_RUN,
    JUDGED_AGAINST,
    NOT_APPROVED,
    REASONS,
    UNDECIDED,
    decided_of,
    is_approved,
    is_decided,
    is_outdated,
    tags_of,
)
from car_damage.showing import if_possible
from car_damage.stage import HOUR, Progress, Stage
from car_damage.stages.photos.verdicts import leave_out
from car_damage.stages.versions.judging import PhotosToJudge, judge, read_test_photos

_EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(StoredEvidence)
_SUMMARY = "Network "
"""What the descriptions of versions begin with, unless a person has written another one."""
_FATES = {
    PROMOTE: "Goes live{instead}",
    AWAIT: "May go live{instead} when a person approves it",
    KEEP: "Does not go live{instead}",
}
ROUNDING = 1e-3
"""Largest difference of a probability from the one after training, on the same machine: float32, and another batch size."""


def work(request: RegisterRequest, platform: Platform, progress: Progress) -> RegisterReport:
    """Decide on the run's model, unless it has a decision that still holds."""
    registry = platform.registry
    versions = registry.versions_for(request.run_id)
    decided = decided_of(versions)
    champion = registry.champion()
    if decided is not None and not _is_open(request, decided, champion, platform):
        return _found(decided, platform)
    test = read_test_photos(request, platform)
    version, summary = decided or (versions[0] if versions else None), _summary(request, test, platform)
    left_out: dict[str, CarDamageError] = {}
    if version is None:
        left_out |= _check_answer(request, test, platform)
        version = registry.create(
            request.run_id,
            request.model_uri,
            {FLOW_RUN_TAG: request.flow_run, SILVER_TAG: str(request.silver_version), KEY_TAG: request.training_key},
            summary,
        )
    champion = registry.champion()
    judgement = judge(test, version, champion, platform, progress)
    judged = _hold_back(request, version, judgement.decision, platform)
    if not request.dry_run:
        with if_possible(f"the decision in the description of version {version.version}"):
            platform.registry.describe(version.version, _description(summary, version, champion, judged, platform), _SUMMARY)
    _record(request, version, champion, judged, platform)
    leave_out({**left_out, **judgement.left_out}, platform)
    return RegisterReport(
        version=version.version,
        decision=judged.decision,
        reasons=judged.reasons,
        champion=champion.version if champion else None,
        decided_before=False,
        evidence=judged.evidence,
    )


def _is_open(request: RegisterRequest, decided: ModelVersion, champion: ModelVersion | None, platform: Platform) -> bool:
    """Whether a decided version is judged again."""
    if champion is not None and champion.version == decided.version:
        return False
    return request.judge_again or is_outdated(decided, champion, platform.history.moves(DONE))


def _hold_back(request: RegisterRequest, version: ModelVersion, judged: Decision, platform: Platform) -> Decision:
    """Hold back a model that a person took back, also when it was trained again: test photos do not show the person's reason."""
    if judged.decision != PROMOTE:
        return judged
    moves = platform.history.moves(DONE)
    for number in sorted({move.intention.replaces for move in moves if move.intention.replaces is not None}):
        back = rollback_of(moves, number)
        if back is not None and (number == version.version or _is_twin(number, request.training_key, platform)):
            which = "it" if number == version.version else f"version {number}, of the same photos and settings,"
            why = f"{which} was taken back on {back.started:%Y-%m-%d} ({back.intention.reason}), so a person must approve it"
            return replace(judged, decision=AWAIT, reasons=(*judged.reasons, why))
    return judged


def _is_twin(number: int, training_key: str, platform: Platform) -> bool:
    try:
        return bool(training_key) and platform.registry.get(number).tags.get(KEY_TAG) == training_key
    except RegistryError:  # deleted meanwhile
        return False


def _record(request: RegisterRequest, version: ModelVersion, champion: ModelVersion | None, judged: Decision, platform: Platform) -> None:
    """Write the decision: the evidence first, then the intention, and last the tag which marks the version as decided."""
    registry = platform.registry
    if is_decided(version) and not request.dry_run:
        registry.tag(version.version, {DECISION: UNDECIDED})  # before the evidence, which would belong to another decision
    document = {
        "version": version.version,
        "champion": champion.version if champion else None,
        "silver_version": request.silver_version,
        "decision": judged.decision,
        "reasons": list(judged.reasons),
        "evidence": asdict(judged.evidence),
    }
    name = evidence_file(version.version, request.dry_run)
    files = {name: json.dumps(document, indent=1).encode()}
    with if_possible("the confusion matrices of the decision"):
        files[confusion_plot_file(name)] = _picture(judged.evidence, version, champion, platform.settings.labels.classes)
    platform.tracking.attach(request.run_id, files)
    tags = tags_of(judged, champion) | {FLOW_RUN_TAG: request.flow_run, SILVER_TAG: str(request.silver_version)}
    if request.dry_run:
        registry.tag(version.version, {DRY_RUN + key: value for key, value in (tags | {DECISION: judged.decision}).items()})
        return
    if is_approved(registry.get(version.version)):
        tags |= {APPROVAL: NOT_APPROVED}  # before the decision: nobody has seen its evidence
    registry.tag(version.version, tags)
    if judged.decision == PROMOTE:
        registry.move(CHALLENGER, version.version)
    elif (challenger := registry.challenger()) is not None and challenger.version == version.version:
        registry.move(CHALLENGER, None)
    registry.tag(version.version, {DECISION: judged.decision})


def _picture(evidence: Evidence, version: ModelVersion, champion: ModelVersion | None, classes: Sequence[str]) -> bytes:
    confusions = {f"version {version.version}": evidence.candidate.confusion}
    if champion is not None and evidence.champion is not None:
        confusions[f"champion {champion.version}"] = evidence.champion.confusion
    return plots.confusion_matrices(confusions, classes)


def _found(version: ModelVersion, platform: Platform) -> RegisterReport:
    """The decision of an earlier run: by the version's tags, with the evidence of the run, which is only shown."""
    against = version.tags.get(JUDGED_AGAINST, NO_VERSION)
    report = RegisterReport(
        version=version.version,
        decision=version.tags[DECISION],
        reasons=(version.tags.get(REASONS, ""),),
        champion=None if against == NO_VERSION else int(against),
        decided_before=True,
        evidence=None,
    )
    with if_possible(f"the evidence of the decision on version {version.version}"):
        document = json.loads(platform.tracking.fetch(version.run_id, evidence_file(version.version)))
        return replace(report, reasons=tuple(document["reasons"]), evidence=_EVIDENCE.validate_python(document["evidence"]))
    return report


def _summary(request: RegisterRequest, test: PhotosToJudge, platform: Platform) -> str:
    """The version's model, for people. The run was trained with these settings: they are part of its training key."""
    settings = platform.settings
    network = request.network or settings.training.network
    return (
        f"{_SUMMARY}{network}, trained on {test.trained_on:,} photos of {settings.tables.silver} version "
        f"{request.silver_version}; macro-F1 {macro_f1(test.truth, test.candidate, len(settings.labels.classes)):.3f} on "
        f"{len(test.truth):,} test photos"
    )


def _description(summary: str, version: ModelVersion, champion: ModelVersion | None, judged: Decision, platform: Platform) -> str:
    """The version's description in the registry: its model, the decision, and the run."""
    instead = f" in place of version {champion.version}" if champion else ""
    decision = f"{_FATES[judged.decision].format(instead=instead)}: {'; '.join(judged.reasons)}"
    return "\n\n".join((summary, decision, f"MLflow run: {platform.tracking.url(version.run_id) or version.run_id}"))


def _check_answer(request: RegisterRequest, test: PhotosToJudge, platform: Platform) -> dict[str, CarDamageError]:
    """Check that the candidate answers one photo as after its training, in a process that has imported none of our code.

    Returns:
        The photos before that one that could not be read, with the reason.
    """
    tracking, paths = platform.settings.tracking, test.rows["path"].to_pylist()
    left_out: dict[str, CarDamageError] = {}
    photo = next(readable(platform.files, paths, test.rows["sha256"].to_pylist(), left_out), None)
    if photo is None:
        raise TooFewPhotos(f"none of the {len(paths)} test photos can be read, such as {paths[0]}: {left_out[paths[0]]}")
    with Scratch("candidate") as folder:
        model = platform.registry.download(request.model_uri, folder)
        answer = answers(model, [photo], tracking.check_timeout, tracking.check_environment)[0]
    first = len(left_out)  # those before it could not be read
    given = np.array([answer.probabilities.get(name, np.nan) for name in platform.settings.labels.classes])
    if not np.allclose(given, test.probabilities[first], atol=ROUNDING):
        raise ModelRefused(
            f"{request.model_uri} answers {answer.probabilities} to {paths[first]} in a process of its own, but "
            f"{test.probabilities[first].tolist()} after its training, so it was not registered"
        )
    return left_out


STAGE = Stage("register", RegisterRequest, RegisterReport, work, job="train", deadline=1.5 * HOUR)
