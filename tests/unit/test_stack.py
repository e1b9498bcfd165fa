"""The addresses of the local stack's parts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from car_damage.settings import Settings, Stack, Tracking
from deployments.processes import free_port
from deployments.stack import is_local_store, mlflow_pages, trainings_page

ROOT = Path(__file__).parents[2]


def test_pages_are_ours_for_a_store_of_this_machine_and_a_server_s_own_otherwise() -> None:
    here, there = Settings(), Settings(tracking=Tracking(uri="https://mlflow.example"))
    assert (is_local_store(here), mlflow_pages(here)) == (True, f"http://127.0.0.1:{here.stack.mlflow_port}")
    assert (is_local_store(there), mlflow_pages(there)) == (False, "https://mlflow.example")


def test_mlflow_s_pages_of_another_server_or_of_none_open_with_the_experiments_of_trainings(tmp_path: Path) -> None:
    there = Settings(tracking=Tracking(uri="https://mlflow.example"))
    nobody = Settings(home=tmp_path, stack=Stack(mlflow_port=free_port()))
    assert trainings_page(there) == "https://mlflow.example/#/experiments?workflowType=machine_learning"
    assert trainings_page(nobody) == f"http://127.0.0.1:{nobody.stack.mlflow_port}/#/experiments?workflowType=machine_learning"


@pytest.mark.parametrize("command", ["bootstrap", "deploy", "watch"])
def test_without_the_address_of_a_server_nothing_is_done_on_one_of_the_moment(command: str, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CAR_DAMAGE_", "PREFECT_"))}
    done = subprocess.run(
        [sys.executable, "-m", "deployments", command],
        cwd=ROOT,
        env=clean | {"PREFECT_HOME": str(tmp_path), "CAR_DAMAGE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Prefect server is running with this home folder, and PREFECT_API_URL is not set: ")
