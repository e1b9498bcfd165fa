"""The doorbell: one look at the landing folder. Photos that have landed, and gone quiet, start a run of `retrain`.

It lists the folder and reads no table, so a look costs next to nothing on any target.
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
    return f"look {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(
    name="watch-landing",
    flow_run_name=_run_name,
    description="Looks whether photos have landed, and announces them once the folder is quiet; `retrain` then starts by itself.",
    timeout_seconds=600,
)
def watch_landing() -> State[Any]:
    """Look at the landing folder once, and announce photos that have landed and gone quiet."""
    answer = doorbell.look(runner_for(load()).platform)
    return Completed(name="Announced" if answer.ring else "Quiet", message=answer.why)


if __name__ == "__main__":
    watch_landing()
