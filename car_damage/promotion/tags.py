"""What a version's tags say of the decision on it: written by the stage that judges, read by all that act on it.

Tags are a summary in what Unity Catalog takes: 50 a version, 1,000 characters each. The whole evidence is an artifact
of the version's run.
"""

from collections.abc import Sequence

from car_damage.moves import NO_VERSION
from car_damage.ports import TAG_LIMIT, ModelVersion
from car_damage.promotion import rule

DECISION = "decision"
"""The tag that makes a version decided, written last: one of `rule.DECISIONS`."""
UNDECIDED = "deciding"
"""Its value while a decided version is judged again."""
JUDGED_AGAINST = "judged_against"
"""The tag that names the champion's version at the decision, or `moves.NO_VERSION`."""
REASONS = "decision_reasons"

_NUMBERS = {
    "test_photos": "test_photos",
    "test_macro_f1": "candidate_macro_f1",
    "champion_macro_f1": "champion_macro_f1",
    "gain": "gain",
    "confidence": "confidence",
    "test_cost": "candidate_cost",
    "champion_cost": "champion_cost",
}
"""Tag -> field of `rule.Evidence`."""
_RECALL = "recall_"


def tags_of(judged: rule.Decision, champion: ModelVersion | None) -> dict[str, str]:
    """Everything of a decision but the mark of being decided."""
    evidence = judged.evidence
    numbers = {tag: getattr(evidence, field) for tag, field in _NUMBERS.items()}
    tags = {tag: f"{value:.6g}" for tag, value in numbers.items() if value is not None}
    tags |= {f"{_RECALL}{name}": f"{recall:.6g}" for name, recall in evidence.candidate_recall.items() if recall is not None}
    return tags | {REASONS: "; ".join(judged.reasons)[:TAG_LIMIT], JUDGED_AGAINST: named(champion)}


def numbers_of(version: ModelVersion) -> dict[str, float]:
    """The metrics of the decision, as the tags have them."""
    return {key: float(value) for key, value in version.tags.items() if key in _NUMBERS or key.startswith(_RECALL)}


def named(champion: ModelVersion | None) -> str:
    """The champion as the tag `judged_against` names it."""
    return str(champion.version) if champion else NO_VERSION


def is_decided(version: ModelVersion) -> bool:
    """Whether a version has a decision, all of it."""
    return version.tags.get(DECISION) in rule.DECISIONS


def decided_of(versions: Sequence[ModelVersion]) -> ModelVersion | None:
    """The decided version among those of a run, lowest first: later ones are left over from a kill."""
    return next((version for version in versions if is_decided(version)), None)


def waits_for_approval(version: ModelVersion, champion: ModelVersion | None) -> bool:
    """The rule is for it, a person has not spoken, and the champion is still the one that the evidence speaks of."""
    return version.tags.get(DECISION) == rule.AWAIT and version.tags.get(JUDGED_AGAINST) == named(champion)
