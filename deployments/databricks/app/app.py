"""Databricks runs this file: the endpoint's page for people in a workspace, who have signed in before it."""

import os

import databricks.sdk  # noqa: F401 - takes seconds, for which the first person would wait
import uvicorn

from car_damage.adapters.databricks.invocations import Invocations
from car_damage.data.people.desk import Desk
from car_damage.platform import Target
from car_damage.server.api.workspace import application
from car_damage.settings_sources import load


def main() -> None:
    """Serve until Databricks stops the app."""
    target = Target(load())
    desk = Desk(target.files, target.settings.answers, target.clock)
    # The proxy reaches the app by the network of its container.
    uvicorn.run(
        application(target.settings, desk, Invocations(target.settings)),
        host="0.0.0.0",  # noqa: S104
        port=int(os.environ["DATABRICKS_APP_PORT"]),
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
