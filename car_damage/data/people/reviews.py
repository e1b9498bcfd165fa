"""What people say about photos: a word names a photo by its content, and gives its class, or why it has none.

A word is a small file, written whole and once, so that whoever takes it needs neither tables nor Spark: `words/` of the corrections
folder has a file `<sha256>-<time>-<id>.json` for each word, and `photos/` a file for each photo that got a class there. Validation makes
the words rows of the table of reviews, which keeps every one. Which word counts is decided anew each time: a later one counts before an
earlier one, and `undone` takes back the latest word that the same person has left on the photo.

Pure, except for `say`, which writes files.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa

from car_damage.data import described
from car_damage.data.photos.ledger import INSTANT, PHOTOS, WORDS
from car_damage.machine import absolute
from car_damage.photo import reasons
from car_damage.ports import Files

NOT_A_CAR, CANNOT_TELL, UNDONE = "not_a_car", "cannot_tell", "undone"
WITHOUT_CLASS = {NOT_A_CAR: reasons.NOT_A_CAR, CANNOT_TELL: reasons.CANNOT_TELL}
"""Word -> the reason why the photo is not used."""
LONGEST = 200
"""Characters of a person's name, and of a label."""

REVIEWS = described.table(
    "What people have said about single photos, one row for each word. Rows are inserted, and never changed.",
    [
        described.column("word", pa.string(), "Name of the word's file: the key.", nullable=False),
        described.column("sha256", pa.string(), "SHA-256 of the photo's bytes, in hexadecimal.", nullable=False),
        described.column("label", pa.string(), "A class, not_a_car, cannot_tell, or undone: the person takes a word back.", nullable=False),
        described.column("by", pa.string(), "Who said it.", nullable=False),
        described.column("said", INSTANT, "When.", nullable=False),
        described.column("version", pa.int64(), "Version of the registered model that had answered; null: none had, or it is not known."),
        described.column("answered", pa.string(), "Its label."),
    ],
)
KEY = ("word",)

