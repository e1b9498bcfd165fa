"""The Prefect server's SQLite database, as this project starts the server."""

import os
from concurrent.futures import ThreadPoolExecutor

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate

from tests.prefect.conftest import PrefectServer

CLIENTS, WRITES = 6, 15


def test_clients_that_write_at_the_same_time_wait_for_each_other(prefect: PrefectServer) -> None:
    log = prefect.home / "logs" / "prefect-server.log"
    before = log.stat().st_size

    def write(name: str) -> None:
        with SyncPrefectClient(f"{prefect.url}/api", auth_string=os.environ["PREFECT_API_AUTH_STRING"]) as client:
            client.create_variable(VariableCreate(name=name, value=0))
            for value in range(WRITES):
                client.update_variable(VariableUpdate(name=name, value=value))
            client.delete_variable_by_name(name)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(write, (f"writer_{number}" for number in range(CLIENTS))))
    assert "database is locked" not in log.read_text()[before:]
