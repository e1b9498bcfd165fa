"""The people of the soak: what they do to the service, and what they remember of it."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from threading import Event

import httpx

from benchmarks.endpoint import CLASSES, request
from car_damage.data.people.reviews import NOT_A_CAR
from car_damage.data.photos.ledger import PHOTOS
from car_damage.settings import Settings
from deployments import demo_photos

LANDED, ASKED = 4, 4
"""Photos that land in a round, and further ones about which only the endpoint is asked. Half of these are corrected in the next round."""
REVIEWED = 3
"""Photos of the review desk that get a word in a round."""
STREAM, PAUSE = 8, 0.05
"""Photos about which the endpoint is asked without end, and seconds between two of these requests."""


@dataclass(frozen=True)
class Photo:
    """A drawn photo."""

    label: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class People:
    """They remember everything that the tables must know at the end.

    Args:
        settings: name the folders and the endpoint.
        client: of the endpoint server, with its token.
    """

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self._settings, self._client = settings, client
        self.landed: dict[str, str] = {}
        """Path -> sha256 of each file that landed, or joined the corrections."""
        self.asked: Counter[str] = Counter()
        """sha256 -> requests that were answered."""
        self.said: list[tuple[str, str, str]] = []
        """sha256, label and person of each word."""
        self.forgotten: set[str] = set()
        """sha256 of each photo that was forgotten."""
        self._drawing = _drawn()
        self.stream = [next(self._drawing) for _ in range(STREAM)]
        self._labels: dict[str, str] = {}
        self._new: list[Photo] = []
        self._to_correct: list[Photo] = []

    def move_in(self) -> None:
        """Land the photos of the first training."""
        folder = Path(self._settings.landing.folder)
        demo_photos.write(folder, unusable=False)
        for file in folder.rglob("*.jpg"):
            self._note(str(file), Photo(file.parent.name, file.read_bytes()))

    def land(self) -> None:
        """Land some photos, and a file that is none."""
        self._new = [next(self._drawing) for _ in range(LANDED)]
        cut = next(self._drawing)
        for photo in (*self._new, Photo(cut.label, cut.data[: len(cut.data) // 2])):
            path = Path(self._settings.landing.folder) / photo.label / f"{photo.sha256}.jpg"
            path.write_bytes(photo.data)
            self._note(str(path), photo)

    def ask(self) -> None:
        """Ask about what has just landed, about further photos, and about a file that is none."""
        further = [next(self._drawing) for _ in range(ASKED)]
        for photo in (*self._new, *further):
            self._ask(photo, 200)
        self._ask(Photo("", further[0].data[:1000]), 400)
        self._to_correct += further[: ASKED // 2]

    def ask_on_and_on(self, stop: Event) -> None:
        """Ask about the photos of the stream until `stop` is set. Returns at the first request that is not answered, with its error."""
        for photo in cycle(self.stream):
            if stop.wait(PAUSE):
                return
            self._ask(photo, 200)

    def review(self) -> None:
        """Ann says what some photos on the desk show, and Bob corrects answers: the first of them shows no car."""
        waiting = self._client.get("/reviews").raise_for_status().json()["waiting"]
        known = [one["sha256"] for one in waiting if one["sha256"] in self._labels.keys() - self.forgotten]
        for sha256 in known[:REVIEWED]:
            self._say("Ann", self._labels[sha256], sha256, sha256=sha256)
        for number, photo in enumerate(self._to_correct):
            self._correct(photo, photo.label if number else NOT_A_CAR)
        self._to_correct = []

    def wants_forgotten(self) -> str:
        """sha256 of a photo that the service must forget now: it has landed, was trained with, and was asked about."""
        sha256 = self._new[0].sha256
        self.forgotten.add(sha256)
        return sha256

    def _ask(self, photo: Photo, status: int) -> None:
        path = f"/serving-endpoints/{self._settings.serving.endpoint}/invocations"
        response = self._client.post(path, content=request(photo.data), headers={"Content-Type": "application/json"})
        if response.status_code != status:
            raise SystemExit(f"a request was answered with {response.status_code}, and not with {status}: {response.text[:500]}")
        self.asked[photo.sha256] += 1

    def _correct(self, photo: Photo, label: str) -> None:
        self._say("Bob", label, photo.sha256, image=base64.b64encode(photo.data).decode())
        if label != NOT_A_CAR:
            self._note(f"{self._settings.answers.corrections}{PHOTOS}{photo.sha256}.jpg", photo)

    def _say(self, by: str, label: str, photo: str, **named: str) -> None:
        self._client.post("/reviews", json={"label": label, "by": by, **named}).raise_for_status()
        self.said.append((photo, label, by))

    def _note(self, path: str, photo: Photo) -> None:
        self.landed[path] = photo.sha256
        self._labels[photo.sha256] = photo.label


def _drawn() -> Iterator[Photo]:
    """Photos that are neither those of the first training nor each other."""
    for number, label in enumerate(cycle(CLASSES)):
        yield Photo(label, demo_photos.photo(label, 100_000 + number))
