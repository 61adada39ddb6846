"""The outermost middleware: an id for every request, its line in the log, its place in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdm.serving.logs import access, log_request
from xdm.serving.problems import problem, template_of
from xdm.serving.telemetry import Telemetry

REQUEST_ID = b"x-request-id"
VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
NO_ROUTE = "none"
GONE = 499  # the client went away before it had an answer: nginx' number for it

logger = logging.getLogger("xdm.serving")


@dataclass(slots=True)
class RequestRecord:
    """What is told of one request; those who answer it fill it in."""

    request_id: str
    key: str | None = None  # the key's name
    source: str | None = None  # where the answer came from
    fallback: str | None = None  # why it did not come from the model


def record_of(scope: Scope) -> RequestRecord:
    """The record of a request, made on the way where `Observe` has not."""
    record = scope.get("xdm")
    if record is None:
        record = scope["xdm"] = RequestRecord(uuid.uuid4().hex)
    return record


class Observe:
    """ASGI middleware that logs and counts each request once, whatever becomes of it.

    The route is what the router found (``scope["route"]``), so a path that nobody serves, and any id in a path, is in no
    log and makes no metric. An error that reaches this far is logged and answered with 500.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, clock: Callable[[], float] = time.perf_counter) -> None:
        self.app = app
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = scope["xdm"] = RequestRecord(_request_id(scope["headers"]))
        id_header = (REQUEST_ID, record.request_id.encode())
        started, status = self._clock(), GONE

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            await send(message)

        self._telemetry.request_started()
        try:
            await self.app(scope, receive, observed_send)
        except Exception as error:
            # Starlette answers with 500 (problems.py logs why) and raises once more for the server to see.
            if status == GONE:
                logger.error("a request failed outside of the application", exc_info=error)
                await problem(500, "the service failed on this request; its log says why")(
                    scope, receive, observed_send
                )
        finally:
            self._tell(scope, record, status, self._clock() - started)

    def _tell(self, scope: Scope, record: RequestRecord, status: int, seconds: float) -> None:
        route = template_of(scope) or NO_ROUTE
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._telemetry.request_ended(route, method, status, seconds, record.key)
        if access.isEnabledFor(logging.INFO):
            fields: dict[str, Any] = {
                "route": route,
                "method": method,
                "status": status,
                "ms": round(seconds * 1000, 3),
            }
            fields["request_id"] = record.request_id
            for name in ("key", "source", "fallback"):
                value = getattr(record, name)
                if value is not None:
                    fields[name] = value
            log_request(fields)


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's id for the request where it is a sound one, else a new one."""
    for name, value in headers:
        if name == REQUEST_ID and VALID_ID.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
