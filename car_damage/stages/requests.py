"""Takes up what the endpoint has logged into the table of the request log. Parts of stages that read that table call it first."""

from car_damage.ports import Platform
from car_damage.stage import Progress


def take_up(platform: Platform, progress: Progress) -> None:
    """Move the requests that the endpoint has logged into the table. Nothing is logged anywhere else than in the table yet."""
