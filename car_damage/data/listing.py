"""Folders of ours, which are made with their first file."""

from car_damage.errors import SettingsError
from car_damage.ports import File, Files


def listed(files: Files, folder: str) -> list[File]:
    """The files of a folder of ours; none where it is not there yet. Raises Unavailable."""
    try:
        return list(files.list(folder))
    except SettingsError:
        return []
