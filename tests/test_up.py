"""`make up`: starts everything on one machine and leaves nothing behind."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Running

from car_damage.errors import Terminal
from car_damage.settings import PREFIX
from deployments import pid_file
from deployments.processes import free_port
from deployments.stack import GLIBC
from tests.prefect.service import left_of, until

ROOT = Path(__file__).parents[1]
START = 400.0
"""Seconds within which everything must be up."""


class Stack:
    """`make up` on free ports, with its own home folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home.parent / "up.log"
        self.ports = {name: free_port() for name in ("prefect", "mlflow", "endpoint")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PREFECT_"))}
        self.environment = clean | {
            "CAR_DAMAGE_CONFIG": "deployments/settings/local.toml",
            "CAR_DAMAGE_HOME": str(home),
            "CAR_DAMAGE_LANDING__FOLDER": str(home / "landing"),
            "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{self.ports['endpoint']}",
            "CAR_DAMAGE_STACK__PREFECT_PORT": str(self.ports["prefect"]),
            "CAR_DAMAGE_STACK__MLFLOW_PORT": str(self.ports["mlflow"]),
            "COLUMNS": "200",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> str:
        """Start it, wait until it prints where everything is, and return that output."""
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments", "up"], cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

        def told() -> str:
            text = self.log.read_text()
            assert self.process is not None
            assert self.process.poll() is None, text
            return text if "Ctrl-C stops" in text else ""

        return until(told, "it is up", START)

    def command(self, name: str) -> "subprocess.CompletedProcess[str]":
        """A command in another terminal, which finds the Prefect server by itself."""
        command = [sys.executable, "-m", "deployments", name]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def client(self) -> SyncPrefectClient:
        """A client of its Prefect server. It repeats a call that SQLite's lock refused, which the server answers with 503."""
        return SyncPrefectClient(f"http://127.0.0.1:{self.ports['prefect']}/api", auth_string=f"admin:{self.password}")

    @property
    def password(self) -> str:
        return (self.home / "run" / "password").read_text()

    def deployment(self) -> UUID:
        """The id of the deployment retrain. A new database would have another one."""
        with self.client as client:
            return client.read_deployment_by_name("retrain/retrain").id


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("up") / "home")
    yield running
    if running.process is not None:
        running.process.kill()
    running.command("down")


def test_everything_is_where_the_table_says_and_ctrl_c_ends_all_of_it(stack: Stack) -> None:
    told = stack.up()
    addresses = re.findall(r"^  \S.*?  +(http://\S+) *$", told, re.MULTILINE)
    assert [urlsplit(address).port for address in addresses] == list(stack.ports.values())
    assert re.fullmatch(r"/experiments/\d+/runs\?workflowType=machine_learning", urlsplit(addresses[1]).fragment)
    for address in addresses:
        assert httpx.get(address, auth=("admin", stack.password)).status_code == 200
    assert stack.password not in told
    assert f"admin:<the content of {stack.home / 'run' / 'password'}>" in told
    assert (stack.home / "landing").is_dir()
    looked = stack.command("doctor")
    assert looked.returncode == 0, looked.stdout
    assert re.search(r"^ok +worker +\S+ online on car-damage", looked.stdout, re.MULTILINE)
    first = stack.deployment()
    # A run whose process was ended with everything else stays in this state.
    with stack.client as client:
        run = client.create_flow_run_from_deployment(first, state=Running()).id
    assert "token" not in told
    found = stack.command("env").stdout
    assert found == f"export PREFECT_API_URL=http://127.0.0.1:{stack.ports['prefect']}/api PREFECT_API_AUTH_STRING=admin:{stack.password}\n"
    exported = re.search(r"^  export (.*)$", told, re.MULTILINE)
    assert exported is not None
    variables = dict(part.split("=", 1) for part in shlex.split(exported[1]))
    given = {name: value for name, value in stack.environment.items() if name.startswith(PREFIX)}
    config = str(ROOT / given["CAR_DAMAGE_CONFIG"])
    assert variables == given | {"CAR_DAMAGE_CONFIG": config, "CAR_DAMAGE_LANDING__FOLDER": f"{stack.home / 'landing'}/"}
    assert stack.end(signal.SIGINT) == 128 + signal.SIGINT
    assert stack.log.read_text().endswith("\nstopping all processes\n")
    assert left_of(stack.home, set()) == []
    stack.up()
    assert stack.deployment() == first
    with stack.client as client:
        states = until(lambda: client.read_flow_run_states(run)[1:], "the run that was left is started again")
    assert (states[0].name, states[0].message) == ("AwaitingRetry", "`make up` was stopped: started again")


def test_no_page_of_another_host_and_nobody_without_the_password_reaches_prefect_or_mlflow(stack: Stack) -> None:
    prefect = f"http://127.0.0.1:{stack.ports['prefect']}/api"
    mlflow = f"http://127.0.0.1:{stack.ports['mlflow']}/api/2.0/mlflow/experiments/search?max_results=1"
    admin, stranger = ("admin", stack.password), {"Origin": "http://elsewhere.example", "Content-Type": "text/plain"}
    # What a page can send without asking the browser's leave: a flow run with a command of its own.
    sent = httpx.post(f"{prefect}/deployments/{stack.deployment()}/create_flow_run", content="{}", headers=stranger)
    assert sent.status_code == 401
    for url in (f"{prefect}/admin/version", mlflow):
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("admin", "wrong" * 9)).status_code == 401
    answered = httpx.get(f"{prefect}/admin/version", headers=stranger, auth=admin)
    assert (answered.status_code, answered.headers.get("Access-Control-Allow-Origin")) == (200, None)
    own = {"Origin": f"http://localhost:{stack.ports['prefect']}"}
    assert httpx.get(f"{prefect}/admin/version", headers=own, auth=admin).headers["Access-Control-Allow-Origin"] == own["Origin"]
    assert httpx.get(mlflow, auth=admin).status_code == 200
    rebound = {"Host": f"10.elsewhere.example:{stack.ports['mlflow']}"}  # a name that an attacker lets point to 127.0.0.1
    assert httpx.get(mlflow, auth=admin, headers=rebound).status_code == 403


