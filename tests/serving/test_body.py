"""What is read of a request: how much, how long, and of what kind."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.asgi import Recorder, request
from xdm.serving.body import BodyLimit

JSON = (b"content-type", b"application/json")
METHODS = ["POST", "PUT", "PATCH", "DELETE", "GET", "QUERY"]


def send(chunks, *headers, method="POST", limit=20, seconds=5.0):
    behind = Recorder()
    answer = request(BodyLimit(behind, limit, seconds), method, "/v1/events", headers, chunks)
    assert bool(behind.scopes) == (answer.status == 200)
    return answer


@given(chunks=st.lists(st.binary(max_size=12), min_size=1, max_size=6), method=st.sampled_from(METHODS))
def test_a_body_passes_whole_or_is_refused_by_its_size(chunks, method):
    whole = b"".join(chunks)
    answer = send(chunks, JSON, (b"transfer-encoding", b"chunked"), method=method)
    assert (answer.status, answer.body == whole) == ((200, True) if len(whole) <= 20 else (413, False))


@pytest.mark.parametrize("method", METHODS)
def test_a_declared_size_is_enough_to_refuse(method):
    answer = send([None], JSON, (b"content-length", b"21"), method=method)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert "larger than 20 bytes" in answer.json()["detail"]
    assert send([None], JSON, (b"content-length", b"9" * 5000), method=method).status == 413


def test_a_body_that_is_longer_than_declared_is_refused():
    assert send([b"x" * 15, b"x" * 15], JSON, (b"content-length", b"5")).status == 413


@pytest.mark.parametrize("kind", [b"", b"text/plain", b"application/jsonp", b"application/x-www-form-urlencoded"])
@pytest.mark.parametrize(("method", "length"), [("POST", b"0"), ("POST", b"2"), ("DELETE", b"2"), ("GET", b"2")])
def test_only_json_is_read(kind, method, length):
    answer = send([b"{}"], (b"content-type", kind), (b"content-length", length), method=method)
    assert answer.status == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_json_is_json_with_its_parameters(kind):
    assert send([b"{}"], (b"content-type", kind), (b"content-length", b"2")).body == b"{}"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
def test_what_has_no_body_needs_no_type(method):
    assert send([b""], method=method).status == 200


def test_a_slow_body_is_given_up():
    class Trickle:
        """A client that sends a byte every 20 ms, for ever."""

        sent = 0

        async def receive(self):
            await asyncio.sleep(0.02)
            self.sent += 1
            return {"type": "http.request", "body": b" ", "more_body": True}

    trickle, messages = Trickle(), []

    async def run():
        async def keep(message):
            messages.append(message)

        scope = {"type": "http", "method": "POST", "headers": [JSON, (b"transfer-encoding", b"chunked")]}
        await BodyLimit(Recorder(), 1 << 20, 0.2)(scope, trickle.receive, keep)

    started = time.monotonic()
    asyncio.run(run())
    assert 0.15 < time.monotonic() - started < 3
    assert 0 < trickle.sent < 30
    assert messages[0]["status"] == 408
    assert (b"connection", b"close") in messages[0]["headers"]


def test_a_client_that_goes_away_is_not_answered():
    answer = send([b"{", None], JSON, (b"content-length", b"9"))
    assert answer.status is None
