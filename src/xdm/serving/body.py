"""A limit on what is read of a request and on how long that may take, before anything is parsed."""

from __future__ import annotations

import asyncio
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdm.serving.problems import problem

MAX_BODY_BYTES = 1 << 20
READ_SECONDS = 10.0

CLOSE = {"Connection": "close"}  # what is left of the body is then dropped with the connection


class BodyLimit:
    """ASGI middleware: a body is JSON of at most ``limit`` bytes that is here within ``seconds``, whatever the method.

    The rest is refused without being read: 413 too large, 408 too slow, 415 no JSON. A client that goes away before its
    body is complete is not answered, and the application never hears of it.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES, seconds: float = READ_SECONDS) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        has_body = declared != b"0" or b"transfer-encoding" in headers
        if not has_body and scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        # A web page of another origin can POST text/plain (or nothing) to a local service without asking, but never JSON.
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            detail = "the body must be JSON; send it with the header Content-Type: application/json"
            await problem(415, detail, headers=CLOSE)(scope, receive, send)
            return
        body = await self._read(declared, receive)
        if body == "gone":
            return
        if body == "large":
            detail = f"the body is larger than {self.limit} bytes; send several smaller requests"
            await problem(413, detail, headers=CLOSE)(scope, receive, send)
        elif body == "slow":
            detail = f"the body was not complete within {self.seconds:g} s; send it again, at once or in smaller parts"
            await problem(408, detail, headers=CLOSE)(scope, receive, send)
        else:
            await self.app(scope, _replay(body, receive), send)

    async def _read(self, declared: bytes, receive: Receive) -> bytes | Literal["large", "slow", "gone"]:
        """The whole body, or why it was not read to its end."""
        if declared.isdigit() and int(declared[:20]) > self.limit:
            return "large"
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return "gone"
                    body += message.get("body", b"")
                    if len(body) > self.limit:
                        return "large"
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            return "slow"


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body at once, then what the server has to say."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