def test_prefect_gives_memory_back_and_no_event_repeats_pictures(stack: Stack) -> None:
    [server] = [psutil.Process(one.pid) for one in pid_file.read(stack.home) if one.name == "Prefect server"]
    assert GLIBC.items() <= server.environ().items()
    with stack.client as client:
        for key, data in (("picture", "x" * 60_000), ("words", "x")):  # their events have this order
            client.request("POST", "/artifacts/", json={"key": key, "type": "markdown", "data": data})

        def keys() -> set[str]:
            wanted = {"event": {"prefix": ["prefect.artifact-collection"]}}
            events = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
            return {event["payload"]["key"] for event in events}

        assert "picture" not in until(lambda: {"words"} & keys() and keys(), "the event of the second artifact")


def test_a_second_one_in_the_same_home_is_refused(stack: Stack) -> None:
    refused = stack.command("up")
    assert refused.returncode == 1
    told = f"error: `make up` is already running with {stack.home}, in another terminal or in the background; `make down` stops it\n"
    assert refused.stderr == told


def test_a_worker_that_is_killed_is_replaced_and_nothing_else_ends(stack: Stack) -> None:
    killed = next(one for one in pid_file.read(stack.home) if one.name == "worker")
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: "another one is starting" in stack.log.read_text(), "the worker's end is seen")
    until(lambda: [one.name for one in pid_file.read(stack.home)].count("worker") == 2, "there is another worker")
    online = re.compile(r"^ok +worker +.*\S+ online on car-damage", re.MULTILINE)
    other = [one for one in pid_file.read(stack.home) if one.name == "worker"][-1]
    assert other.pid != killed.pid
    assert other.process() is not None
    until(lambda: online.search(stack.command("doctor").stdout), "doctor finds the other worker")


