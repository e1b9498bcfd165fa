"""Which versions and trainings are still needed: by a rollback, a decision, the champion's history, or the next run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from car_damage.moves import Move
from car_damage.ports import FEATURES_TAG, KEY_TAG, SILVER_TAG, ModelVersion, Platform, RunSummary
from car_damage.promotion.tags import DECISION, DRY_RUN, is_decided, waits_for_approval

ENDLESS = timedelta(days=1)
"""A training takes less time. One that has run for longer without an end was killed."""
_IN_USE = frozenset({"RUNNING", "SCHEDULED", "FINISHED"})


@dataclass(frozen=True)
class Holdings:
    """All trainings and versions that there are."""

    runs: Sequence[RunSummary]
    """Latest first."""
    versions: Sequence[ModelVersion]
    moves: Sequence[Move]
    champion: ModelVersion | None
    challenger: ModelVersion | None

    @classmethod
    def of(cls, platform: Platform) -> "Holdings":
        """Those of a platform."""
        registry = platform.registry
        return cls(
            platform.tracking.recent(), registry.all_versions(), platform.history.moves(), registry.champion(), registry.challenger()
        )

    def versions_of(self, run: RunSummary) -> list[ModelVersion]:
        return [version for version in self.versions if version.run_id == run.run_id]

    @property
    def needed_runs(self) -> set[str]:
        """The ids of the runs with a version that is or was live, that a move names, or that may go live."""
        intentions = [move.intention for move in self.moves]
        named = {number for one in intentions for number in (one.version, one.replaces, one.displaced) if number is not None}
        kept = self._aliased | named
        return {version.run_id for version in self.versions if version.version in kept or self._may_go_live(version)}

    def over(self, before: datetime, *training_keys: str) -> list[RunSummary]:
        """The trainings that ended before this moment, or began before it and did not end, and that nothing needs.

        Needed are all that ever were or may go live, and what the next run compares with: the latest finished run, and that with
        one of these keys.
        """
        finished = [run for run in self.runs if run.status == "FINISHED"]
        kept = self.needed_runs | {run.run_id for run in finished[:1]}
        kept |= {run.run_id for run in finished if run.tags.get(KEY_TAG) in training_keys}
        return [
            run for run in self.runs if (run.ended or run.started) < (before if run.ended else before - ENDLESS) and run.run_id not in kept
        ]

    def silver_versions(self) -> set[int]:
        """Versions of the silver table that must stay readable.

        They belong to the champion, to versions that may go live, and to trainings that are in progress or have no decision.
        """
        may = [version for version in self.versions if version.version in self._aliased or self._may_go_live(version)]
        decided = {version.run_id for version in self.versions if is_decided(version)}
        tags = [version.tags for version in may]
        tags += [run.tags for run in self.runs if run.status in _IN_USE and run.run_id not in decided]
        return {int(of[SILVER_TAG]) for of in tags if SILVER_TAG in of}

    def features(self, *training_keys: str) -> set[str]:
        """The digests of the rows of features that are still needed.

        Trainings in progress need theirs, and so do the latest finished training, those with one of these keys, and those of the
        champion and the challenger.
        """
        latest = next((run.run_id for run in self.runs if run.status == "FINISHED"), "")
        needed = {latest} | {version.run_id for version in self.versions if version.version in self._aliased}
        kept = [run for run in self.runs if run.run_id in needed or run.status == "RUNNING" or run.tags.get(KEY_TAG) in training_keys]
        return {run.tags[FEATURES_TAG] for run in kept if FEATURES_TAG in run.tags}

    @property
    def _aliased(self) -> set[int]:
        return {version.version for version in (self.champion, self.challenger) if version is not None}

    def _may_go_live(self, version: ModelVersion) -> bool:
        """Whether the version can go live without being judged again, or has not been judged yet."""
        if is_decided(version):
            return waits_for_approval(version, self.champion)
        return DRY_RUN + DECISION not in version.tags  # a version that a dry run has judged may stay without a decision for good
