"""The decision on a version, as tags of the version: the stage register writes them, and whatever acts on the decision reads them.

Tags are a summary in what Unity Catalog takes: 50 a version, 1,000 characters each. The whole evidence is an artifact
of the version's run.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from car_damage.moves import NO_VERSION, Move, chosen_by_person
from car_damage.pipeline import AWAIT, DECISIONS
from car_damage.ports import TAG_LIMIT, ModelVersion

if TYPE_CHECKING:
    from car_damage.promotion.rule import Decision

DECISION = "decision"
"""The tag that marks a version as decided, written last: one of `DECISIONS`."""
DRY_RUN = "dry_run_"
"""What the tags of a decision begin with that a dry run has made, and that does not count."""
UNDECIDED = "deciding"
"""Its value while a decided version is judged again."""
JUDGED_AGAINST = "judged_against"
"""The tag that names the champion's version at the decision, or `moves.NO_VERSION`."""
REASONS = "decision_reasons"
APPROVAL, APPROVED = "Approval", "approved"
"""The tag by which a person approves a version on its page, and its value in any case. Databricks' button Approve sets the tag that has the
name of the approval task: https://docs.databricks.com/aws/en/mlflow/deployment-job#approve-the-deployment-job-experimental"""
NOT_APPROVED = "Not yet"
"""The tag's value after a new decision: an approval counts for the evidence that the person saw."""

COVERAGE = "coverage"
"""The tag of a version that is worse than it was: the coverage to which its endpoint raises the model's own.
Empty once another version is live."""
MONITORED = "monitored"
"""The tag with what the flow monitor has said of the version's latest window, in one sentence."""

_NUMBERS = ("test_photos", "test_macro_f1", "champion_macro_f1", "gain", "confidence", "test_cost", "champion_cost", "worst_group_macro_f1")
"""Tags that hold a number of the evidence."""
_RECALL = "recall_"


def tags_of(judged: "Decision", champion: ModelVersion | None) -> dict[str, str]:
    """All tags of a decision, without the tag which marks the version as decided."""
    evidence, candidate = judged.evidence, judged.evidence.candidate
    values: dict[str, float | None] = {
        "test_photos": evidence.test_photos,
        "test_macro_f1": candidate.macro_f1,
        "test_cost": candidate.cost,
    }
    if evidence.champion is not None:
        values |= {"champion_macro_f1": evidence.champion.macro_f1, "champion_cost": evidence.champion.cost}
    if evidence.comparison is not None:
        values |= {"gain": evidence.comparison.gain, "confidence": evidence.comparison.confidence}
    if (worst := evidence.worst_group) is not None:
        values["worst_group_macro_f1"] = candidate.groups[worst]
    values |= {f"{_RECALL}{name}": recall for name, recall in candidate.recall.items()}
    tags = {tag: f"{value:.6g}" for tag, value in values.items() if value is not None}
    return tags | {REASONS: "; ".join(judged.reasons)[:TAG_LIMIT], JUDGED_AGAINST: named(champion)}


def numbers_of(version: ModelVersion) -> dict[str, float]:
    """The metrics of the decision, as the tags have them."""
    return {key: float(value) for key, value in version.tags.items() if key in _NUMBERS or key.startswith(_RECALL)}


def named(champion: ModelVersion | None) -> str:
    """The champion as the tag `judged_against` names it."""
    return str(champion.version) if champion else NO_VERSION


def is_decided(version: ModelVersion) -> bool:
    """Whether a version has a complete decision."""
    return version.tags.get(DECISION) in DECISIONS


def decided_of(versions: Sequence[ModelVersion]) -> ModelVersion | None:
    """The decided version of a run. The lowest counts: later ones are left over from a kill."""
    return next((version for version in versions if is_decided(version)), None)


def is_outdated(version: ModelVersion, champion: ModelVersion | None, moves: Iterable[Move]) -> bool:
    """Whether a decision compares with a champion that is no longer live, because the rule has chosen another one since.

    The live version is not compared with itself, and a champion that a person has chosen reopens no decision.
    """
    if champion is not None and (champion.version == version.version or chosen_by_person(moves, champion.version)):
        return False
    return version.tags.get(JUDGED_AGAINST) != named(champion)


def waits_for_approval(version: ModelVersion, champion: ModelVersion | None) -> bool:
    """Whether the rule is for the version, no person has decided, and it was judged against the present champion."""
    return version.tags.get(DECISION) == AWAIT and version.tags.get(JUDGED_AGAINST) == named(champion)


def is_approved(version: ModelVersion) -> bool:
    """Whether a person has approved the version on its page."""
    return version.tags.get(APPROVAL, "").strip().lower() == APPROVED
