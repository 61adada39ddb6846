"""The door: who passes, who does not, and what is said to them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.asgi import Answer, Recorder, request
from xdm.serving.guard import Guard, needed_scope
from xdm.serving.keys import KeyRing, new_key, write_keys
from xdm.serving.rates import RateLimiter
from xdm.serving.telemetry import Telemetry

KEYS = {"reader": ["read"], "writer": ["write"], "boss": ["admin"], "both": ["read", "write"]}
NEEDED = {
    ("POST", "/v1/recommend"): "read",
    ("POST", "/v1/recommend/batch"): "read",
    ("POST", "/v1/similar"): "read",
    ("GET", "/v1/users/u1"): "read",
    ("GET", "/metrics"): "read",
    ("DELETE", "/v1/users/u1"): "write",
    ("POST", "/v1/events"): "write",
    ("POST", "/v1/items"): "admin",
    ("GET", "/v1/models"): "admin",
    ("POST", "/v1/models"): "admin",
    ("POST", "/v1/models/rollback"): "admin",
    # nothing of ours: closed
    ("GET", "/"): "admin",
    ("GET", "/v1/recommend"): "admin",
    ("PUT", "/v1/users/u1"): "admin",
    ("POST", "//v1/recommend"): "admin",
    ("POST", "/v1//recommend"): "admin",
    ("POST", "/V1/recommend"): "admin",
    ("POST", "/v2/recommend"): "admin",
    ("POST", "v1/recommend"): "admin",
    ("GET", "/metrics/"): "admin",
    ("GET", "/health/live/x"): "admin",
}


class Door:
    """A guard with its keys, its time and what stands behind it."""

    def __init__(self, folder=None, **options) -> None:
        self.now, self.behind, self.telemetry, self.keys = 0.0, Recorder(), Telemetry(), {}
        ring = None
        if folder:
            made = {name: new_key(name, scopes, options.pop(name, None)) for name, scopes in KEYS.items()}
            write_keys(folder / "keys.yaml", [kept for _, kept in made.values()])
            ring = KeyRing(folder / "keys.yaml")
            self.keys = {name: key for name, (key, _) in made.items()}
        limiter = RateLimiter(clock=lambda: self.now)
        self.guard = Guard(self.behind, self.telemetry, keys=ring, limiter=limiter, **options)

    def ask(
        self, method: str = "POST", path: str = "/v1/recommend", authorization: str | None = None, host="x"
    ) -> Answer:
        headers = [(b"host", host.encode())]
        if authorization is not None:
            headers.append((b"authorization", authorization.encode()))
        before = len(self.behind.scopes)
        answer = request(self.guard, method, path, headers)
        assert (len(self.behind.scopes) > before) == (
            answer.status == 200
        )  # what is refused never gets behind the door
        return answer

    def as_(self, name: str, method: str = "POST", path: str = "/v1/recommend") -> Answer:
        return self.ask(method, path, f"Bearer {self.keys[name]}")

    def refused(self) -> dict[str, float]:
        text = self.telemetry.render()[0].decode().splitlines()
        lines = [line for line in text if line.startswith("xdm_refused_total{")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Door:
    return Door(tmp_path_factory.mktemp("door"))


# --- with keys ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_a_key_does_what_its_scopes_say_and_nothing_else(door, name, method, path):
    answer = door.as_(name, method, path)
    needed = NEEDED[method, path]
    assert needed_scope(method, path) == needed
    if needed in KEYS[name]:
        assert answer.status == 200
        assert door.behind.scopes[-1]["xdm"].key == name
    else:
        assert answer.status == 403
        assert answer.headers["www-authenticate"] == f'Bearer realm="xdm", error="insufficient_scope", scope="{needed}"'
        assert f"the key '{name}' has no scope '{needed}'" in answer.json()["detail"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer{key}"])
def test_without_a_key_one_is_asked_for(door, authorization):
    text = None if authorization is None else authorization.format(key=door.keys["reader"])
    answer = door.ask(authorization=text)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="xdm"'
    assert answer.headers["content-type"] == "application/problem+json"


@given(st.text("abcXYZ_-.09 ", min_size=1, max_size=60).filter(str.strip))
def test_a_made_up_key_is_refused(door, text):
    answer = door.ask(authorization=f"bearer {text}")
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert text.strip() not in answer.json()["detail"] or len(text.strip()) < 9


def test_two_authorization_headers_are_none(door):
    headers = [(b"authorization", f"Bearer {door.keys[name]}".encode()) for name in ("reader", "boss")]
    assert request(door.guard, "POST", "/v1/recommend", headers).status == 401


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
def test_what_is_open_is_open(door, path):
    assert door.ask("GET", path).status == 200


def test_a_websocket_is_not_a_way_in(door):
    scope = {"type": "websocket", "path": "/v1/recommend", "headers": [], "method": "GET"}
    with pytest.raises(RuntimeError, match="only HTTP"):
        asyncio.run(door.guard(scope, None, None))


# --- rates ----------------------------------------------------------------------------------------------------------------
def test_a_key_may_ask_as_often_as_its_rate_says(tmp_path):
    door = Door(tmp_path, rate_limit="2/minute", both="3/second")
    assert [door.as_("reader").status for _ in range(3)] == [200, 200, 429]
    answer = door.as_("reader")
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    assert "2/minute" in answer.json()["detail"]
    assert [door.as_("both").status for _ in range(4)] == [200, 200, 200, 429]
    assert door.as_("writer", path="/v1/events").status == 200
    door.now += 30
    assert door.as_("reader").status == 200
    assert door.refused() == {"rate": 3}


def test_a_refused_request_costs_nothing_and_health_is_never_limited(tmp_path):
    door = Door(tmp_path, rate_limit="1/minute")
    assert [door.as_("reader", "POST", "/v1/events").status for _ in range(3)] == [403] * 3
    assert [door.ask("GET", "/health/live").status for _ in range(3)] == [200] * 3
    assert door.as_("reader").status == 200
    assert door.refused() == {"scope": 3}


@pytest.mark.parametrize(("workers", "passed"), [(1, 10), (2, 5), (3, 4), (64, 1)])
def test_each_worker_takes_its_share_of_the_rate(workers, passed):
    door = Door(rate_limit="10/minute", workers=workers)
    assert [door.ask(host="localhost").status for _ in range(12)].count(200) == passed


# --- without keys ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]", "[::1]:8000", "127.8.8.8:1"]
)
def test_without_keys_a_loopback_host_passes(host):
    assert Door().ask(host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "[::1].evil.example", "::1", "192.0.2.1",
     "0.0.0.0", "127.0.0.1:8000:9", "localhost:x", "127.0.0.1@evil.example", "[::1"],
)  # fmt: skip
def test_without_keys_another_host_does_not_pass(host):
    """A page whose name resolves to 127.0.0.1 sends its own name."""
    door = Door()
    answer = door.ask(host=host)
    assert answer.status == 403
    assert "Host header" in answer.json()["detail"]
    assert door.refused() == {"host": 1}


def test_two_host_headers_or_none_do_not_pass():
    door = Door()
    both = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert request(door.guard, "GET", "/v1/recommend", both).status == 403
    assert request(door.guard, "GET", "/v1/recommend", []).status == 403
