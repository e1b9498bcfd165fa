"""`make watch`: the doorbell for a local folder. It rings as soon as the folder is quiet, without waiting for watch-landing."""

import threading
import time
from datetime import datetime
from pathlib import Path

import httpx
from prefect.exceptions import PrefectException

from car_damage.adapters.databricks.volume import is_elsewhere
from car_damage.data.doorbell import fingerprint
from car_damage.errors import CarDamageError, SettingsError
from car_damage.platform import Target
from car_damage.settings import Settings
from tasks import doorbell

RECHECK = 30.0
"""Seconds after which it checks an unchanged folder again: photos may have landed during a run, and a ring may be lost."""
LONGEST_BURST = 3600.0
"""Seconds after which photos are announced although the folder was never quiet."""


def watch(settings: Settings, stop: threading.Event | None = None) -> None:
    """Watch the landing folder and the corrections folder until Ctrl-C. Announce what is new when nothing has changed for `doorbell.quiet`
    seconds.

    Args:
        settings: of this target.
        stop: an event that ends the watch too.

    Raises:
        SettingsError: the landing folder is not a folder of this machine.
    """
    from watchfiles import watch as changes

    folder = Path(settings.landing.folder)
    if not folder.is_dir():
        raise SettingsError(
            f"the folder {folder} is not on this machine: create it, or set landing.folder; the flow watch-landing watches volumes"
        )
    platform = Target(settings)
    _print(f"watching {folder}; Ctrl-C stops it")
    folders = [folder]
    if not is_elsewhere(settings.answers.corrections):
        (words := Path(settings.answers.corrections)).mkdir(parents=True, exist_ok=True)
        folders.append(words)
    printed = _check(platform, "")
    for _ in changes(
        *folders,
        watch_filter=None,  # the check itself decides which files count
        rust_timeout=int(RECHECK * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
        stop_event=stop,
    ):
        printed = _check(platform, printed)


def _check(platform: Target, printed: str) -> str:
    """Check the folder once, and print the result unless it was the last line printed. The next check retries what failed."""
    ring = False
    try:
        signal = doorbell.look(platform, _quiet_fingerprint(platform))
        ring = signal.ring
        line = ("announced: " if ring else "") + signal.why
    except (PrefectException, httpx.HTTPError) as error:
        line = f"could not ask the Prefect server, will try again: {error}"
    except CarDamageError as error:
        line = f"could not check the folder, will try again: {error}"
    if line != printed or ring:
        _print(line)
    return line


def _quiet_fingerprint(platform: Target) -> str:
    """Wait until the folder is quiet, and return its fingerprint.

    watchfiles reports the first change at once, when a large file is not yet complete.
    """
    deadline = time.monotonic() + LONGEST_BURST
    before, found = None, fingerprint(platform)
    while found != before and time.monotonic() < deadline:
        time.sleep(platform.settings.doorbell.quiet)
        before, found = found, fingerprint(platform)
    return found


def _print(text: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)
