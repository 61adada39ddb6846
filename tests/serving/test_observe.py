"""What is logged and counted of a request, and what never is."""

from __future__ import annotations

import io
import json
import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from tests.serving.asgi import request
from xdm.serving.logs import configure_logging
from xdm.serving.observe import Observe, record_of
from xdm.serving.telemetry import Telemetry

SECRETS = ("user-4711", "item-0815", "query-42", "agent-99")


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def stream(restored_logging) -> io.StringIO:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    return stream


def observed(telemetry: Telemetry) -> Observe:
    app = FastAPI()

    @app.get("/v1/users/{user_id}")
    def user(user_id: str, http: Request):
        record = record_of(http.scope)
        record.key, record.source, record.fallback = "shop", "popular", "deadline"
        return PlainTextResponse("fine")

    @app.post("/v1/broken/{item_id}")
    def broken(item_id: str):
        raise ValueError("a fault")

    return Observe(app, telemetry)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def metrics(telemetry: Telemetry) -> list[str]:
    return telemetry.render()[0].decode().splitlines()


def test_one_line_a_request_without_any_id(stream):
    telemetry = Telemetry()
    client = TestClient(observed(telemetry), raise_server_exceptions=False, headers={"User-Agent": SECRETS[3]})
    client.get(f"/v1/users/{SECRETS[0]}?q={SECRETS[2]}")
    client.get(f"/{SECRETS[1]}")
    client.request(SECRETS[0].upper(), f"/v1/users/{SECRETS[0]}")
    found = lines(stream)
    assert [(line["route"], line["method"], line["status"]) for line in found] == [
        ("/v1/users/{user_id}", "GET", 200), ("none", "GET", 404), ("/v1/users/{user_id}", "other", 405),
    ]  # fmt: skip
    assert {name: found[0][name] for name in ("level", "logger", "key", "source", "fallback")} == {
        "level": "INFO", "logger": "xdm.access", "key": "shop", "source": "popular", "fallback": "deadline",
    }  # fmt: skip
    assert 0 < found[0]["ms"] < 5000
    assert "T" in found[0]["time"]
    everything = stream.getvalue().lower() + "\n".join(metrics(telemetry)).lower()
    assert not [secret for secret in SECRETS if secret in everything]
    assert "testclient" not in everything  # the address


def test_metrics_count_routes_statuses_and_keys():
    telemetry = Telemetry()
    client = TestClient(observed(telemetry), raise_server_exceptions=False)
    for user in ("a", "b", "c"):
        client.get(f"/v1/users/{user}")
    client.post("/v1/broken/x")
    found = metrics(telemetry)
    assert 'xdm_http_requests_total{method="GET",route="/v1/users/{user_id}",status="200"} 3.0' in found
    assert 'xdm_http_requests_total{method="POST",route="/v1/broken/{item_id}",status="500"} 1.0' in found
    assert 'xdm_http_request_seconds_count{route="/v1/users/{user_id}"} 3.0' in found
    assert 'xdm_key_requests_total{key="shop"} 3.0' in found
    assert "xdm_http_requests_running 0.0" in found


@pytest.mark.parametrize("sent", ["abc-1.2_X", "a" * 64])
def test_a_request_keeps_its_id(stream, sent):
    answer = TestClient(observed(Telemetry())).get("/v1/users/u", headers={"X-Request-Id": sent})
    assert answer.headers["x-request-id"] == sent
    assert lines(stream)[0]["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 65, "a b", 'a"b', "é".encode().decode("latin-1"), "{}"])
def test_an_id_that_is_no_id_is_replaced(stream, sent):
    client = TestClient(observed(Telemetry()))
    first, second = (client.get("/v1/users/u", headers={"X-Request-Id": sent.encode("latin-1")}) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(first.headers["x-request-id"]) == 32
    assert [line["request_id"] for line in lines(stream)] == [
        answer.headers["x-request-id"] for answer in (first, second)
    ]


def test_a_fault_outside_of_the_application_is_answered_and_told(stream):
    async def broken(scope, receive, send):
        raise RuntimeError("a wire came off")

    telemetry = Telemetry()
    answer = request(Observe(broken, telemetry))
    assert (answer.status, answer.json()["title"]) == (500, "Internal Server Error")
    assert "wire" not in answer.body.decode()
    error, line = lines(stream)
    assert "a wire came off" in error["exc_info"]
    assert line["status"] == 500
    assert "xdm_http_requests_running 0.0" in metrics(telemetry)


def test_a_client_that_went_away_is_counted_as_499(stream):
    async def silent(scope, receive, send):
        return

    assert request(Observe(silent, Telemetry())).status is None
    assert lines(stream)[0]["status"] == 499


def test_text_has_the_same_fields_and_no_line_can_be_forged(restored_logging):
    stream = io.StringIO()
    configure_logging("text", stream=stream)
    TestClient(observed(Telemetry())).get("/v1/users/u")
    line = stream.getvalue()
    assert "INFO xdm.access: request route=/v1/users/{user_id} method=GET status=200 ms=" in line
    assert line.endswith("key=shop source=popular fallback=deadline\n")
    stream.truncate(0)
    configure_logging("json", stream=stream)
    logging.getLogger("xdm.serving").error("one\ntwo")
    assert len(stream.getvalue().splitlines()) == 1


def test_the_access_log_can_be_switched_off_and_others_debug_lines_are_off(restored_logging):
    stream = io.StringIO()
    configure_logging("json", access_log=False, stream=stream)
    TestClient(observed(Telemetry())).get("/v1/users/u")
    logging.getLogger("httpx").info("chatter")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert stream.getvalue() == ""
    logging.getLogger("xdm.serving").info("told")
    assert lines(stream)[0]["message"] == "told"
    configure_logging("json", stream=stream)
