"""`make watch`: the doorbell for a folder of this machine. It rings as soon as the folder is quiet, not at the next look."""

import threading
import time
from datetime import datetime
from pathlib import Path

import httpx
from prefect.exceptions import PrefectException

from car_damage.data.doorbell import fingerprint
from car_damage.errors import CarDamageError, SettingsError
from car_damage.platform import Target
from car_damage.settings import Settings
from tasks import doorbell

LOOK_AGAIN = 30.0
"""Seconds after which it looks although nothing has changed: for photos that came while a run was going, and lost rings."""
LONGEST_BURST = 3600.0
"""Seconds after which photos that keep landing are announced although the folder was never quiet."""


def watch(settings: Settings, stop: threading.Event | None = None) -> None:
    """Watch the landing folder until Ctrl-C, and announce photos once two looks `doorbell.quiet` seconds apart agree.

    Args:
        settings: of the folder, and how quiet it must have been.
        stop: ends it too.

    Raises:
        SettingsError: the landing folder is no folder of this machine.
    """
    from watchfiles import watch as changes

    folder = Path(settings.landing.folder)
    if not folder.is_dir():
        raise SettingsError(
            f"the folder {folder} is not on this machine: create it, or set landing.folder; volumes are watched by watch-landing"
        )
    platform = Target(settings)
    _say(f"watching {folder}; Ctrl-C stops it")
    said = _look(platform, "")
    for _ in changes(
        folder,
        watch_filter=None,  # what counts as a photo's file is for the look to say
        rust_timeout=int(LOOK_AGAIN * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
        stop_event=stop,
    ):
        said = _look(platform, said)


def _look(platform: Target, said: str) -> str:
    """Look once, and say what came of it unless that was said just before. What fails is tried again at the next look."""
    try:
        answer = doorbell.look(platform, _quiet(platform))
        told = ("announced: " if answer.ring else "") + answer.why
        again = answer.ring
    except (PrefectException, httpx.HTTPError) as error:
        told, again = f"could not look, will try again: asking the Prefect server: {error}", False
    except CarDamageError as error:
        told, again = f"could not look, will try again: {error}", False
    if told != said or again:
        _say(told)
    return told


def _quiet(platform: Target) -> str:
    """Wait until the folder is quiet, and return its fingerprint.

    watchfiles tells of a file's first change at once, and a large one is written for longer.
    """
    deadline = time.monotonic() + LONGEST_BURST
    before, found = None, fingerprint(platform)
    while found != before and time.monotonic() < deadline:
        time.sleep(platform.settings.doorbell.quiet)
        before, found = found, fingerprint(platform)
    return found


def _say(text: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)
