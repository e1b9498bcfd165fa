"""The marks of all photos that were forgotten."""

from car_damage.data.forgotten import KEY
from car_damage.ports import Platform


def marks(platform: Platform) -> frozenset[str]:
    """Those in the table of a platform."""
    return frozenset(platform.tables.read(platform.settings.tables.forgotten, KEY)[0]["mark"].to_pylist())
