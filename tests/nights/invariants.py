"""What must be true after every night, checked the slow way: plain loops over raw rows, and none of the project's own code.

An invariant gets what was remembered of all nights before and the record of this one, and yields a sentence for each breach.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from car_damage.data.people.reviews import Word
from car_damage.errors import LandingLost, UnexpectedError
from tests.nights.record import Past, Record, Row, key_of

PRESENT = ("valid", "rejected")
SET_REASONS = ("duplicate", "conflicting labels", "ambiguous split")
LABEL_REASONS = ("no label", "unknown label")
PROMOTE, KEEP = "promote", "keep"


Invariant = Callable[[Past, Record], Iterator[str]]


def each_listed_file_has_one_present_row(_: Past, record: Record) -> Iterator[str]:
    """A file that could not be read has none yet, and one that turned out changed may wait for a new one."""
    if "validate" not in record.night.done:
        return
    count = Counter(_file_key(row) for row in record.bronze if row["status"] in PRESENT)
    waiting = {_file_key(row) for row in record.bronze if not _is_unchanged(record, row)}
    for path, file in record.listed.items():
        key = (path, file.size, file.modified)
        if (rows := count.pop(key, 0)) != 1 and not (rows == 0 and (path in record.unreadable or key in waiting)):
            yield f"{path} has {rows} present rows"
    for path, _size, _modified in count:
        if path.startswith(record.settings.landing.folder):
            yield f"{path} has a present row, but is not there"


def no_row_of_bronze_is_lost(past: Past, record: Record) -> Iterator[str]:
    for key in past.keys - {key_of(row) for row in record.bronze}:
        yield f"the row {key} is lost"


def each_valid_content_is_in_silver_once(_: Past, record: Record) -> Iterator[str]:
    if "silver" not in record.night.done:
        return
    valid = {row["sha256"] for row in record.bronze if row["status"] == "valid"}
    count = Counter(row["sha256"] for row in record.silver)
    unchanged = {row["sha256"] for row in record.silver if _is_unchanged(record, row)}
    for sha256 in valid - count.keys():
        yield f"{sha256} is valid and not in silver"
    for sha256, number in count.items():
        if number > 1 or (sha256 in unchanged and sha256 not in valid):
            yield f"{sha256} is in silver {number} times, and {'valid' if sha256 in valid else 'not valid'}"


def a_content_keeps_its_split(past: Past, record: Record) -> Iterator[str]:
    for row in record.silver:
        if (first := past.splits.get(row["sha256"], row["split"])) != row["split"]:
            yield f"{row['path']} was {first} and is {row['split']}"


def what_resembles_a_content_of_any_night_has_its_split(past: Past, record: Record) -> Iterator[str]:
    bits = record.settings.split.near_duplicate_bits
    for row in record.silver:
        if row["sha256"] in past.splits:
            continue
        for sha256, phash in past.hashes.items():
            if _near(row["phash"], phash, bits) and past.splits[sha256] != row["split"]:
                yield f"{row['path']} is {row['split']}, and resembles {sha256}, which was {past.splits[sha256]}"


def what_looks_alike_tonight_is_in_one_split(_: Past, record: Record) -> Iterator[str]:
    bits = record.settings.split.near_duplicate_bits
    for number, row in enumerate(record.silver):
        for other in record.silver[:number]:
            if row["split"] != other["split"] and _near(row["phash"], other["phash"], bits):
                yield f"{row['path']} is {row['split']}, {other['path']} is {other['split']}"


def no_photo_that_was_trained_on_takes_part_in_a_decision(past: Past, record: Record) -> Iterator[str]:
    registered = record.night.registered
    if registered is None or registered.decided_before or registered.evidence is None:
        return
    bits = record.settings.split.near_duplicate_bits
    trained = [past.hashes[sha256] for sha256 in record.trained if sha256 in past.hashes]
    trained += [row["phash"] for row in record.silver if row["sha256"] in record.trained]
    test = [row for row in record.silver if row["split"] == "test"]
    fair = {row["sha256"] for row in test if not any(_near(row["phash"], phash, bits) for phash in trained)}
    if registered.evidence.test_photos > len(fair):
        yield f"{registered.evidence.test_photos} photos decided, of which {len(fair)} were never trained on"
    for sha256 in record.night.asked:
        if sha256 not in fair:
            yield f"the champion was judged on {sha256}, which a network was trained on"


def labels_follow_the_settings(_: Past, record: Record) -> Iterator[str]:
    """Those of photos in the landing folder that are used, or could be if their label were another one. In silver, of those of which nobody
    has said anything that counts."""
    if "silver" not in record.night.done:
        return
    said = _said(record)
    here = [row for row in record.silver if row["path"].startswith(record.settings.landing.folder)]
    decoded = [row for row in _rows_of_files(record) if row["status"] == "valid" or row["reason"] in (*SET_REASONS, *LABEL_REASONS)]
    here = [row for row in here if row["sha256"] not in said]
    for table, rows in (("silver", here), ("bronze", decoded)):
        for row in rows:
            if row["label"] != (label := _label(record, row["path"])):
                yield f"{row['path']} is {row['label']} in {table} and {label} by the settings"


def the_last_word_of_a_person_counts(_: Past, record: Record) -> Iterator[str]:
    """Whatever the folders say; and a photo that has no class by it is not used."""
    if "silver" not in record.night.done:
        return
    said = _said(record)
    for row in record.silver:
        if (word := said.get(row["sha256"], row["label"])) != row["label"]:
            yield f"{row['path']} is {row['label']}, and a person has said {word}"
    for row in _rows_of_files(record):
        if row["reason"] == "conflicting labels" and row["sha256"] in said:
            yield f"{row['path']} has conflicting labels, and a person has said {said[row['sha256']]}"


def each_word_is_kept_once(_: Past, record: Record) -> Iterator[str]:
    if "validate" not in record.night.done:
        return
    kept = Counter((row["sha256"], row["label"], row["by"], row["said"]) for row in record.reviews)
    wanted = Counter((word.sha256, word.label, word.by, word.said) for word in record.words)
    yield from (
        f"{word} is kept {kept[word]} times and was said {wanted[word]} times" for word in kept | wanted if kept[word] != wanted[word]
    )


def verdicts_follow_the_limits(_: Past, record: Record) -> Iterator[str]:
    if "silver" not in record.night.done:
        return
    said = _said(record)
    for row in _rows_of_files(record):
        photo = record.listed[row["path"]].photo
        if photo.sha256 != row["sha256"] or row["path"] in record.unreadable:
            continue
        label = said.get(row["sha256"]) or _label(record, row["path"])
        usable = bool(photo.subject) and photo.side >= record.settings.images.min_side and label in record.settings.labels.classes
        taken = row["status"] == "valid" or row["reason"] in SET_REASONS
        if usable != taken:
            yield f"{row['path']} of {photo.side} pixels is {row['status']} ({row['reason']})"


def no_model_goes_live_that_lacks_a_class(_: Past, record: Record) -> Iterator[str]:
    registered, champion = record.night.registered, record.after["aliases"].get("champion")
    if registered is None or registered.decision != PROMOTE or registered.decided_before or registered.version != champion:
        return
    learnt = set(record.networks[registered.version].learnt.values())
    before = record.before["aliases"].get("champion")
    known = set(record.networks[before].learnt.values()) if before else set(record.settings.labels.classes)
    for label in sorted(known & set(record.settings.labels.classes) - learnt):
        yield f"version {registered.version} went live and does not know {label}"
    for label, photos in zip(record.settings.labels.classes, registered.evidence.candidate.confusion, strict=True):
        if not sum(photos):
            yield f"version {registered.version} went live without a test photo of {label}"


def a_champion_is_kept_for_a_reason(_: Past, record: Record) -> Iterator[str]:
    """One that the confusion matrices, the networks or the settings bear out. How sure a gain is, the evidence says."""
    registered = record.night.registered
    if registered is None or registered.decision != KEEP or registered.decided_before:
        return
    if not any(registered.reasons):
        yield f"version {registered.version} does not go live, and nothing says why"
    rule, evidence, champion = record.settings.promotion, registered.evidence, registered.evidence.champion
    mine = evidence.candidate.confusion
    photos = [sum(row) for row in mine]
    learnt = set(record.networks[registered.version].learnt.values())
    live = record.before["aliases"].get("champion")
    lost = live and set(record.networks[live].learnt.values()) & set(record.settings.labels.classes) - learnt
    if sum(photos) < rule.min_test_photos or min(photos) < rule.min_test_photos_per_class or lost or champion is None:
        return
    recall = {name: row[number] / sum(row) for number, (name, row) in enumerate(zip(record.settings.labels.classes, mine, strict=True))}
    if any(recall[name] < floor for name, floor in rule.recall_floor.items()):
        return
    gain = _macro_f1(mine) - _macro_f1(champion.confusion)
    sure = evidence.comparison.confidence >= 1 - (1 - rule.min_confidence) / evidence.looks
    if gain > rule.min_gain and sure and evidence.candidate.cost <= champion.cost:
        yield f"version {registered.version} is ahead by {gain:.3f} and does not go live"


def nothing_new_is_said_only_when_it_is_so(_: Past, record: Record) -> Iterator[str]:
    if record.night.ending != "Nothing new":
        return
    decided, champion = record.night.done["live"].decided, record.after["aliases"].get("champion")
    against = record.after["versions"][decided].get("judged_against")
    if decided != champion and against != str(champion or "none") and not record.after["by a person"]:
        yield f"version {decided} was judged against {against}, and {champion} is live"


def a_stopped_night_writes_nothing(_: Past, record: Record) -> Iterator[str]:
    """A night that stops after validation has noted in bronze what is there, and nothing else."""
    if not isinstance(record.night.error, LandingLost):
        return
    noted = {record.settings.tables.bronze} if "validate" in record.night.done else set()
    before, after = ({name: value for name, value in state.items() if name not in noted} for state in (record.before, record.after))
    yield from (f"{name} changed" for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def a_killed_night_and_a_normal_one_are_a_normal_one(_: Past, record: Record) -> Iterator[str]:
    if record.normal is not None and record.ended is not None:
        yield from (f"{name} differs" for name in record.normal if record.normal[name] != record.ended[name])


def the_endpoint_serves_the_champion(_: Past, record: Record) -> Iterator[str]:
    if record.night.ending not in {"Failed", "Killed"} and record.after["served"] != (champion := record.after["aliases"].get("champion")):
        yield f"version {record.after['served']} is served, and {champion} is the champion"


def advice_helps(_: Past, record: Record) -> Iterator[str]:
    if record.follows is not None and record.night.ending == "Failed":
        yield f"{record.follows.night.message} -- this was done, and then: {record.night.message}"


def no_error_is_unforeseen(_: Past, record: Record) -> Iterator[str]:
    if isinstance(record.night.error, UnexpectedError):
        yield record.night.message


def tables_stay_small(_: Past, record: Record) -> Iterator[str]:
    """At most three times the bytes of the live rows, and what the log of a few nights needs."""
    if record.fresh and record.disk > 3 * record.fresh + LOG_OF_TABLES:
        yield f"{record.disk:,} bytes on disk, and {record.fresh:,} in fresh tables"


LOG_OF_TABLES = 100_000
"""Bytes."""

INVARIANTS: tuple[Invariant, ...] = (
    each_listed_file_has_one_present_row,
    no_row_of_bronze_is_lost,
    each_valid_content_is_in_silver_once,
    a_content_keeps_its_split,
    what_resembles_a_content_of_any_night_has_its_split,
    what_looks_alike_tonight_is_in_one_split,
    no_photo_that_was_trained_on_takes_part_in_a_decision,
    labels_follow_the_settings,
    the_last_word_of_a_person_counts,
    each_word_is_kept_once,
    verdicts_follow_the_limits,
    no_model_goes_live_that_lacks_a_class,
    a_champion_is_kept_for_a_reason,
    nothing_new_is_said_only_when_it_is_so,
    a_stopped_night_writes_nothing,
    a_killed_night_and_a_normal_one_are_a_normal_one,
    the_endpoint_serves_the_champion,
    no_error_is_unforeseen,
    tables_stay_small,
    advice_helps,
)


def _file_key(row: Row) -> tuple[str, int, int]:
    return row["path"], row["size"], int(row["modified"].timestamp())


def _is_unchanged(record: Record, row: Row) -> bool:
    """Whether the file of a row still has its bytes at the end of the run."""
    file = record.remaining.get(row["path"])
    return file is not None and file.photo.sha256 == row["sha256"]


def _macro_f1(confusion: list[list[int]]) -> float:
    scores = []
    for number, row in enumerate(confusion):
        both = sum(row) + sum(other[number] for other in confusion)
        scores.append(2 * row[number] / both if both else 0.0)
    return sum(scores) / len(scores)


def _near(one: int, other: int, bits: int) -> bool:
    return ((one ^ other) & (2**64 - 1)).bit_count() <= bits


def _rows_of_files(record: Record) -> Iterator[Row]:
    """The present rows of files that were there when the run began."""
    for row in record.bronze:
        file = record.listed.get(row["path"])
        if row["status"] in PRESENT and file is not None and (row["path"], file.size, file.modified) == _file_key(row):
            yield row


def _label(record: Record, path: str) -> str | None:
    """The class of a photo by the settings: by its folder, or by the table."""
    labels = record.settings.labels
    word = path.split("/")[-2] if labels.source == "folder" else record.table.get(path.removeprefix(record.settings.landing.folder))
    return word if word in labels.classes else labels.aliases.get(word or "")


def _said(record: Record) -> dict[str, str]:
    """sha256 -> the label of the last word that nobody has taken back."""
    left: dict[str, list[Word]] = {}
    for word in record.words:
        of_photo = left.setdefault(word.sha256, [])
        own = [one for one in of_photo if one.by == word.by]
        if word.label != "undone":
            of_photo.append(word)
        elif own:
            of_photo.remove(own[-1])
    return {sha256: words[-1].label for sha256, words in left.items() if words}