def test_what_a_kill_leaves_is_ended_by_down(stack: Stack) -> None:
    stack.end(signal.SIGKILL)
    pages = next(one for one in pid_file.read(stack.home) if one.name == "MLflow server")
    os.kill(pages.pid, signal.SIGKILL)  # a child of it keeps the port
    assert left_of(stack.home, set()) != []
    refused = stack.command("up")
    assert refused.returncode == 1
    assert re.fullmatch(
        r"error: an earlier `make up` with .* left these running: Prefect server, .*; `make down` stops them\n", refused.stderr
    )
    # A run has its own session, so it outlives a killed worker.
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{stack.ports['prefect']}/api", "PREFECT__FLOW_RUN_ID": "some-run"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=stack.environment | api) as run:
        ended = stack.command("down")
        assert run.wait(10) == -signal.SIGKILL
    assert (ended.returncode, ended.stdout) == (0, "stopped: Prefect server, endpoint server, MLflow server, worker, runs\n")
    assert left_of(stack.home, set()) == []
    assert stack.command("down").stdout == f"no process of {stack.home} was running\n"


@pytest.mark.parametrize(
    ("name", "setting"), [("prefect", "stack.prefect_port"), ("mlflow", "stack.mlflow_port"), ("endpoint", "serving.host")]
)
def test_a_port_in_use_is_one_line_that_names_the_setting(stack: Stack, name: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", stack.ports[name]))
        taken.listen()
        refused = stack.command("up")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: port {stack.ports[name]} of {setting} is in use: ")
    assert refused.stderr.count("\n") == 1


def test_a_landing_folder_that_is_not_there_is_one_line(stack: Stack) -> None:
    command = [sys.executable, "-m", "deployments", "up"]
    environment = stack.environment | {"CAR_DAMAGE_LANDING__FOLDER": "/nowhere"}
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "error: landing.folder is /nowhere, which is not a folder: mount it, create it, or name another\n"


@pytest.mark.parametrize("text", ["", "[{}]", "null", '{"processes": []}', '{"format": 1}'])
def test_a_file_of_processes_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str) -> None:
    pid_file.write(tmp_path, [])
    (tmp_path / "run" / "up.json").write_text(text)
    with pytest.raises(Terminal, match=r"cannot be read .* and remove the file"):
        pid_file.read(tmp_path)


def test_the_file_of_the_version_before_is_read_and_that_of_a_later_one_refused(tmp_path: Path) -> None:
    pid_file.write(tmp_path, [pid_file.ProcessRecord("worker", 1, 2.5)])
    file = tmp_path / "run" / "up.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document["processes"]))
    assert pid_file.read(tmp_path) == [pid_file.ProcessRecord("worker", 1, 2.5)]
    file.write_text(json.dumps(document | {"format": 2}))
    with pytest.raises(Terminal, match="has the format 2, and this version reads 1: use the version that wrote it"):
        pid_file.read(tmp_path)


def test_a_copy_of_a_home_has_none_of_its_processes_and_one_that_was_moved_has_all(tmp_path: Path) -> None:
    home, records = tmp_path / "home", [pid_file.ProcessRecord("worker", 1, 2.5)]
    pid_file.write(home, records)
    copy = shutil.copytree(home, tmp_path / "copy")
    assert (pid_file.read(home), pid_file.read(copy)) == (records, [])
    assert pid_file.read(home.rename(tmp_path / "moved")) == records


def test_a_pid_that_another_process_has_by_then_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        record = pid_file.record("worker", stranger.pid)
        pid_file.write(tmp_path, [pid_file.ProcessRecord("worker", record.pid, record.created - 1000)])
        assert pid_file.end_all(pid_file.read(tmp_path), tmp_path) == []
        assert stranger.poll() is None
        assert pid_file.end_all([record], tmp_path) == ["worker"]
