"""doctor's check of the home folder: where it is, and whether a run can write to it."""

import os
import shutil

from car_damage.errors import Terminal
from car_damage.platform import Target
from car_damage.settings import Settings

LEAST = 200_000_000
"""Bytes free on its disk, below which a run may end for lack of room."""


def check(settings: Settings) -> str:
    """Open the home folder as every command does, which brings what is stored in it to its path.

    Raises:
        CarDamageError: another process uses it at another path, or it cannot be written. The message says what to do.
    """
    home = Target(settings).home
    if home is None:
        return "not used: tables and trainings are elsewhere"
    if not os.access(home.path, os.W_OK):
        raise Terminal(f"{home.path} cannot be written by this user, so a run would fail: give access, or set home to another folder")
    if (free := shutil.disk_usage(home.path).free) < LEAST:
        raise Terminal(f"{home.path} has {free:,} bytes left on its disk, so a run may fail: make room")
    was = f"; it was {home.earlier} before, and the paths stored in it are rewritten" if home.earlier else ""
    return f"{home.path}, {free / 1e9:,.1f} GB free{was}"
