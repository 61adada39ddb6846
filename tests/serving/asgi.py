"""One request to an ASGI application without a server: what it answers, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Header = tuple[bytes, bytes]


@dataclass
class Answer:
    status: int | None  # None: the application answered nothing
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    app: Any,
    method: str = "GET",
    path: str = "/",
    headers: Sequence[Header] = (),
    chunks: Sequence[bytes | None] = (b"",),
) -> Answer:
    """What ``app`` answers. ``chunks`` are the body as it arrives; a None at the end: the client goes away."""
    waiting = list(chunks)
    sent: list[dict] = []

    async def receive() -> dict:
        if not waiting:
            await asyncio.Event().wait()  # a server says nothing more until the client does
        chunk = waiting.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": "http",
        "headers": list(headers), "http_version": "1.1", "root_path": "", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    if not sent:
        return Answer(None, {}, b"")
    start = sent[0]
    headers_sent = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers_sent, b"".join(message.get("body", b"") for message in sent[1:]))


class Recorder:
    """An application that answers 200 with the body it was sent, and keeps the scopes of its requests."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
