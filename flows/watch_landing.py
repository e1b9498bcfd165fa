"""The doorbell: one check of the landing folder. New photos start a run of `retrain` once the folder is quiet.

It lists the folder and reads no table, so a check is cheap on every target. It also looks whether a person has approved a version that
waits, which starts a run of `promote`.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from car_damage.settings_sources import load
from tasks import approvals, doorbell
from tasks.runner import runner_for


def _run_name() -> str:
    return f"check {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(
    name="watch-landing",
    flow_run_name=_run_name,
    description="Checks whether photos have landed, and announces them once the folder is quiet; this starts `retrain`. "
    "Takes a version live that a person has approved on its page; this starts `promote`.",
    timeout_seconds=600,
)
def watch_landing() -> State[Any]:
    """Check the landing folder once, and announce new photos if the folder is quiet. Start promote for versions that were approved."""
    platform = runner_for(load()).platform
    answer = doorbell.look(platform)
    approved = approvals.look(platform)  # after the bell, which needs no registry
    why = f"{answer.why} Approved: version {', '.join(map(str, approved))}; promote checks it." if approved else answer.why
    return Completed(name="Announced" if answer.ring else "Quiet", message=why)


if __name__ == "__main__":
    watch_landing()
