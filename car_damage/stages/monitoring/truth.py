"""What is truly on photos that were answered, as far as anybody has said it by now, and what a version could still learn from.

A folder's label and a person's word count alike, a person's first. Photos that a version has learned from say nothing of how good it is.
"""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos.splits import TEST
from car_damage.errors import RegistryError
from car_damage.machine import Scratch
from car_damage.model.answering import Answering
from car_damage.model.run_files import ANSWERING_FILE, BASELINE_FILE, TRAINED_FILE, read_baseline, read_trained
from car_damage.monitoring.samples import classes_of
from car_damage.ports import FEATURES_TAG, ModelVersion, Platform
from car_damage.stages.photos import words


@dataclass(frozen=True)
class Truth:
    """Labels by content."""

    labels: dict[str, str]
    """sha256 -> class, for every photo that has one."""
    tested_with: frozenset[str]
    """sha256 of silver's test photos, from which nothing is learned."""

    def unseen(self, learned: Collection[str]) -> dict[str, str]:
        """The labels of photos that are not among these."""
        seen = frozenset(learned)
        return {sha256: label for sha256, label in self.labels.items() if sha256 not in seen}

    def to_learn(self, learned: Collection[str]) -> int:
        """How many photos with labels a training would have that has not learned from these."""
        return len(self.unseen(learned).keys() - self.tested_with)


def known(platform: Platform) -> Truth:
    """The labels of silver and of what people have said."""
    silver, _ = platform.tables.read(platform.settings.tables.silver, ["sha256", "label", "split"])
    labels = dict(zip(silver["sha256"].to_pylist(), silver["label"].to_pylist(), strict=True))
    tested = silver.filter(pc.equal(silver["split"].cast(pa.string()), TEST))["sha256"].to_pylist()
    classes = frozenset(platform.settings.labels.classes)
    said, _ = words.standing(platform)
    for sha256, word in said.items():
        if word in classes:
            labels[sha256] = word
        else:
            labels.pop(sha256, None)
    return Truth(labels, frozenset(tested))


def learned(version: ModelVersion, platform: Platform) -> frozenset[str]:
    """sha256 of the photos that a version has learned from; none where its run does not say."""
    try:
        return frozenset(read_trained(platform.tracking.fetch(version.run_id, TRAINED_FILE))["sha256"].to_pylist())
    except RegistryError:
        return frozenset()


def baseline(version: ModelVersion, platform: Platform) -> pa.Table | None:
    """The baseline of a version; None where its run has none, as those of earlier releases."""
    try:
        return read_baseline(platform.tracking.fetch(version.run_id, BASELINE_FILE))
    except RegistryError:
        return None


def classes(baseline: pa.Table | None, platform: Platform) -> tuple[str, ...]:
    """The classes that the version of this baseline answers with: those of the settings may be others by now."""
    return platform.settings.labels.classes if baseline is None else classes_of(baseline)


def answering(version: ModelVersion, platform: Platform) -> Answering | None:
    """How a version makes answers of its network's probabilities; None where its run does not say, as those of earlier releases."""
    try:
        data = platform.tracking.fetch(version.run_id, ANSWERING_FILE)
    except RegistryError:
        return None
    with Scratch("answering") as folder:
        file = folder / ANSWERING_FILE
        file.write_bytes(data)
        return Answering.read(file)


def features_digest(version: ModelVersion, platform: Platform) -> str:
    """The digest of a version's rows in the table of features; empty for a network that has none."""
    tags = next((run.tags for run in platform.tracking.recent() if run.run_id == version.run_id), {})
    return tags.get(FEATURES_TAG, "")
