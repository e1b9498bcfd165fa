"""The server's files are whole or not there. One that is not whole lets nobody in, and is told in one sentence."""

import errno
import json
import os
from pathlib import Path

import pytest

from car_damage.errors import Terminal, Unavailable
from car_damage.server.address import token
from car_damage.server.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path)
    state.folder.mkdir()
    return state


def test_a_disk_that_is_full_at_the_first_start_leaves_no_token(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Terminal, match="No space left on device"):
            state.token()
    with pytest.raises(Unavailable, match="there is no token"):
        token(tmp_path)
    assert len(state.token()) >= 40
    assert state.token() == token(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_a_token_that_is_not_whole_starts_no_server_and_no_client(state: State, tmp_path: Path, text: str) -> None:
    (state.folder / "token").write_text(text)
    for read in (state.token, lambda: token(tmp_path)):
        with pytest.raises(Terminal, match=r"has \d characters, and 32 is the least: remove the file"):
            read()


ENDPOINT = {"name": "e", "facts": {}, "active": None, "pending": None, "active_version": 0, "update_state": "NOT_UPDATING"}


def test_endpoints_of_the_version_before_are_read_and_those_of_a_later_one_refused(state: State) -> None:
    state.write([ENDPOINT])
    file = state.folder / "endpoints.json"
    document = json.loads(file.read_text())
    assert (document.pop("format"), state.read()) == (1, [ENDPOINT])
    file.write_text(json.dumps(document))
    assert state.read() == [ENDPOINT]
    file.write_text(json.dumps(document | {"format": 2}))
    with pytest.raises(Terminal, match="has the format 2, and this version reads 1: use the version that wrote it"):
        state.read()


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"endpoints": [7]}', '{"endpoints": [{"name": "e"}]}'])
def test_endpoints_that_cannot_be_read_are_one_sentence(state: State, text: str) -> None:
    (state.folder / "endpoints.json").write_text(text)
    with pytest.raises(Terminal, match=r"cannot be read: .*; repair it, or remove it to start without endpoints"):
        state.read()


def test_of_the_logs_of_earlier_deployments_the_latest_stay(state: State) -> None:
    (state.folder / "logs").mkdir()
    for version in range(1, 31):
        log = state.log("e", version)
        log.write_text("")
        os.utime(log, (version, version))
    state.sweep([("e", 2)])
    assert {log.name for log in (state.folder / "logs").iterdir()} == {f"e.{version}.log" for version in (2, *range(11, 31))}
