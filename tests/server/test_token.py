"""The token's file is whole or not there, and one that is not whole lets nobody in."""

import errno
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