_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
_NAME = re.compile(r"([0-9a-f]{64})-(\d{8}T\d{6}\.\d{6}Z)-([0-9a-z]{1,32})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Word:
    """What a person said about a photo.

    Raises:
        ValueError: the hash is none, or a text is empty or too long.
    """

    sha256: str
    label: str
    by: str
    said: datetime
    """UTC."""
    version: int | None = None
    """The version that had answered."""
    answered: str | None = None
    """Its label."""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is no SHA-256: it has 64 hexadecimal digits in lower case")
        for name, text in {"label": self.label, "by": self.by, "answered": self.answered or "-"}.items():
            if not text.strip() or len(text) > LONGEST or not text.isprintable():
                raise ValueError(f"{name} must be 1 to {LONGEST} printable characters")

    def file(self, unique: str) -> str:
        """The name of its file. Names of one photo are in the order of time."""
        return f"{self.sha256}-{self.said.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{unique}.json"


def checked(label: str, classes: Collection[str], aliases: Mapping[str, str]) -> str:
    """The label as words have it: a class, or one of the other words. Aliases of a class are taken, too.

    Raises:
        ValueError: it is neither.
    """
    known = {NOT_A_CAR, CANNOT_TELL, UNDONE, *classes}
    found = label if label in known else aliases.get(label.strip().casefold(), label.strip().casefold().replace(" ", "_"))
    if found not in known:
        raise ValueError(f"{label!r} is neither a class ({', '.join(classes)}) nor one of {NOT_A_CAR}, {CANNOT_TELL}, {UNDONE}")
    return found


def say(files: Files, corrections: str, word: Word, unique: str, *, photo: bytes | None = None, suffix: str = "") -> None:
    """Write a word, after its photo: a word whose photo is missing would train nothing.

    Args:
        files: writes.
        corrections: the folder, with a slash at the end.
        word: what was said.
        unique: 1 to 32 letters and digits that no other word has.
        photo: the bytes of the photo; None where it lies in the landing folder, or in the corrections folder. Kept only with a class:
            what trains nothing need not stay.
        suffix: of the photo's file, as `.jpg`.

    Raises:
        Unavailable: a file cannot be written.
    """
    if photo is not None and word.label not in {NOT_A_CAR, CANNOT_TELL, UNDONE}:
        write(files, f"{corrections}{PHOTOS}{word.sha256}{suffix}", photo)
    write(files, f"{corrections}{WORDS}{word.file(unique)}", json.dumps(asdict(word) | {"said": word.said.isoformat()}).encode())


def suffix(photo: bytes) -> str:
    """What the name of a photo's file ends with, for people: validation looks at its bytes. Empty for a rarer format."""
    return next((end for start, end in _SUFFIXES.items() if photo.startswith(start)), "")


def write(files: Files, path: str, data: bytes) -> None:
    """Write a file, unless it is there: by an earlier try, or as the same photo. Raises Unavailable."""
    try:
        files.write_once(path, data)
    except FileExistsError:
        return


def parse(path: str, data: bytes) -> Word:
    """A word from its file.

    Raises:
        ValueError: the file is no word, or not a whole one.
    """
    name = _NAME.fullmatch(path.rpartition("/")[2])
    fields = json.loads(data)
    if name is None or not isinstance(fields, dict) or set(fields) != set(Word.__dataclass_fields__) or fields["sha256"] != name[1]:
        raise ValueError("neither its name nor its fields are those of a word")
    texts = [fields["sha256"], fields["label"], fields["by"], fields["said"], fields["answered"] or ""]
    if not all(isinstance(text, str) for text in texts) or type(fields["version"]) not in {int, type(None)}:
        raise ValueError("a field has another type than a word's")
    said = datetime.fromisoformat(fields["said"])
    if said.tzinfo is None:
        raise ValueError("its time has no time zone")
    return Word(**fields | {"said": said.astimezone(UTC)})


def unnamed(text: str, corrections: str) -> str:
    """A text, such as a path or a message, without the names of photos in the corrections folder: those are their hashes."""
    return re.sub(re.escape(f"{absolute(corrections)}/{PHOTOS}") + r"[0-9a-f]{64}(\.\w+)?", "a corrected photo", text)


def key_of(path: str) -> str:
    """The key of the word in this file."""
    return path.rpartition("/")[2].removesuffix(".json")


def photo_of(path: str) -> str:
    """The sha256 of the photo that the word in this file is about, as its name says."""
    return path.rpartition("/")[2].partition("-")[0]


def rows(words: Mapping[str, Word]) -> pa.Table:
    """Rows of `REVIEWS` for words by the path of their file."""
    return pa.Table.from_pylist([asdict(word) | {"word": key_of(path)} for path, word in sorted(words.items())], schema=REVIEWS)


def standing(reviews: pa.Table) -> dict[str, str]:
    """sha256 -> the label that counts, for each photo on which a word is left.

    Args:
        reviews: word, sha256, label, by and said of (n) rows of `REVIEWS`, in any order.
    """
    of_photo: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in reviews.sort_by([("said", "ascending"), ("word", "ascending")]).to_pylist():
        of_photo[row["sha256"]].append((row["label"], row["by"]))
    return {sha256: words[left[-1]][0] for sha256, words in of_photo.items() if (left := _left(words))}


def counting(words: Sequence[Word]) -> Word | None:
    """The word of one photo that counts; None if none is left. The words are in the order of time."""
    left = _left([(word.label, word.by) for word in words])
    return words[left[-1]] if left else None


def _left(words: Sequence[tuple[str, str]]) -> list[int]:
    """The places of the words that nobody has taken back, among the labels and persons of one photo in the order of time."""
    left: list[int] = []
    for place, (label, by) in enumerate(words):
        if label != UNDONE:
            left.append(place)
        elif (own := next((one for one in reversed(left) if words[one][1] == by), None)) is not None:
            left.remove(own)
    return left
