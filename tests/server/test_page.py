"""The endpoint's page, as the server sends it to a client without a token."""

import os
import pty
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from car_damage.server.address import token
from car_damage.server.api.page import PATHS
from tests.server.conftest import Server


@pytest.mark.parametrize("path", sorted(PATHS))
def test_the_page_is_answered_without_a_token_and_held_to_this_server(server: Server, path: str) -> None:
    response = httpx.get(server.url + path)
    assert response.status_code == 200
    policy = dict(directive.split(" ", 1) for directive in response.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", sorted(PATHS))
def test_the_page_names_no_other_host(server: Server, path: str) -> None:
    assert re.findall(r"https?:|wss?:|[\"'(]\s*//\w", httpx.get(server.url + path).text) == []


def test_every_part_that_the_page_asks_for_is_there(server: Server) -> None:
    text = "".join(httpx.get(server.url + path).text for path in PATHS)
    named = {"/" + name for name in re.findall(r"[\"'(](?:\./)?(\w+\.(?:js|css))[\"')]", text)}
    assert named == PATHS - {"/"}


def test_the_page_knows_how_much_the_server_takes(server: Server) -> None:
    assert f'<meta name="max-request-bytes" content="{server.settings.serving.max_request_bytes}">' in httpx.get(server.url).text


@pytest.mark.parametrize("path", ["/api/2.0/serving-endpoints", "/index.html", "/page/page.js", "/page.py", "//"])
def test_what_is_beside_the_page_still_needs_the_token(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 401


def test_the_page_says_nothing_of_this_machine_to_who_has_no_token(server: Server) -> None:
    for path in PATHS:
        text = httpx.get(server.url + path).text
        assert str(server.settings.home) not in text
        assert token(server.settings.home) not in text


@contextmanager
def said(server: Server, output: int, reading: int) -> Iterator[str]:
    """The two lines that a server prints when it starts."""
    process = server.spawn(output=output)
    os.close(output)
    try:
        with open(reading) as lines:
            yield lines.readline() + lines.readline()
    finally:
        process.terminate()
        process.wait(timeout=120)


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that was never started."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    return Server(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_the_server_says_a_link_with_the_token_in_a_terminal(newcomer: Server) -> None:
    reading, terminal = pty.openpty()
    with said(newcomer, terminal, reading) as lines:
        assert f"page: {newcomer.url}/#token={token(newcomer.settings.home)}\n" in lines


def test_a_log_gets_the_link_without_the_token(newcomer: Server) -> None:
    reading, log = os.pipe()
    with said(newcomer, log, reading) as lines:
        assert f"page: {newcomer.url}/\n" in lines
        assert token(newcomer.settings.home) not in lines
