"""Clients that are silent, slow, endless or false. The server ends their connections, answers everybody else, and grows by nothing."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from car_damage.server.address import token
from car_damage.server.api.connection import _PATIENCE
from car_damage.server.command import SPARE
from car_damage.server.hosting.model_server import AT_ONCE
from tests.server.conftest import DEADLINE, Server, until
from tests.server.test_queries import INVOCATIONS, records

HEALTH = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"
PATIENCE = 1.0
"""Seconds that this server gives its clients."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an endpoint, but without a model."""
    home = tmp_path_factory.mktemp("bare")
    running = Server(home, f"sqlite:///{home / 'mlflow.db'}", request_timeout=PATIENCE, max_queue=1).start()
    running.serving.put(1)  # the version does not exist, but the endpoint does
    yield running
    running.end()


def connect(to: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(to.url).port), timeout=DEADLINE)


def head(of: Server, path: str = "/api/2.0/serving-endpoints", *more: str) -> bytes:
    """The head of a POST with the token."""
    lines = [f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {token(of.settings.home)}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def rest(connection: socket.socket) -> bytes:
    """All that the server sends until it ends the connection."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            got += part
    return bytes(got)


def response(connection: socket.socket) -> bytes:
    """One response, which may come in parts."""
    got, length = b"", None
    while length is None or len(got.partition(b"\r\n\r\n")[2]) < int(length[1]):
        part = connection.recv(1 << 16)
        assert part, got
        got += part
        length = re.search(rb"(?i)content-length: (\d+)(?=.*\r\n\r\n)", got, re.DOTALL)
    return got


def rest_of_a_drip(connection: socket.socket, drop: bytes) -> bytes:
    """The same, for a client that goes on sending."""
    got, end = bytearray(), time.monotonic() + DEADLINE
    connection.settimeout(0.05)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            try:
                part = connection.recv(1 << 16)
            except TimeoutError:
                connection.sendall(drop)
                continue
            if not part:
                return bytes(got)
            got += part
        raise AssertionError("the server did not end the connection")
    return bytes(got)


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.settimeout(DEADLINE)


def alive(server: Server) -> bool:
    return bool(server.call("GET", "/health").status_code == 200)


def test_a_client_that_says_nothing_is_not_waited_for(bare: Server) -> None:
    with connect(bare) as silent:
        assert rest(silent) == b""


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        pytest.param(b"GET /", b"a", id="first line"),
        pytest.param(b"GET /health HTTP/1.1\r\n", b"X: y\r\n", id="headers"),
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(HEALTH, b"\r\n", id="empty lines after a request"),
        pytest.param(HEALTH + b"GET /", b"a", id="second head"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n", b"a", id="a body that was refused"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", id="chunks that were refused"),
    ],
)
def test_a_client_that_drips_is_ended(bare: Server, begin: bytes, drop: bytes) -> None:
    with connect(bare) as slow:
        began = time.monotonic()
        slow.sendall(begin)
        rest_of_a_drip(slow, drop)
    assert time.monotonic() - began >= PATIENCE / 2  # and not because of its first bytes
    assert alive(bare)


def test_a_body_that_drips_is_refused_and_ended(bare: Server) -> None:
    with connect(bare) as slow:
        slow.sendall(head(bare, INVOCATIONS, "Content-Type: application/json", "Content-Length: 1000000"))
        said = rest_of_a_drip(slow, b" ")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TIMEOUT" in said


def test_a_client_that_reads_no_response_is_ended(bare: Server) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", urlsplit(bare.url).port))
        deaf.settimeout(0.05)

        def refused() -> bool:
            try:
                deaf.sendall(b"GET /openapi.json HTTP/1.1\r\n\r\n" * 8)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return False

        until(refused, "the end of the connection")
    assert alive(bare)


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"GET /", id="path"),
        pytest.param(b"GET /health HTTP/1.1\r\nX", id="name"),
        pytest.param(b"GET /health HTTP/1.1\r\nX: ", id="value"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", id="trailer"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", id="extension of a chunk"),
    ],
)
def test_what_has_no_end_is_refused_before_it_takes_memory(bare: Server, begin: bytes) -> None:
    process = psutil.Process(bare.pid)
    before = process.memory_info().rss
    with connect(bare) as endless:
        with contextlib.suppress(ConnectionError):
            endless.sendall(begin)
            for _ in range(1_000):
                endless.sendall(b"a" * 100_000)
            raise AssertionError("the server took 100 MB")
        assert b"HTTP/1.1 400 " in rest(endless)
    assert alive(bare)
    assert process.memory_info().rss - before < 20 << 20


def test_a_head_of_100_kb_is_refused_also_when_it_has_an_end(bare: Server) -> None:
    with connect(bare) as large:
        large.sendall(HEALTH[:-2] + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1_000) for number in range(100)) + b"\r\n")
        said = rest(large)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.endswith(b"A head may have 32768 bytes.")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Content-Length: -1", id="negative"),
        pytest.param(b"Content-Length: 99999999999999999999999", id="huge"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 3", id="two"),
        pytest.param(b"Content-Length: 2\r\nTransfer-Encoding: chunked", id="two kinds"),
    ],
)
def test_a_length_that_cannot_be_true_is_refused(bare: Server, lines: bytes) -> None:
    with connect(bare) as lying:
        lying.sendall(b"POST /health HTTP/1.1\r\nHost: here\r\n" + lines + b"\r\n\r\n{}")
        assert rest(lying).startswith(b"HTTP/1.1 400 ")


def test_a_body_longer_than_its_length_is_not_a_second_request(bare: Server) -> None:
    with connect(bare) as lying:
        lying.sendall(head(bare, "/api/2.0/serving-endpoints", "Content-Length: 2") + b"{}{}{}{}")
        assert rest(lying).count(b"HTTP/1.1 ") <= 2
    assert alive(bare)


def test_an_upload_without_a_token_and_one_that_is_too_large_are_refused_before_their_bodies_come(bare: Server) -> None:
    size = "Content-Length: 10000000000"
    with connect(bare) as upload:
        upload.sendall(f"POST {INVOCATIONS} HTTP/1.1\r\nHost: here\r\n{size}\r\n\r\n".encode())
        assert rest(upload).startswith(b"HTTP/1.1 401 ")
    with connect(bare) as upload:
        upload.sendall(head(bare, INVOCATIONS, "Content-Type: application/json", size))
        assert rest(upload).startswith(b"HTTP/1.1 413 ")


def test_chunks_without_end_are_refused_when_they_are_too_many(bare: Server) -> None:
    chunk = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
    with connect(bare) as endless:
        endless.sendall(head(bare, "/api/2.0/serving-endpoints", "Transfer-Encoding: chunked") + chunk * 17)
        assert rest_of_a_drip(endless, chunk).startswith(b"HTTP/1.1 413 ")


def test_requests_that_do_not_wait_for_their_responses_are_answered_in_order_and_a_thousand_are_refused(bare: Server) -> None:
    process = psutil.Process(bare.pid)
    before = process.memory_info().rss
    with connect(bare) as some:
        some.sendall(HEALTH * 10 + b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", rest(some)) == [b"200"] * 10 + [b"401"]
    for _ in range(10):
        with connect(bare) as many:
            with contextlib.suppress(ConnectionError):
                many.sendall(HEALTH * 10_000)
            assert b"HTTP/1.1 400 " in rest(many)
    assert alive(bare)
    assert process.memory_info().rss - before < 20 << 20


def test_connections_that_ended_leave_no_files_open(bare: Server) -> None:
    process = psutil.Process(bare.pid)
    alive(bare)
    before = process.num_fds()
    with contextlib.ExitStack() as connections:
        for begin in (b"", HEALTH[:10], HEALTH, head(bare, INVOCATIONS, "Content-Type: application/json", "Content-Length: 9")) * 10:
            connections.enter_context(connect(bare)).sendall(begin)
        until(lambda: process.num_fds() > before, "open connections")
    until(lambda: process.num_fds() <= before, "the end of the connections")


def test_a_crowd_of_silent_clients_ends_no_request_and_hinders_nobody(ready: Server, photo: bytes) -> None:
    body = json.dumps(records(photo)).encode()
    most = ready.settings.serving.max_queue + AT_ONCE + SPARE
    with connect(ready) as slow, connect(ready) as idle, contextlib.ExitStack() as crowd:
        slow.sendall(head(ready, INVOCATIONS, "Content-Type: application/json", f"Content-Length: {len(body)}") + body[:100])
        idle.sendall(HEALTH)
        assert response(idle).startswith(b"HTTP/1.1 200 ")
        silent = [crowd.enter_context(connect(ready)) for _ in range(most + 20)]
        opened = time.monotonic()
        until(lambda: not any(map(is_open, silent[:20])), "the end of the first ones")
        assert alive(ready)
        # On a busy machine, the time that every silent client has may be over.
        assert is_open(silent[-1]) or time.monotonic() - opened > _PATIENCE
        idle.sendall(HEALTH)
        assert response(idle).startswith(b"HTTP/1.1 200 ")
        slow.sendall(body[100:])
        assert response(slow).startswith(b"HTTP/1.1 200 ")


def test_a_caller_who_hangs_up_in_the_middle_leaves_no_trace_in_the_servers_log(bare: Server) -> None:
    with connect(bare) as caller:
        caller.sendall(head(bare, "/api/2.0/serving-endpoints", "Content-Length: 100"))
        caller.shutdown(socket.SHUT_WR)
        assert rest(caller) == b"", "the server has hung up too"
    assert alive(bare)
    assert "Disconnect" not in bare.said
    assert "Traceback" not in bare.said
