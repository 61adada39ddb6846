"""The limits that uvicorn's HTTP parser has not: on the size of a request's head, on slow clients, on connections."""

from __future__ import annotations

import asyncio
import json
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from xdm.serving.problems import MEDIA_TYPE

MAX_HEAD_BYTES = 32 * 1024
GRACE_SECONDS = 2.0  # `BodyLimit` answers a slow body first, with a problem document


class BoundedConfig(Config):
    """uvicorn's configuration with the limits of `BoundedProtocol`, which it also chooses."""

    def __init__(self, app: Any, *, request_timeout_s: float, max_connections: int, **others: Any) -> None:
        self.request_timeout_s = request_timeout_s
        self.max_connections = max_connections
        super().__init__(app, http=BoundedProtocol, **others)


class BoundedProtocol(HttpToolsProtocol):
    """One connection, which holds a bounded amount of memory for a bounded time.

    A request must be complete in ``request_timeout_s`` (plus `GRACE_SECONDS`) of the connection's opening or of its own first
    byte, an answer must be taken in the same time, and a head has at most about `MAX_HEAD_BYTES`: else the connection ends.
    One timer serves all of this; it is set only where a request does not come in one piece.
    """

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_s = config.request_timeout_s
        self.max_connections = config.max_connections
        self._in_head = True  # the head of the next request is not complete
        self._incomplete = True  # nor is the request as a whole
        self._head_bytes = 0
        self._timer: TimerHandle | None = None

    # --- the connection -----------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "too many connections are open; try again later, on fewer connections")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                431, f"the head of the request is larger than {MAX_HEAD_BYTES} bytes; send fewer or shorter headers"
            )
        elif not self._incomplete and not self.cycle.response_complete:
            self._stop_timer()  # it is the service's turn
        elif self._timer is None:
            self._start_timer()  # also for bytes that begin no request: uvicorn's own timer has stopped at them

    # --- the parser's callbacks ---------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._in_head = self._incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._incomplete = False
        super().on_message_complete()

    # --- an answer that is not taken ----------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_timer()

    # --- the timer ----------------------------------------------------------------------------------------------------
    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.timeout_s + GRACE_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._in_head and self._head_bytes:
            self._refuse(408, f"the head of the request was not complete within {self.timeout_s:g} s; send it at once")
        else:
            self.transport.abort()

    # --- refusals before there is a request ---------------------------------------------------------------------------
    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is no HTTP/1.1 request; see RFC 9112")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem document where nothing is being answered, and close the connection."""
        if self.cycle is None or self.cycle.response_complete:
            phrase = HTTPStatus(status).phrase
            document = {"type": "about:blank", "title": phrase, "status": status, "detail": detail, "errors": []}
            body = json.dumps(document)
            head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
        self.transport.close()
