"""`car-damage backup`: copy the home folder while runs go on."""

from collections.abc import Callable
from pathlib import Path

from car_damage.adapters.backup import back_up
from car_damage.settings import Settings


def backup(settings: Settings, into: Path, say: Callable[[str], None]) -> None:
    """Copy it, and say what is not in the copy.

    Raises:
        RequestRefused: there is no home folder, or the folder exists.
        Unavailable: runs write to a table all the time.
    """
    size = back_up(settings.home, into)
    say(f"{settings.home} was copied to {into}: {size:,} bytes. Set home (CAR_DAMAGE_HOME) to the copy to use it, here or elsewhere")
    if not Path(settings.landing.folder).is_relative_to(settings.home):
        say(f"not in the copy: the landing folder {settings.landing.folder}")
    if settings.tracking.uri is not None:
        say("not in the copy: MLflow's own store, which tracking.uri names")
