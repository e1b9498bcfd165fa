"""The doorbell: one check of the landing folder. New photos start a run of `retrain` once the folder is quiet.

It lists the folder and reads no table, so a check is cheap on every target.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from car_damage.settings_sources import load
from tasks import doorbell
from tasks.runner import runner_for


def _run_name() -> str:
    return f"check {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(
    name="watch-landing",
    flow_run_name=_run_name,
    description="Checks whether photos have landed, and announces them once the folder is quiet; this starts `retrain`.",
    timeout_seconds=600,
)
def watch_landing() -> State[Any]:
    """Check the landing folder once, and announce new photos if the folder is quiet."""
    answer = doorbell.look(runner_for(load()).platform)
    return Completed(name="Announced" if answer.ring else "Quiet", message=answer.why)


if __name__ == "__main__":
    watch_landing()
