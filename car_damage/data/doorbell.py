"""The doorbell: whether what lies in the landing folder should start a run.

A doorbell, not a ledger: it compares one fingerprint of the folder with the one that was validated last, and reads no
table. It may ring once too often, which costs a run that finds nothing new; it must not ring for ever, and a ring that
nobody heard is repeated. Pure but for `fingerprint`, which lists the folder.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from car_damage.data import ledger
from car_damage.ports import Platform

EMPTY = hashlib.sha256().hexdigest()
"""The fingerprint of an empty folder."""


@dataclass(frozen=True)
class Memory:
    """What the doorbell remembers from one look to the next."""

    seen: str = ""
    """The fingerprint of the look before."""
    rung: str = ""
    """The fingerprint that was rung for last."""
    rung_at: datetime | None = None


@dataclass(frozen=True)
class Runs:
    """What is known of the runs that would take the photos up."""

    due: bool = False
    """One is about to list the folder: it waits for its start, or has started and not validated yet."""
    came: bool = False
    """One has started since the last ring."""


@dataclass(frozen=True)
class Signal:
    """What comes of one look."""

    ring: bool
    why: str
    """One sentence for a person."""
    memory: Memory
    """To be remembered, after the ring."""


def fingerprint(platform: Platform) -> str:
    """List the landing folder and name what it holds, exactly as `validate` does (see `ledger.landing_fingerprint`).

    Raises:
        SettingsError: the folder is not there.
        Unavailable: it cannot be listed completely.
    """
    landing = platform.settings.landing.folder
    return ledger.landing_fingerprint(landing, ledger.listing_of(platform.files.list(landing)))


def decide(found: str, validated: str, memory: Memory, runs: Runs, *, now: datetime, repeat_after: timedelta) -> Signal:
    """Decide on one look.

    Args:
        found: the folder's fingerprint.
        validated: the fingerprint of the last validation; empty when there was none.
        memory: of the looks before.
        runs: of the retraining, at this moment.
        now: UTC.
        repeat_after: a ring that no run answered is repeated after so long.
    """
    seen = replace(memory, seen=found)
    if found == EMPTY and not validated:
        return Signal(False, "The landing folder is empty, and always was.", seen)
    if found == validated:
        return Signal(False, "Everything in the landing folder has been validated.", seen)
    if found != memory.seen:
        return Signal(False, "The landing folder has changed since the look before: it may still be changing.", seen)
    if runs.due:
        return Signal(False, "A run that will take up the new photos is about to start.", seen)
    if found == memory.rung and memory.rung_at is not None:
        return _decide_on_repeat(seen, memory.rung_at, runs, now, repeat_after)
    return Signal(True, "New photos have landed, and nothing has changed since the look before.", Memory(found, found, now))


def _decide_on_repeat(seen: Memory, rung_at: datetime, runs: Runs, now: datetime, repeat_after: timedelta) -> Signal:
    """These photos were announced before, and are not validated."""
    if runs.came:
        return Signal(False, "A run came for these photos and did not validate them: see why it ended.", seen)
    if now - rung_at < repeat_after:
        return Signal(False, "Announced already; the run has not come yet.", seen)
    return Signal(True, "Announced before, but no run came: announced once more.", replace(seen, rung_at=now))
