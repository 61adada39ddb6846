"""Bytes that no client would send, to the whole service over a real socket: no fault, no hang, and it still answers."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import ITEMS, START
from tests.serving.test_end_to_end import served

SECONDS = 1  # a request must be here within; the server's protocol gives it two more
PATHS = ["recommend", "recommend/batch", "similar", "events", "items", "models", "models/rollback", "models/x/activate"]
EVENT = {"event_id": "e", "user_id": "u1", "item_id": ITEMS[0], "timestamp": START, "clicked": True}
GOOD = {
    "recommend": {"user_id": "u1", "k": 3, "events": [{"item_id": ITEMS[1], "timestamp": START, "clicked": False}]},
    "recommend/batch": {"questions": [{"user_id": "u1"}]},
    "similar": {"item_id": ITEMS[0], "only": ITEMS[:9]},
    "events": {"events": [EVENT]},
    "items": {"items": [{"item_id": "new", "similar_to": ITEMS[:2]}]},
    "models": {"name": "bundle"},
    "models/rollback": {},
    "models/x/activate": {},
}
LIMITS = (f"request_timeout_s={SECONDS}", "max_connections=50", "deadline_ms=5000")
asked = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def client(bundle, store, tmp_path_factory) -> Iterator[httpx.Client]:
    limits = [word for limit in LIMITS for word in ("--set", limit)]
    state = tmp_path_factory.mktemp("fuzz") / "s.sqlite"
    with served(bundle, "--history", store, "--state", state, "--durability", "normal", *limits) as (process, client):
        yield client
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""  # nothing that happened here was a fault


@pytest.fixture(autouse=True)
def answers_afterwards(client) -> Iterator[None]:
    yield
    answer = client.post("/v1/recommend", json=GOOD["recommend"])
    assert (answer.status_code, answer.json()["source"], len(answer.json()["items"])) == (200, "model", 3)


def spoken(client: httpx.Client, *pieces: bytes, pause: float = 0.0, patience: float = SECONDS + 4) -> list[int]:
    """The statuses that come back for ``pieces`` on one connection, which the server closes; or which ends after ``patience``
    seconds, if the server may rightly wait longer for the rest of a request."""
    url = urlsplit(str(client.base_url))
    received, closed, began = b"", False, time.monotonic()
    with socket.create_connection((url.hostname, url.port), timeout=patience) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while chunk := connection.recv(65536):
                received += chunk
            closed = True
        except TimeoutError:
            pass
        except OSError:  # it was closed before all was said
            closed = True
    assert closed or patience < SECONDS, f"it hangs for {time.monotonic() - began} s"
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]).encode("latin-1")


def refused(statuses: list[int]) -> bool:
    return all(400 <= status < 500 for status in statuses)


# --- bodies ---------------------------------------------------------------------------------------------------------
def posted(client: httpx.Client, path: str, body: bytes) -> httpx.Response:
    return client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("path", PATHS)
@asked
@given(body=st.binary(max_size=200))
@example(b"[" * 500_000)
@example(b'{"user_id":' * 90_000)
@example(b'{"user_id": "u", "k": ' + b"9" * 500_000 + b"}")
@example(b'{"user_id": 1e999999, "k": -0}')
@example(b'{"user_id": "\x00\\u0000\\ud800"}')
@example(b'{"user_id": "u", "user_id": 1, "k": NaN}')
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe{\x00}\x00")
@example(b"null")
@example(b'"' + b"\\u0000" * 100_000 + b'"')
@example(b"{" + b",".join(b'"%d": 1' % n for n in range(50_000)) + b"}")
def test_a_body_of_any_bytes_is_refused(client, path, body):
    answer = posted(client, path, body)
    if path in ("models/rollback", "models/x/activate") and body.strip() == b"{}":
        return
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", PATHS)
def test_good_bodies_with_bad_bytes(client, path):
    """A body that is right but for a cut, a changed byte or a doubled piece is refused, or answered where it still fits."""
    rng = random.Random(path)
    good = json.dumps(GOOD[path]).encode()
    for _ in range(150):
        place, other = rng.randrange(len(good)), rng.randrange(len(good))
        broken = rng.choice([
            good[:place], good[place:], good[:place] + bytes([rng.randrange(256)]) + good[place + 1 :],
            good[:place] + good[other:], good[:place] + rng.choice([b"9" * 400, b"-", b"null", b"[[[[", b"\x00"]) + good[place:],
        ])  # fmt: skip
        answer = posted(client, path, broken)
        assert answer.status_code < 500, (broken, answer.text)
        assert answer.json()


@pytest.mark.parametrize("name", [0, 1, 2**63 - 1, "0", "\x00", "a/b", "/\n//", " ", "%2F", "None", "\U0001f48e", "x" * 512])
def test_every_id_is_an_id_of_everything(client, name):
    seen = EVENT | {"event_id": name, "user_id": name, "session_id": name}
    sent = client.post("/v1/events", json={"events": [seen]})
    assert sent.json() in ({"accepted": a, "duplicates": 1 - a, "unknown_items": 0} for a in (0, 1))  # 0 and "0" name the same
    held = client.get(f"/v1/users/{quote(str(name), safe='')}").json()
    assert [event["session_id"] for event in held["events"]] in ([name], [0], ["0"])
    posted = client.post("/v1/items", json={"items": [{"item_id": name, "similar_to": ITEMS[:2]}]})
    assert (posted.status_code, posted.json()["not_recommended"]) == (200, [])
    answer = client.post("/v1/recommend", json={"user_id": name, "only": [name]}).json()
    assert [str(item["item_id"]) for item in answer["items"]] == [str(name)]
    assert client.post("/v1/similar", json={"item_id": name, "k": 1}).status_code == 200
    assert client.post("/v1/items", json={"items": [{"item_id": name, "withdrawn": True}]}).status_code == 200
    assert client.delete(f"/v1/users/{quote(str(name), safe='')}").json()["deleted"] == 1


def test_half_a_character_is_no_id(client):
    for path, body in GOOD.items():
        changed = json.dumps(body).replace('"u1"', r'"\ud800"').replace(f'"{ITEMS[0]}"', r'"\udc00"').replace('"bundle"', r'"\ud800"')
        if changed != json.dumps(body):
            assert posted(client, path, changed.encode()).status_code in (400, 422)


# --- heads and paths ------------------------------------------------------------------------------------------------
@asked
@given(path=st.binary(min_size=1, max_size=40), method=st.sampled_from(["GET", "DELETE", "POST", "HEAD", "BREW", ""]))
@example(b"%ff", "GET")
@example(b"%ff", "DELETE")
@example(b"%00", "GET")
@example(b"%00", "DELETE")
@example(b"%", "GET")
@example(b"%zz%2", "GET")
@example(b"%ed%a0%80", "DELETE")
@example(b"..%2f..%2fetc%2fpasswd", "GET")
@example(b"../../x", "GET")
@example(b"a" * 513, "GET")
@example(b"\xff\xfe", "GET")
@example(b"u1?" + b"q=1&" * 1000, "GET")
def test_paths_of_any_bytes(client, path, method):
    line = method.encode() + b" /v1/users/" + path.replace(b"\n", b"")
    statuses = spoken(client, line + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert len(statuses) == 1
    assert statuses[0] < 500


@asked
@given(pieces=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3))
@example([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])  # TLS
@example([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
@example([b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"])
@example([b"GET http://elsewhere/health/live HTTP/1.1\r\nHost: elsewhere\r\n\r\n"])
@example([b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
@example([b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n"])
@example([b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"])
def test_bytes_that_are_no_request(client, pieces):
    assert all(status < 500 for status in spoken(client, *pieces, patience=0.05))


def test_a_flood_of_headers_is_refused(client):
    many = head("GET", "/health/live", *(f"X-{number}: {'v' * 50}" for number in range(550)))
    assert refused(spoken(client, many)) or len(many) < 32 * 1024
    assert refused(spoken(client, head("GET", "/health/live", "X: " + "v" * 200_000)))
    assert spoken(client, head("GET", "/health/live", *(f"X-{n}: v" for n in range(500)))) == [200]


# --- time -----------------------------------------------------------------------------------------------------------
def test_slow_bodies_hold_nobody_up(client):
    """Thirty clients that send a byte and then nothing; meanwhile others are answered, and all of them are let go."""
    url = urlsplit(str(client.base_url))
    slow = [socket.create_connection((url.hostname, url.port), timeout=SECONDS + 5) for _ in range(30)]
    began = time.monotonic()
    try:
        for connection in slow:
            connection.sendall(head("POST", "/v1/events", "Content-Type: application/json", "Content-Length: 100") + b"{")
        while time.monotonic() < began + SECONDS / 2:
            assert client.get("/health/live").status_code == 200
            assert client.post("/v1/events", json={"events": [EVENT | {"event_id": None}]}).status_code == 200
        for connection in slow:
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    finally:
        for connection in slow:
            connection.close()
    assert time.monotonic() < began + SECONDS + 5


def test_a_body_that_drips_is_given_up(client):
    drips = [b" "] * 40
    lines = ("Content-Type: application/json", "Content-Length: 1000")
    assert spoken(client, head("POST", "/v1/recommend", *lines), *drips, pause=SECONDS / 20) in ([408], [])
