"""Labels that look wrong: the photos whose label a model doubts most, as one small file.

A training writes the file into its run, and onto the review desk, where people say what is right. Pure.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

FILE = "_doubtful_labels.json"
"""Its name on the desk. Listings skip names that begin so."""


@dataclass(frozen=True)
class Doubt:
    """A photo whose label looks wrong. The photo stays where it lies."""

    sha256: str
    path: str
    label: str
    """The label that it has."""
    probabilities: Mapping[str, float]
    """Class -> probability, from a model that has not learned from this photo."""

    @property
    def says(self) -> str:
        """The class that the model sees."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True)
class Doubts:
    """What one training doubts, the most doubtful label first."""

    said: str
    """When, in ISO 8601, UTC."""
    photos: tuple[Doubt, ...] = ()
    among: int = 0
    """Photos whose labels were looked at."""

    def written(self) -> bytes:
        """The file."""
        return json.dumps(asdict(self), indent=1).encode()


def parse(data: bytes) -> Doubts:
    """The doubts in a file.

    Raises:
        ValueError: it is not such a file, or not a whole one.
    """
    try:
        fields = json.loads(data)
        return Doubts(fields["said"], tuple(Doubt(**photo) for photo in fields["photos"]), fields["among"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no file of doubtful labels: {error}") from error
