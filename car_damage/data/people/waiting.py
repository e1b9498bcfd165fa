"""A photo that waits for a person, and the file of what a model said of it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from car_damage.data.people.reviews import Word
from car_damage.ports import version_of


@dataclass(frozen=True)
class Answer:
    """What a model said of a photo that waits for a person."""

    label: str
    probabilities: Mapping[str, float]
    """Class -> probability."""
    classes: tuple[str, ...]
    """The classes that the answer cannot exclude; empty if the model does not say."""
    served_by: str
    """The served entity that answered. Empty: a training said it, of a photo that it had not learned from."""
    asked: str
    """When, in ISO 8601, UTC."""

    @property
    def version(self) -> int | None:
        """The version that answered."""
        return version_of(self.served_by)

    @property
    def doubt(self) -> float:
        """1 less the probability of the label."""
        return 1 - self.probabilities.get(self.label, 0.0)

    def written(self) -> bytes:
        """Its file."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Waiting:
    """A photo on the desk."""

    sha256: str
    answer: Answer
    history: tuple[Word, ...] = ()
    """What was said about it, in the order of time. Of these no word is left."""
    labelled: str | None = None
    """The label that it has, where the question is whether it is right. None: the answer asks for a person."""


def parse(data: bytes) -> Answer:
    """The answer in a file.

    Raises:
        ValueError: it is no answer, or not a whole one.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        return Answer(**fields | {"classes": tuple(fields["classes"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"no answer: {error}") from error
