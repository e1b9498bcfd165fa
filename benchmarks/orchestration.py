"""Prefect's overhead: wall time of the flow minus that of its stages, for a run that trains and a run with nothing new."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from car_damage.settings_sources import load
from car_damage.stage import Progress, Stage
from deployments import demo_photos
from deployments.processes import free_port
from deployments.stack import ENDPOINT_START, endpoint_server, prefect_server


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as folder:
        home = Path(folder)
        os.environ.update(
            {
                "CAR_DAMAGE_HOME": folder,
                "CAR_DAMAGE_LANDING__FOLDER": f"{folder}/landing",
                "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{free_port()}",
                "CAR_DAMAGE_SERVING__POLL": "0.2",
                "CAR_DAMAGE_TRAINING__EPOCHS": "3",
                "CAR_DAMAGE_PROMOTION__MIN_TEST_PHOTOS": "6",
                "CAR_DAMAGE_PROMOTION__MIN_TEST_PHOTOS_PER_CLASS": "1",
                "CAR_DAMAGE_PROMOTION__FIRST_VERSION": "any",
                "CAR_DAMAGE_PROMOTION__RECALL_FLOOR": "{}",
            }
        )
        demo_photos.write(home / "landing")
        with prefect_server(home) as prefect, endpoint_server(load()) as endpoint:
            prefect.await_ready()
            endpoint.await_ready(ENDPOINT_START)
            os.environ.update(prefect.variables | {"PREFECT_LOGGING_LEVEL": "ERROR"})
            rows = [_timed("orchestration of a run that trains and goes live"), _timed("orchestration of a run with nothing new")]
            _send_logs()
        return rows


def _timed(name: str) -> dict[str, Any]:
    import flows.retrain as module
    from deployments.bootstrap import limits
    from deployments.items import bootstrap
    from tasks.runner import LocalRunner, runner_for

    stages = 0.0

    class TimingRunner(LocalRunner):
        def run(self, stage: Stage[Any, Any], request: Any, progress: Progress) -> Any:
            nonlocal stages
            started = time.perf_counter()
            try:
                return super().run(stage, request, progress)
            finally:
                stages += time.perf_counter() - started

    bootstrap(limits())
    module.runner_for = lambda settings: TimingRunner(runner_for(settings).platform)
    started = time.perf_counter()
    state = module.retrain(return_state=True)
    wall = time.perf_counter() - started
    assert state.is_completed(), state.message
    return {
        "name": name,
        "value": wall - stages,
        "unit": "s",
        "baseline": f"the stages themselves, {stages:.1f} s",
        "ratio": (wall - stages) / stages,
    }


def _send_logs() -> None:
    """Send the queued log lines before the server stops."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


if __name__ == "__main__":
    for row in run():
        print(row)
