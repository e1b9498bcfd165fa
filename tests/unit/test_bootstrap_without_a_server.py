"""Bootstrap when the Prefect server does not answer."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from car_damage.errors import SettingsError
from deployments.bootstrap import reach_server
from deployments.processes import free_port


def test_a_prefect_server_that_does_not_answer_is_told_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings(updates={PREFECT_API_URL: url}), pytest.raises(SettingsError, match=f"{url} does not answer .*PREFECT_API_URL"):
        reach_server()
