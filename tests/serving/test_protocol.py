"""Raw bytes over a real socket: large heads, slow clients, too many connections, and requests that are none."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.asgi import Recorder
from xdm.serving import protocol
from xdm.serving.body import BodyLimit
from xdm.serving.protocol import MAX_HEAD_BYTES, BoundedConfig

TIMEOUT = 0.5
GOOD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "GRACE_SECONDS", 0.2)
        yield


@contextmanager
def serving(app, **limits) -> Iterator[int]:
    """A server in a thread; its port."""
    options = {"request_timeout_s": TIMEOUT, "max_connections": 20} | limits
    config = BoundedConfig(app, ws="none", lifespan="off", log_config=None, timeout_keep_alive=30, **options)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        while not server.started:
            time.sleep(0.01)
        yield port
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(BodyLimit(Recorder(), 1000, 0.3)) as port:
        yield port


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def assert_problem(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    document = json.loads(body)
    assert (document["status"], document["type"]) == (status, "about:blank")
    assert document["detail"]


def still_answers(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(GOOD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_and_in_one_piece_are_all_answered(port):
    with connected(port) as connection:
        for _ in range(3):
            connection.sendall(GOOD)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)  # three of them last longer than a request may
        connection.sendall(GOOD * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk


def test_a_head_that_never_ends_is_cut_off(port):
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 50 * MAX_HEAD_BYTES:
                connection.sendall(b"X-Filler: " + b"y" * 1000 + b"\r\n")
                sent += 1000
        except OSError:
            pass
        assert sent < 50 * MAX_HEAD_BYTES
    with connected(port) as connection:
        # One byte too many: were there more, the server might close before it has read them, and its answer be lost.
        connection.sendall(b"GET /".ljust(MAX_HEAD_BYTES + 1, b"a"))
        assert_problem(all_of(connection), 431)
    still_answers(port)


def test_a_head_that_trickles_is_given_up(port):
    with connected(port) as connection:
        started = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        answer = trickle(connection, b"X: y\r\n")
        assert 0.4 < time.monotonic() - started < 5
    assert_problem(answer, 408)
    still_answers(port)


def test_a_body_that_trickles_is_given_up_with_a_problem_document(port):
    with connected(port) as connection:
        connection.sendall(GOOD.replace(b"Length: 2", b"Length: 900"))
        assert_problem(trickle(connection, b" "), 408)
    still_answers(port)


def trickle(connection: socket.socket, drop: bytes) -> bytes:
    """Send a drop every 50 ms until the server has had enough."""
    connection.settimeout(0.05)
    received = b""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            connection.sendall(drop)
            chunk = connection.recv(65536)
            if not chunk:
                return received
            received += chunk
        except TimeoutError:
            continue
        except OSError:
            return received
    raise AssertionError("the server waits for ever")


@pytest.mark.parametrize(("first", "then"), [(b"", b""), (b"", b"\r\n"), (GOOD, b"\r\n")])
def test_a_connection_on_which_nothing_comes_ends(first, then):
    """Also where empty lines come, which HTTP allows between requests and which begin none."""
    with serving(Recorder()) as port, connected(port) as connection:
        if first:
            connection.sendall(first)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        trickle(connection, then)


def test_an_answer_that_nobody_takes_is_dropped():
    ended = threading.Event()

    async def patient(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(200):
                await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})
        finally:
            ended.set()

    with serving(patient) as port, connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(timeout=10)


def test_more_connections_than_allowed_are_turned_away():
    with serving(Recorder(), max_connections=3, request_timeout_s=5.0) as port:
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
        for connection in held:
            connection.sendall(GOOD)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with connected(port) as connection:
            assert_problem(all_of(connection), 503)
        held.pop().close()
        time.sleep(0.1)
        still_answers(port)
        for connection in held:
            connection.close()


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"GET\r\n\r\n",
        b"HELLO / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        POST + b"-1\r\n\r\n",
        POST + b"1\r\nContent-Length: 2\r\n\r\n",
        POST + b"1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_so(port, raw):
    with connected(port) as connection:
        connection.sendall(raw)
        assert_problem(all_of(connection), 400)
    still_answers(port)


@settings(max_examples=60, deadline=None)
@given(raw=st.one_of(st.binary(min_size=1, max_size=200), st.binary(max_size=60).map(lambda noise: GOOD[:-2] + noise)))
def test_no_bytes_whatever_stop_the_server(port, raw):
    with connected(port) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = all_of(connection)
        assert b" 500 " not in answer.split(b"\r\n")[0]
    still_answers(port)
