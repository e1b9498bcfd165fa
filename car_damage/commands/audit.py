"""`car-damage audit`: how an answer came about, from the photo to who took the version live; and whether it would be the same again."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from car_damage.commands.review import named_photo
from car_damage.commands.terminal import printable
from car_damage.data.people.desk import Desk
from car_damage.errors import Unavailable
from car_damage.ports import Platform
from car_damage.traces.account import Account, account
from car_damage.traces.replay import Replay, replayed


def audit(platform: Platform, photo: str, replay: bool, as_json: bool, say: Callable[[str], None]) -> bool:
    """Print the account of a photo. Returns False if an answer that was replayed is another one.

    Raises:
        RequestRefused: the photo is neither a file nor a SHA-256.
    """
    sha256, data = named_photo(photo)
    known = account(sha256, platform)
    again: list[Replay] = []
    if replay:
        data = data if data is not None else _photo(known, platform)
        again = list(replayed(known.answers, {} if data is None else {sha256: data}, platform))
    if as_json:
        say(json.dumps(asdict(known) | ({"replayed": [asdict(one) for one in again]} if replay else {}), default=_plain))
    else:
        for line in (*_lines(known), *map(_line, again)):
            say(printable(line))
    return all(one.equal for one in again)


def _photo(known: Account, platform: Platform) -> bytes | None:
    """The photo's bytes, from the landing folder, the corrections, or the review desk; None if it is nowhere."""
    desk = Desk(platform.files, platform.settings.answers, platform.clock)
    reads: list[Callable[[], bytes | None]] = [partial(platform.files.read, file["path"]) for file in known.files]
    reads.append(partial(desk.photo, known.sha256))
    for read in reads:
        with suppress(Unavailable):
            data = read()
            if data is not None and hashlib.sha256(data).hexdigest() == known.sha256:
                return data
    return None


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _lines(known: Account) -> list[str]:
    lines = [f"photo {known.sha256}"]
    for file in known.files:
        reason = f" ({file['reason']})" if file["reason"] else ""
        lines.append(f"  file {file['path']}: {file['status']}{reason}, seen {file['ingested']:%Y-%m-%d %H:%M} by run {file['ingest_run']}")
    if known.training is not None:
        row = known.training
        source = "said by a person" if row["label_from"] else "from its folder"
        lines.append(f"  silver: {row['label']}, {source}, split {row['split']}; silver is at version {row['silver_version_now']}")
    for one in known.answers:
        said = f"refused: {one.refused}" if one.refused else f"{one.label} {one.probabilities.get(one.label or '', 0):.3f}"
        lines.append(f"  answer: {said}, by version {one.version}, {one.when[:16]}, {one.table}: {one.to}")
    for version in known.versions:
        lines += _of_version(version)
    for word in known.words:
        lines.append(f"  review: {word['label']}, said by {word['by']} {word['said']:%Y-%m-%d %H:%M}")
    lines += [f"  found: {trace.place}: {trace.what}, {trace.items:,}" for trace in known.found]
    return lines + [f"  not kept: {what}" for what in known.not_kept]


def _of_version(of: Any) -> list[str]:
    lines = [f"  version {of['version']}: MLflow run {of['run_id']}"]
    if "run" in of:
        lines[0] += f", {of['run']}, started {of['started'][:16]}"
        made = f", made from bronze version {of['bronze_version']}" if of["bronze_version"] else ""
        lines.append(
            f"    data: {of['silver_table']} version {of['silver_version']}{made}, fingerprint {str(of['silver_fingerprint'])[:12]}"
        )
        lines.append(f"    data and settings: training key {of['training_key']}")
    lines.append(f"    decision: {of['decision'] or 'none'}, against version {of['against'] or 'none'}: {of['reasons'] or 'no reasons'}")
    lives = [f"    {one['what']}, {one['state']}: {one['when'][:16]}, by {one['by']}: {one['why']}" for one in of["moves"]]
    return lines + (lives or ["    never live"])


def _line(one: Replay) -> str:
    version = f"version {one.logged.version} to {one.logged.to}"
    return f"  replay: {version}: {'the same answer' if one.equal else f'not the same: {one.why}'}"
