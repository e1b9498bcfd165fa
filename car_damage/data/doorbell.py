"""The doorbell: decides whether the photos in the landing folder, or what people say about photos, should start a run.

It compares the fingerprint of the landing folder and the corrections folder
with the fingerprint of the last validation, and reads no table. It may ring once too
often: that costs a run that finds nothing new. It must not ring for ever, and it repeats a ring that started no run. Pure,
except for `fingerprint`, which lists the folder.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from car_damage.errors import SettingsError
from car_damage.ports import Platform

EMPTY = hashlib.sha256().hexdigest()
"""The fingerprint of an empty folder."""


@dataclass(frozen=True)
class Memory:
    """The doorbell's memory between two looks at the folder."""

    seen: str = ""
    """The fingerprint at the previous look."""
    rung: str = ""
    """The fingerprint at the last ring."""
    rung_at: datetime | None = None
    """The time of the last ring, UTC."""


@dataclass(frozen=True)
class Runs:
    """The retraining runs that could validate the photos."""

    due: bool = False
    """A run will list the folder soon: it waits for its start, or has started and not validated yet."""
    came: bool = False
    """A run has started since the last ring."""


@dataclass(frozen=True)
class Signal:
    """The result of one look at the folder."""

    ring: bool
    why: str
    """The reason in one sentence, for a person."""
    memory: Memory
    """The memory for the next look. Store it after ringing, so that a kill between the two repeats the ring."""


def fingerprint(platform: Platform) -> str:
    """List the landing folder and the corrections folder, and compute the same fingerprint as `validate` (see `ledger.fingerprint`).

    Raises:
        SettingsError: the landing folder does not exist.
        Unavailable: a folder cannot be listed completely.
    """
    from car_damage.data.photos import ledger

    landing, corrections = platform.settings.landing.folder, platform.settings.answers.corrections
    listed = ledger.listing_of(platform.files.list(landing))
    try:
        words = ledger.Listing(corrections, ledger.listing_of(platform.files.list(corrections)))
    except SettingsError:  # nobody has said anything
        words = None
    return ledger.fingerprint(landing, listed, words)


def decide(found: str, validated: str, memory: Memory, runs: Runs, *, now: datetime, repeat_after: timedelta) -> Signal:
    """Decide whether to ring.

    Args:
        found: the folder's fingerprint.
        validated: the fingerprint of the last validation; empty if there was none.
        memory: the memory of the previous looks.
        runs: the retraining runs at this moment.
        now: UTC.
        repeat_after: a ring that started no run is repeated after this time.
    """
    seen = replace(memory, seen=found)
    if found == EMPTY and not validated:
        return Signal(False, "The landing folder is empty, and no photo was ever validated.", seen)
    if found == validated:
        return Signal(False, "Everything in the landing folder has been validated.", seen)
    if found != memory.seen:
        return Signal(False, "The landing folder has changed since the previous look: photos may still be arriving.", seen)
    if runs.due:
        return Signal(False, "A run that will validate the new photos is about to start.", seen)
    if found == memory.rung and memory.rung_at is not None:
        return _decide_on_repeat(seen, memory.rung_at, runs, now, repeat_after)
    return Signal(True, "New photos have landed, and the folder has not changed since the previous look.", Memory(found, found, now))


def _decide_on_repeat(seen: Memory, rung_at: datetime, runs: Runs, now: datetime, repeat_after: timedelta) -> Signal:
    """Decide on photos that the doorbell has rung for, and that no run has validated."""
    if runs.came:
        return Signal(False, "A run started for these photos and did not validate them: see why it ended.", seen)
    if now - rung_at < repeat_after:
        return Signal(False, "A run was requested for these photos and has not started yet.", seen)
    return Signal(True, "A run was requested for these photos, and none started: it is requested again.", replace(seen, rung_at=now))
