"""Makes what people have said about photos rows of the table of reviews, and finds the words that count."""

import logging
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.forgotten import mark_of
from car_damage.data.listing import listed
from car_damage.data.people import reviews
from car_damage.data.photos import ledger
from car_damage.errors import Unavailable
from car_damage.photo.reasons import UNKNOWN_LABEL
from car_damage.ports import Platform
from car_damage.traces.marks import marks

_READ = ("word", "sha256", "label", "by", "said")
_SAID = pa.schema([pa.field("said", pa.string()), pa.field("withheld", pa.string())])

_log = logging.getLogger(__name__)


def take_up(paths: Sequence[str], platform: Platform, forgotten: Collection[str] = ()) -> int:
    """Insert the words that the table lacks. A file that is no word, or cannot be read, is logged and tried again by the next run.

    A word about a photo that was forgotten is removed.

    Args:
        paths: of the files with words.
        platform: its table of reviews is written.
        forgotten: the marks of photos that were forgotten.

    Returns:
        How many words this run has taken up.
    """
    if not paths:
        return 0
    tables, table = platform.tables, platform.settings.tables.reviews
    known = set(tables.read(table, reviews.KEY)[0]["word"].to_pylist())
    about_forgotten = [path for path in paths if forgotten and mark_of(reviews.photo_of(path)) in forgotten]
    for path in about_forgotten:
        platform.files.remove(path)
    paths = [path for path in paths if path not in about_forgotten]
    words = {path: word for path in paths if reviews.key_of(path) not in known and (word := _word(path, platform)) is not None}
    if words:
        tables.merge(table, reviews.rows(words), reviews.KEY)
    return len(words)


def take_up_all(platform: Platform) -> int:
    """As `take_up`, for all words that lie in the corrections folder.

    Raises:
        Unavailable: it cannot be listed.
    """
    folder = platform.settings.answers.corrections + ledger.WORDS
    return take_up([file.path for file in listed(platform.files, folder)], platform, marks(platform))


def _word(path: str, platform: Platform) -> reviews.Word | None:
    try:
        return reviews.parse(path, platform.files.read(path))
    except (ValueError, Unavailable) as error:
        _log.warning("%s is not taken up as what a person said: %s", path, error)
        return None


def standing(platform: Platform) -> tuple[dict[str, str], pa.Array]:
    """sha256 -> the word that counts; and sha256 of all photos about which anything was ever said."""
    rows, _ = platform.tables.read(platform.settings.tables.reviews, _READ)
    rows = ledger.conform(rows, reviews.REVIEWS, _READ)
    return reviews.standing(rows), pc.unique(rows["sha256"])


def of_photos(sha256s: pa.ChunkedArray, words: dict[str, str], classes: Sequence[str]) -> pa.Table:
    """For each photo what a person said of it.

    Args:
        sha256s: (n) photos.
        words: sha256 -> the word that counts.
        classes: of the settings.

    Returns:
        (n) rows: said, the class; withheld, the reason why it has none. Both are null where nobody said anything.
    """
    reasons = {word: reviews.WITHOUT_CLASS.get(word, UNKNOWN_LABEL) for word in {*words.values()} - {*classes}}
    at = pc.index_in(sha256s, value_set=pa.array(words, pa.string()))
    said = [word if word in classes else None for word in words.values()]
    withheld = [reasons.get(word) for word in words.values()]
    return pa.table([pa.chunked_array([pa.array(column, pa.string())]).take(at) for column in (said, withheld)], schema=_SAID)
